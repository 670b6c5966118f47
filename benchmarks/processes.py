"""CPU time and memory of process trees, from the kernel's own accounting."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """Return the processes and all below them that are there now."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.Error):
            head = psutil.Process(pid)
            for one in [head, *head.children(recursive=True)]:
                found[one.pid] = one
    return list(found.values())


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of the trees so far, ended children that were waited for included."""
    total = 0.0
    for one in tree(pids):
        with suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of the trees, in MB: shared pages count once."""
    total = 0
    for one in tree(pids):
        with suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total / 1e6
