"""One file of the spool, and the lock that says whether somebody owns it.

The lock (``flock``) is the kernel's: it ends with the process, however that ends. The file's name
tells people who the owner is; who may touch the file is decided by the lock alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import sleep
from weakref import WeakSet

from airflow_lag_provider.spool_entry import Entry, FileName, Kind

log = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE = 0o600
# Whoever asks whether a file is owned holds its lock for a moment; so it is tried again.
_TRIES = 4
_PAUSE_SECONDS = 0.002
_open: WeakSet[SpoolFile] = WeakSet()


class SpoolFile:
    """A file whose lock this process holds, until it is closed. Blocking; for any thread.

    :param path: where it is.
    :param fd: its open descriptor, which it closes.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._lock = threading.RLock()
        _open.add(self)

    def __del__(self) -> None:
        # A thread may have taken it over for somebody who was cancelled meanwhile.
        self.close()

    @classmethod
    def create(cls, directory: Path, *, conn_id: str, kind: Kind) -> SpoolFile:
        """Make a file and lock it.

        :raises OSError: it can't be made.
        """
        while True:
            path = directory / str(FileName.new(conn_id, kind))
            file = cls(path, os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE))
            try:
                if _locked(file._fd, path):
                    sync_directory(directory)
                    return file
            except BaseException:
                file.close()
                raise
            # Somebody took it over before it was locked, and found it empty.
            file.close()

    @classmethod
    def take(cls, path: Path) -> SpoolFile | None:
        """Take over a file whose owner is gone; return ``None`` when it has one, or is gone too.

        A line that is no entry, as an owner leaves that was killed while it wrote, is put aside
        into a file of the same name with ``.torn`` behind it.

        :raises OSError: it can't be opened or mended.
        """
        name = FileName.parse(path.name)
        try:
            fd = os.open(path, _FLAGS)
        except FileNotFoundError:
            return None
        file = cls(path, fd)
        try:
            if name is None or not _locked(fd, path):
                file.close()
                return None
            mine = path.with_name(str(name.taken_over()))
            os.rename(path, mine)
            file.path = mine
            # What an owner left that was killed while it wrote the file anew.
            file._unfinished.unlink(missing_ok=True)
            file._put_torn_aside()
        except BaseException:
            file.close()
            raise
        return file

    @property
    def size(self) -> int:
        """Bytes in it."""
        return os.fstat(self._fd).st_size

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries; when it returns they are on the disk.

        :raises OSError: none of them was added.
        """
        content = b"".join(one.to_line() for one in entries)
        with self._lock:
            before = self.size
            try:
                _write(self._fd, content)
                os.fsync(self._fd)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, before)
                raise

    def entries(self) -> tuple[Entry, ...]:
        """Return what is in it, in the order in which it came.

        :raises OSError: it can't be read.
        """
        return tuple(Entry.from_line(line) for line in self._lines())

    def keep(self, entries: tuple[Entry, ...]) -> None:
        """Keep these entries alone; with none of them the file is removed.

        :raises OSError: it can't be written anew, or was closed; it is as it was, unless the disk
            fails in the last moment.
        """
        with self._lock:
            os.fstat(self._fd)
            if entries:
                self._rewrite(b"".join(one.to_line() for one in entries))
            else:
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the file up; from now on anybody may take it over. May be called again."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def disown(self) -> None:
        """Close it in a forked process; the lock stays the parent's."""
        # Another thread of the parent may have held it in the moment of the fork.
        self._lock = threading.RLock()
        self.close()

    @property
    def _unfinished(self) -> Path:
        name = FileName.parse(self.path.name)
        return self.path.with_name(f"{name.token if name else self.path.name}.new")

    def _lines(self) -> list[bytes]:
        with self._lock:
            return _read(self._fd).splitlines(keepends=True)

    def _put_torn_aside(self) -> None:
        whole, torn = [], []
        for line in self._lines():
            try:
                Entry.from_line(line)
            except ValueError:
                torn.append(line if line.endswith(b"\n") else line + b"\n")
            else:
                whole.append(line)
        if not torn:
            return
        aside = self.path.with_name(f"{self.path.name}.torn")
        fd = os.open(aside, _FLAGS | os.O_CREAT, _MODE)
        try:
            _write(fd, b"".join(torn))
            os.fsync(fd)
        finally:
            os.close(fd)
        log.warning(
            "Lines of %s that are no documents: %d. They are kept in %s. Whoever wrote them was "
            "ended meanwhile, so the run that they belong to did not count as stored.",
            *(self.path, len(torn), aside.name),
        )
        self._rewrite(b"".join(whole))

    def _rewrite(self, content: bytes) -> None:
        """Put a file with other content, and locked, in the place of this one, all at once."""
        new = self._unfinished
        fresh = SpoolFile(new, os.open(new, _FLAGS | os.O_CREAT | os.O_TRUNC, _MODE))
        try:
            fcntl.flock(fresh._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fresh._fd, content)
            os.fsync(fresh._fd)
            os.rename(new, self.path)
        except BaseException:
            fresh.close()
            new.unlink(missing_ok=True)
            raise
        self._fd, fresh._fd = fresh._fd, self._fd
        fresh.close()
        sync_directory(self.path.parent)


def disown_all() -> None:
    """Close all files of a forked process that its parent had open; they stay the parent's."""
    for file in list(_open):
        file.disown()


def is_owned(path: Path) -> bool:
    """Return whether a living process holds the lock of a file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _locked(fd: int, path: Path) -> bool:
    """Lock an open file; return whether that went well and the path still leads to it."""
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(fd), os.stat(path))
        except FileNotFoundError:
            return False
        except BlockingIOError:
            if tries_left:
                sleep(_PAUSE_SECONDS)
    return False


def _read(fd: int) -> bytes:
    parts, offset = [], 0
    while part := os.pread(fd, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(directory: Path) -> None:
    """Return when the names in a directory are on the disk.

    :raises OSError: it can't be read, or the disk fails.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
