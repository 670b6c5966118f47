"""Faults are carried out in order, and a part that doesn't come up again is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lab import chaos_faults
from lab.chaos_faults import Chaos, Outage, Target
from lab.chaos_plan import Fault
from lab.errors import LabError, PartError


class Part:
    """Writes down what is done to it."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name = name
        self.done = done
        self.running = True

    @property
    def pid(self) -> int:
        if not self.running:
            raise PartError(self.name, "is not running")
        return 1

    def start(self) -> None:
        self._do("start", running=True)

    def stop(self) -> None:
        self._do("stop", running=False)

    def kill(self) -> None:
        self._do("kill", running=False)

    def pause(self) -> None:
        self._do("pause", running=True)

    def resume(self) -> None:
        self._do("resume", running=True)

    def _do(self, word: str, *, running: bool) -> None:
        self.done.append(f"{self.name} {word}")
        self.running = running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_faults, "_POLL_SECONDS", 0.01)


def carried_out(*faults: Fault, done: list[str], **targets: Target) -> list[Outage]:
    chosen = {
        name: Target(Part(name, done), lambda _: True) for name in ("sshd", "broker", "triggerer")
    }
    return Chaos(chosen | targets, say=lambda _: None).carry_out(faults)


def test_each_kind_of_fault_has_its_beginning_and_its_end() -> None:
    """What was stopped or killed is started, what hung goes on; one after the other."""
    done: list[str] = []
    faults = [
        Fault("sshd", "stop", 0, 0.01),
        Fault("broker", "hang", 0, 0.01),
        Fault("triggerer", "kill", 0, 0.01),
    ]
    outages = carried_out(*faults, done=done)
    assert done == [
        *("sshd stop", "sshd start", "broker pause", "broker resume"),
        *("triggerer kill", "triggerer start"),
    ]
    assert [one.fault for one in outages] == faults
    assert all(one.began <= one.well for one in outages)


def test_a_fault_beside_another_one_does_not_wait_for_it() -> None:
    """They meet, and the third waits for both."""
    done: list[str] = []
    carried_out(
        Fault("sshd", "stop", 0, 0.4),
        Fault("broker", "hang", 0.1, 0.4, beside=True),
        Fault("triggerer", "kill", 0.2, 0),
        done=done,
    )
    assert done[:2] == ["sshd stop", "broker pause"]
    assert sorted(done[2:4]) == ["broker resume", "sshd start"]
    assert done[4:] == ["triggerer kill", "triggerer start"]


def test_a_fault_is_over_when_its_part_works_again() -> None:
    """It is asked until then, whatever it answers meanwhile."""
    answers = iter([LabError("no answer"), False, True])

    def is_well(_: datetime) -> bool:
        answer = next(answers)
        if isinstance(answer, LabError):
            raise answer
        return answer

    done: list[str] = []
    target = Target(Part("broker", done), is_well)
    (outage,) = carried_out(Fault("broker", "kill", 0, 0), done=done, broker=target)
    assert next(answers, None) is None
    assert outage.began <= outage.well <= datetime.now(UTC)


def test_a_part_that_has_ended_by_itself_ends_the_run() -> None:
    """Nobody may take it for one that was hit."""
    part = Part("broker", [])
    part.running = False
    with pytest.raises(PartError, match="broker: is not running"):
        carried_out(Fault("broker", "kill", 0, 0), done=[], broker=Target(part, lambda _: True))


def test_a_part_that_does_not_come_up_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, with its name; a fault beside it is given up."""
    monkeypatch.setattr(chaos_faults, "_WELL_SECONDS", 0.05)
    done: list[str] = []
    target = Target(Part("broker", done), lambda _: False)
    with pytest.raises(PartError, match=r"broker: not well within 0\.05 s"):
        carried_out(
            Fault("broker", "kill", 0, 0),
            Fault("sshd", "stop", 0, 600, beside=True),
            done=done,
            broker=target,
        )
    assert "sshd start" not in done


def test_a_part_that_ends_while_it_comes_up_ends_the_run() -> None:
    """Its end is told at once."""
    part = Part("broker", [])

    def is_well(_: datetime) -> bool:
        part.running = False
        return False

    with pytest.raises(PartError, match="broker: is not running"):
        carried_out(Fault("broker", "kill", 0, 0), done=[], broker=Target(part, is_well))
