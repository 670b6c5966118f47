"""The spool's directory, which the processes of a host share: its files, by what their names say.

Besides documents it holds what the processes tell one another: which Elasticsearch did not answer
a moment ago, and how many documents found no room.

Blocking: on an event loop it is called in threads.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airflow_lag_provider.errors import SpoolUnusable
from airflow_lag_provider.spool_entry import FileName, Kind, connection_key
from airflow_lag_provider.spool_file import sync_directory

# How long nobody waits for a cluster that did not answer in time, seconds.
AWAY_SECONDS = 30.0
_DROPPED = "dropped.json"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Documents that the spool had no room for.

    :param first: when the first one was, ISO 8601; empty when there was none.
    :param last: when the last one was.
    """

    documents: int = 0
    first: str = ""
    last: str = ""


class SpoolDirectory:
    """A directory in which documents wait, and what this process noted of it.

    :param directory: absolute path.
    :param clock: the time, seconds since 1970.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._clock = clock
        self._marked: set[str] = set()

    def files(self, *, conn_id: str | None = None, kind: Kind | None = None) -> list[Path]:
        """Return its files, oldest first: those of a connection, of a kind, or all.

        :raises SpoolUnusable: the directory can't be read.
        """
        with self._usable():
            found = sorted(self._scan())
        key = None if conn_id is None else connection_key(conn_id)
        names = ((name, FileName.parse(name)) for name in found)
        return [
            self.directory / name
            for name, parsed in names
            if parsed and kind in (None, parsed.kind) and key in (None, parsed.connection)
        ]

    def used_bytes(self, kind: Kind = "waiting") -> int:
        """Return how many bytes the dead letters have together, or all other files.

        :raises SpoolUnusable: the directory can't be read.
        """
        refused = kind == "refused"
        with self._usable():
            sizes = self._scan()
        return sum(size for name, size in sizes.items() if _is_refused(name) == refused)

    def check(self) -> bool:
        """Return whether the directory is there.

        :raises SpoolUnusable: it is no directory of this user alone.
        """
        if not self.directory.is_absolute():
            raise SpoolUnusable(f"`[lag] spool_dir` {self.directory} is not an absolute path.")
        with self._usable():
            try:
                found = self.directory.stat()
            except FileNotFoundError:
                return False
        if not stat.S_ISDIR(found.st_mode):
            raise SpoolUnusable(f"`[lag] spool_dir` {self.directory} is not a directory.")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise SpoolUnusable(
                f"The spool {self.directory} belongs to user {found.st_uid} and has mode "
                f"{stat.S_IMODE(found.st_mode):04o}; this process is user {os.geteuid()}."
            )
        return True

    def prepare(self) -> None:
        """Make the directory, so that what is wrong with it is known before it is needed.

        :raises SpoolUnusable: nothing can wait there.
        """
        with self._usable():
            self._make_directory()
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise SpoolUnusable(f"The spool {self.directory} can't be written.")

    def may_try(self, conn_id: str) -> bool:
        """Return whether a document may be tried on Elasticsearch itself.

        For some seconds after a time-out it may not. Then one caller of this host may, and the
        others when that one has heard from Elasticsearch, or after as many seconds again.
        """
        mark = self._mark(conn_id)
        self._marked.discard(conn_id)
        with suppress(OSError):
            age = self._clock() - mark.stat().st_mtime
            self._marked.add(conn_id)
            # A clock that was set back must not make it last.
            if 0 <= age < AWAY_SECONDS:
                return False
            os.utime(mark, times=(self._clock(), self._clock()))
        return True

    def mark_away(self, conn_id: str) -> None:
        """Note that Elasticsearch did not answer in time; does nothing where that can't be."""
        mark = self._mark(conn_id)
        with suppress(OSError, SpoolUnusable):
            self._make_directory()
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._marked.add(conn_id)
            os.utime(mark, times=(self._clock(), self._clock()))

    def mark_back(self, conn_id: str) -> None:
        """Note that Elasticsearch has answered."""
        with suppress(OSError):
            self._mark(conn_id).unlink(missing_ok=True)
            self._marked.discard(conn_id)

    def is_marked(self, conn_id: str) -> bool:
        """Return whether this process noted, or saw it noted last, that one did not answer.

        It doesn't block.
        """
        return conn_id in self._marked

    def dropped(self) -> Dropped:
        """Return how many documents found no room so far."""
        with suppress(OSError, ValueError, TypeError):
            return Dropped(**json.loads((self.directory / _DROPPED).read_bytes()))
        return Dropped()

    def count_dropped(self, documents: int) -> Dropped:
        """Count documents that found no room; return how many they are now.

        :raises SpoolUnusable: they can't be counted.
        """
        with self._usable():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self.directory / _DROPPED, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                before, now = self.dropped(), datetime.now(UTC).isoformat(timespec="seconds")
                after = Dropped(before.documents + documents, before.first or now, now)
                fields = {name: getattr(after, name) for name in after.__slots__}
                # In the place of the old text, so that a full disk doesn't matter.
                os.pwrite(fd, f"{json.dumps(fields):<150}\n".encode(), 0)
            finally:
                os.close(fd)
        return after

    def _scan(self) -> dict[str, int]:
        """Return the sizes of all files in the directory, by name."""
        sizes = {}
        with suppress(FileNotFoundError), os.scandir(self.directory) as found:
            for one in found:
                # Another process may just have renamed or removed it.
                with suppress(FileNotFoundError):
                    sizes[one.name] = one.stat(follow_symlinks=False).st_size
        return sizes

    def _mark(self, conn_id: str) -> Path:
        return self.directory / f"{connection_key(conn_id)}.away"

    def _make_directory(self) -> None:
        if not self.check():
            missing = [one for one in (self.directory, *self.directory.parents) if not one.exists()]
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            self.check()
            for one in missing:
                # Who may make something in a directory need not be allowed to read it.
                with suppress(PermissionError):
                    sync_directory(one.parent)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Raise what the operating system refuses as an error of this package."""
        try:
            yield
        except OSError as error:
            raise SpoolUnusable(f"The spool {self.directory} can't be used: {error}.") from error


def _is_refused(name: str) -> bool:
    parsed = FileName.parse(name)
    return parsed is not None and parsed.kind == "refused"
