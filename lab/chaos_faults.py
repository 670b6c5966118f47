"""Carries out the faults of a chaos run, one after the other or, where planned, two at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from lab.chaos_plan import PARTS, Fault
from lab.errors import LabError, PartError

_WELL_SECONDS = 120.0
_POLL_SECONDS = 0.5
_WORDS = {"stop": "stopped", "hang": "hangs", "kill": "killed"}

Say = Callable[[str], None]


class Breakable(Protocol):
    """What a part or a process of the laboratory offers."""

    @property
    def pid(self) -> int:
        """Number of its process; raises PartError when it doesn't run."""

    def start(self) -> None:
        """Start it again."""

    def stop(self) -> None:
        """Shut it down in order."""

    def kill(self) -> None:
        """Kill it."""

    def pause(self) -> None:
        """Let it hang."""

    def resume(self) -> None:
        """Let it go on."""


@dataclass(frozen=True)
class Target:
    """A part of the laboratory, and how to tell that it works.

    :param is_well: whether it has worked since an instant.
    """

    part: Breakable
    is_well: Callable[[datetime], bool]


@dataclass(frozen=True, slots=True)
class Outage:
    """A fault that is over.

    :param began: when the part was stopped, hung or killed.
    :param well: when it worked again.
    """

    fault: Fault
    began: datetime
    well: datetime

    def __str__(self) -> str:
        """Return part, kind and times."""
        return f"{self.fault.part} {self.fault.kind} {self.began:%H:%M:%S}-{self.well:%H:%M:%S}"


class Chaos:
    """Carries out a plan.

    :param targets: by the names of `chaos_plan.PARTS`.
    :param say: told when a fault begins, when it ends, and when its part is well again.
    """

    def __init__(self, targets: Mapping[str, Target], *, say: Say) -> None:
        self._targets = targets
        self._say = say
        self._given_up = threading.Event()

    def carry_out(self, faults: Sequence[Fault]) -> list[Outage]:
        """Inflict all faults; return when every part is well again.

        A part that takes longer to come up than planned delays all that follows.

        :raises LabError: a part has ended by itself, or does not come up again.
        """
        start = time.monotonic()
        outages: list[Outage] = []
        running: list[Future[Outage]] = []
        late = 0.0
        with ThreadPoolExecutor(max_workers=len(PARTS)) as pool:
            try:
                for fault in faults:
                    if not fault.beside:
                        outages += [one.result() for one in running]
                        running = []
                        late = max(0.0, time.monotonic() - start - fault.at)
                    time.sleep(max(0.0, start + fault.at + late - time.monotonic()))
                    running.append(pool.submit(self._inflict, fault))
                return [*outages, *(one.result() for one in running)]
            except BaseException:
                self._given_up.set()
                raise

    def _inflict(self, fault: Fault) -> Outage:
        target = self._targets[fault.part]
        part = target.part
        # Raises, with the end of its log, when it has ended by itself.
        _ = part.pid
        began = datetime.now(UTC)
        self._say(f"{fault.part}: {_WORDS[fault.kind]}, for {fault.lasts:.0f} s")
        {"stop": part.stop, "hang": part.pause, "kill": part.kill}[fault.kind]()
        # Not from now on: a part that is asked to stop takes its time.
        elapsed = (datetime.now(UTC) - began).total_seconds()
        if self._given_up.wait(max(0.0, fault.lasts - elapsed)):
            raise LabError("The run was given up.")
        mended = datetime.now(UTC)
        self._say(f"{fault.part}: {'goes on' if fault.kind == 'hang' else 'is started'}")
        (part.resume if fault.kind == "hang" else part.start)()
        self._wait_until_well(fault.part, target, since=mended)
        well = datetime.now(UTC)
        self._say(f"{fault.part}: well again after {(well - began).total_seconds():.0f} s")
        return Outage(fault, began, well)

    def _wait_until_well(self, name: str, target: Target, *, since: datetime) -> None:
        deadline = time.monotonic() + _WELL_SECONDS
        while not self._is_well(target, since):
            _ = target.part.pid
            if time.monotonic() > deadline:
                raise PartError(name, f"not well within {_WELL_SECONDS:g} s")
            if self._given_up.wait(_POLL_SECONDS):
                raise LabError("The run was given up.")

    @staticmethod
    def _is_well(target: Target, since: datetime) -> bool:
        with suppress(LabError):
            return target.is_well(since)
        return False
