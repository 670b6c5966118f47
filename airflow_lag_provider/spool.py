"""Where documents wait while Elasticsearch is away: a directory of this host, shared by processes.

Each process appends to files of its own, one for each connection, which it holds locked. A file
whose owner is gone may be taken over by any process of the host, to go on with it or to send what
is in it. Sending a document twice does no harm, since its id and version decide; so a file is
removed only when all of it has been sent, and whoever is killed on the way loses nothing.

Blocking: on an event loop it is called in threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from airflow_lag_provider.errors import SpoolFull
from airflow_lag_provider.spool_directory import SpoolDirectory
from airflow_lag_provider.spool_entry import Entry, Kind
from airflow_lag_provider.spool_file import SpoolFile, disown_all

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

_Letter = tuple[str, str, str, str | None]


class Spool(SpoolDirectory):
    """The spool in one directory, as one process uses it. Several threads may.

    :param directory: absolute path; made, with mode 0700, when it isn't there.
    :param max_bytes: limit of all its files together, but for the dead letters.
    :param clock: the time, seconds since 1970.
    """

    def __init__(
        self, directory: Path, *, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(directory, clock=clock)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._own: dict[tuple[str, Kind], SpoolFile] = {}
        self._letters: dict[_Letter, int] = {}
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

    def forget(self) -> None:
        """Drop what a forked process has of its parent's: the files stay the parent's."""
        self._lock = threading.Lock()
        self._own = {}
        # Also those that a flush of the parent held in the moment of the fork.
        disown_all()

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


def _letter(entry: Entry) -> _Letter:
    return entry.conn_id, entry.index, entry.id, entry.reason


@cache
def spool_at(directory: Path, max_bytes: int) -> Spool:
    """Return this process's spool in a directory, always the same one."""
    spool = Spool(directory, max_bytes=max_bytes)
    # A task is often a fork of a process that goes on, and the lock of a file would be both's.
    os.register_at_fork(after_in_child=spool.forget)
    return spool
