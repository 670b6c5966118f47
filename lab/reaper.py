"""Ends what a laboratory left behind; as a script, waits for its parent's death and does so then.

A killed Python process runs no clean-up of its own, so this one is started before any part and
holds the reading end of a pipe to it. It must not depend on anything but the standard library: it
is started by path, outside of every package.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ENV_VARIABLE = "LAG_LAB_ID"
"""Environment variable that every process of a laboratory carries; its value is the laboratory."""

# Short, because whatever they would save is removed with the laboratory's directory.
_GRACE_SECONDS = 3.0
_PARENT_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class ProcessKey:
    """One process for good: a number is used again, a number and its start time are not."""

    pid: int
    started: int
    """Start time in clock ticks since boot."""


@dataclass(frozen=True)
class _Entry:
    key: ProcessKey
    parent: int


def _entry(pid: int) -> _Entry | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold blanks and parentheses itself; what follows may not.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return _Entry(ProcessKey(pid, int(fields[19])), int(fields[1]))


def _table() -> dict[int, _Entry]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    entries = (_entry(pid) for pid in pids)
    return {entry.key.pid: entry for entry in entries if entry}


def _carries(pid: int, mark: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return mark in environment.split(b"\0")


def _with_descendants(roots: Iterable[int], table: dict[int, _Entry]) -> set[ProcessKey]:
    children: dict[int, list[int]] = {}
    for pid, entry in table.items():
        children.setdefault(entry.parent, []).append(pid)
    found: set[ProcessKey] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if table[pid].key not in found:
            found.add(table[pid].key)
            waiting += children.get(pid, [])
    return found


def descendants(pid: int) -> set[ProcessKey]:
    """Return the living process `pid` and every process below it."""
    return _with_descendants([pid], _table())


def members(lab_id: str, *, spare: Iterable[int] = ()) -> set[ProcessKey]:
    """Return every living process of a laboratory.

    Those are the processes that carry its id, and all below them: sshd, for one, overwrites its own
    environment, but the shell that started it does not.

    :param lab_id: the laboratory's id
    :param spare: process numbers that don't count; this process never does
    """
    table = _table()
    mark = f"{ENV_VARIABLE}={lab_id}".encode()
    spared = {os.getpid(), *spare}
    roots = [pid for pid in table if pid not in spared and _carries(pid, mark)]
    return {key for key in _with_descendants(roots, table) if key.pid not in spared}


def send(keys: Iterable[ProcessKey], *signals: signal.Signals) -> None:
    """Send signals to those of the processes that are still there."""
    for key in keys:
        entry = _entry(key.pid)
        if entry is None or entry.key != key:
            continue
        for number in signals:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(key.pid, number)


def _alive(keys: Iterable[ProcessKey]) -> set[ProcessKey]:
    entries = ((key, _entry(key.pid)) for key in keys)
    return {key for key, entry in entries if entry is not None and entry.key == key}


def end(keys: Iterable[ProcessKey], *, grace: float = _GRACE_SECONDS) -> None:
    """Terminate processes, and kill those that are still there after `grace` seconds."""
    left = set(keys)
    # Without the second signal a stopped process would keep the first one waiting for ever.
    send(left, signal.SIGTERM, signal.SIGCONT)
    deadline = time.monotonic() + grace
    while (left := _alive(left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(left)


def kill(keys: Iterable[ProcessKey]) -> None:
    """Kill processes and wait, two seconds at most, until they are gone."""
    left = set(keys)
    send(left, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while (left := _alive(left)) and time.monotonic() < deadline:
        time.sleep(0.02)


def end_laboratory(lab_id: str, *, grace: float = _GRACE_SECONDS) -> None:
    """End every process of a laboratory, also those that start while others end."""
    known: set[ProcessKey] = set()
    for _ in range(10):
        found = members(lab_id) | _alive(known)
        if not found:
            return
        known |= found
        end(found, grace=grace)


def _wait_for_parent(parent: int) -> None:
    # The pipe alone would not do: a child that the parent forked without an exec holds it open.
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], _PARENT_POLL_SECONDS)
        if ready and not os.read(sys.stdin.fileno(), 64):
            return


def main(lab_id: str, work: Path, parent: int) -> None:
    """Wait until the parent is gone, then remove its laboratory.

    :param lab_id: the laboratory's id
    :param work: the laboratory's directory, removed at the end
    :param parent: the process number of the process that holds the laboratory
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("ready", flush=True)
    _wait_for_parent(parent)
    end_laboratory(lab_id)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
