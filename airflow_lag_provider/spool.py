"""Where documents wait while Elasticsearch is away: a directory of this host, shared by processes.

Each process appends to files of its own, one for each connection, which it holds locked. A file
whose owner is gone may be taken over by any process of the host, to go on with it or to send what
is in it. Sending a document twice does no harm, since its id and version decide; so a file is
removed only when all of it has been sent, and whoever is killed on the way loses nothing.

Blocking: on an event loop it is called in threads.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from airflow_lag_provider.errors import SpoolFull, SpoolUnusable
from airflow_lag_provider.spool_entry import Entry, FileName, Kind, connection_key
from airflow_lag_provider.spool_file import SpoolFile, sync_directory

DEFAULT_MAX_BYTES = 1 << 30
# A file that is larger gets no more documents. It is read as a whole, and sent as a whole before
# it is removed.
FILE_BYTES = 1 << 20
# The dead letters have this share of the limit besides, at least so many bytes: a mapping that
# fits no document must not fill the room of those that wait.
_REFUSED_SHARE = 8
_REFUSED_BYTES = 1 << 20
# Of so many dead letters this process remembers that it kept them.
_MOST_LETTERS = 1000
# How long nobody waits for a cluster that did not answer in time, seconds.
AWAY_SECONDS = 30.0
_DROPPED = "dropped.json"

_Letter = tuple[str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Documents that the spool had no room for.

    :param first: when the first one was, ISO 8601; empty when there was none.
    :param last: when the last one was.
    """

    documents: int = 0
    first: str = ""
    last: str = ""


class Spool:
    """The spool in one directory, as one process uses it. Several threads may.

    :param directory: absolute path; made, with mode 0700, when it isn't there.
    :param max_bytes: limit of all its files together, but for the dead letters.
    :param clock: the time, seconds since 1970.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._own: dict[tuple[str, Kind], SpoolFile] = {}
        self._letters: dict[_Letter, int] = {}
        self._marked: set[str] = set()
        # Whether somebody has looked, while nothing was wrong, if documents could wait here.
        self.looked_at = False

    def append(self, entries: Sequence[Entry], *, kind: Kind = "waiting") -> int:
        """Add entries; when it returns they are on the disk.

        A dead letter that this process kept already, for the same reason, is not added again.

        :return: bytes that all files of this kind hold now.
        :raises SpoolFull: none was added, for lack of room below the limit of their kind.
        :raises SpoolUnusable: none was added, for lack of disk or rights.
        """
        with self._lock, self._usable():
            self._make_directory()
            if kind == "refused":
                entries = [one for one in entries if not self._is_kept(one)]
            size = sum(len(one.to_line()) for one in entries)
            used, limit = self.used_bytes(kind), self.limit(kind)
            if size and used + size > limit:
                raise SpoolFull(
                    f"The spool {self.directory} holds {used} bytes of {kind} documents; with "
                    f"{size} more it would exceed its limit of {limit}."
                )
            self._append(entries, kind)
            if kind == "refused":
                self._remember(entries)
        return used + size

    def limit(self, kind: Kind) -> int:
        """Return how many bytes the files of a kind may have together."""
        if kind == "waiting":
            return self.max_bytes
        return max(self.max_bytes // _REFUSED_SHARE, _REFUSED_BYTES)

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

    def take(self, path: Path) -> SpoolFile | None:
        """Take over a file; ``None`` when somebody else owns it, or it is gone.

        :raises SpoolUnusable: it can't be opened or mended.
        """
        with self._usable():
            return SpoolFile.take(path)

    def release(self, *, conn_id: str | None = None) -> None:
        """Give up this process's own files, of a connection or all, so that they can be taken."""
        with self._lock:
            for key in [key for key in self._own if conn_id in (None, key[0])]:
                self._own.pop(key).close()

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

    def used_bytes(self, kind: Kind = "waiting") -> int:
        """Return how many bytes the dead letters have together, or all other files.

        :raises SpoolUnusable: the directory can't be read.
        """
        refused = kind == "refused"
        with self._usable():
            sizes = self._scan()
        return sum(size for name, size in sizes.items() if _is_refused(name) == refused)

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

    def forget(self) -> None:
        """Drop what a forked process has of its parent's: the files stay the parent's."""
        self._lock = threading.Lock()
        own, self._own = self._own, {}
        for file in own.values():
            file.disown()

    def _append(self, entries: Sequence[Entry], kind: Kind) -> None:
        for conn_id in dict.fromkeys(one.conn_id for one in entries):
            file = self._own_file(conn_id, kind)
            # After a failure there may be half a line in it, which whoever takes it puts aside.
            done_with = True
            try:
                file.append(one for one in entries if one.conn_id == conn_id)
                # Nobody sends dead letters by himself, so nobody may hold them either.
                done_with = file.size > FILE_BYTES or kind == "refused"
            finally:
                if done_with:
                    self._own.pop((conn_id, kind)).close()

    def _is_kept(self, entry: Entry) -> bool:
        """Return whether this process kept a dead letter, or a better one of its run."""
        return self._letters.get(_letter(entry), entry.version - 1) >= entry.version

    def _remember(self, letters: Sequence[Entry]) -> None:
        for one in letters:
            self._letters[_letter(one)] = one.version
        while len(self._letters) > _MOST_LETTERS:
            del self._letters[next(iter(self._letters))]

    def _own_file(self, conn_id: str, kind: Kind) -> SpoolFile:
        """Return the file that this process appends to: its own, an abandoned one, or a new one."""
        own = self._own.get((conn_id, kind))
        if own is None:
            own = self._abandoned(conn_id, kind) or SpoolFile.create(
                self.directory, conn_id=conn_id, kind=kind
            )
            self._own[conn_id, kind] = own
        return own

    def _abandoned(self, conn_id: str, kind: Kind) -> SpoolFile | None:
        """Take over a file that has room, so that short-lived processes don't leave one each."""
        for path in reversed(self.files(conn_id=conn_id, kind=kind)):
            with suppress(OSError):
                if path.stat().st_size < FILE_BYTES and (file := SpoolFile.take(path)):
                    return file
        return None

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


def _letter(entry: Entry) -> _Letter:
    return entry.conn_id, entry.index, entry.id, entry.reason


def _is_refused(name: str) -> bool:
    parsed = FileName.parse(name)
    return parsed is not None and parsed.kind == "refused"


@cache
def spool_at(directory: Path, max_bytes: int) -> Spool:
    """Return this process's spool in a directory, always the same one."""
    spool = Spool(directory, max_bytes=max_bytes)
    # A task is often a fork of a process that goes on, and the lock of a file would be both's.
    os.register_at_fork(after_in_child=spool.forget)
    return spool
