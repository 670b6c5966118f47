"""CPU time and memory of process trees, from the kernel's own accounting."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

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


def own_seconds(pid: int) -> float:
    """Return the CPU time of one process without its children, exact to microseconds.

    The clock ticks that `cpu_seconds` adds up are 10 ms long, as long as what some programs need in
    a minute.
    """
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(pid)
    return time.clock_gettime(clock.value)


def own_peak_mb(pid: int) -> float:
    """Return the largest resident set that one process has had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)


class Watch:
    """What a process tree costs from entering to leaving; a context manager.

    CPU time comes from the kernel. JVMs are looked for several times a second, which none outruns;
    memory as often as that is cheap.

    :param pid: the head of the tree; it lives on.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._java: set[tuple[int, float]] = set()
        self._running = 0
        self._began = self._before = 0.0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_mb = 0.0

    def __enter__(self) -> Self:
        """Begin; JVMs that run already don't count."""
        self._java = self._jvms()
        self._running = len(self._java)
        self._before = self._cpu()
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; the figures stay."""
        self.cpu_seconds = self._cpu() - self._before
        self.seconds = time.monotonic() - self._began
        self._left.set()
        self._thread.join()

    @property
    def jvms(self) -> int:
        """How many JVMs were started."""
        return len(self._java) - self._running

    def _cpu(self) -> float:
        # What ends between the look at its parent and the look at it is missing from one look.
        return max(cpu_seconds([self._pid]) for _ in range(3))

    def _look_on(self) -> None:
        # Each kind of look takes at most a tenth of a core. Its wall time says little of that on a
        # machine that is full, where a JVM must not be missed.
        wait, memory_due = 0.0, 0.0
        while not self._left.wait(wait):
            cost = time.thread_time()
            self._java |= self._jvms()
            wait = max(0.1, 10 * (time.thread_time() - cost))
            if time.monotonic() >= memory_due:
                cost = time.thread_time()
                self.peak_mb = max(self.peak_mb, memory_mb([self._pid]))
                memory_due = time.monotonic() + 10 * (time.thread_time() - cost)
        self._java |= self._jvms()

    def _jvms(self) -> set[tuple[int, float]]:
        found = set()
        for one in tree([self._pid]):
            with suppress(psutil.Error):
                if one.name() == "java":
                    found.add((one.pid, one.create_time()))
        return found
