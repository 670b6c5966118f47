"""The command line of the laboratory."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import lab.chaos
from lab.__main__ import main
from lab.errors import PartError


class _Verdict:
    def __init__(self, passed: bool) -> None:
        self.passed = passed

    def lines(self) -> list[str]:
        return ["what was seen"]


def chaos(monkeypatch: pytest.MonkeyPatch, outcome: Any, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command with a made-up run; return its exit code and what the run was told."""
    told: dict[str, Any] = {}

    def run(**arguments: Any) -> Any:
        told.update(arguments)
        if isinstance(outcome, Exception):
            raise outcome
        return _Verdict(outcome)

    monkeypatch.setattr(lab.chaos, "run", run)
    monkeypatch.setattr(sys, "argv", ["lab", "chaos", *words])
    return main(), told


def test_chaos_takes_fifteen_minutes_and_a_seed_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to name one, and each time it is another."""
    seeds = set()
    for _ in range(3):
        code, told = chaos(monkeypatch, True)
        assert code == 0
        assert (told["minutes"], told["topics"], told["logs"]) == (15, 30, lab.chaos.LOGS)
        seeds.add(told["seed"])
        output = capsys.readouterr().out
        assert "what was seen" in output
        assert f"seed {told['seed']}: passed" in output
    assert len(seeds) > 1


def test_chaos_with_findings_ends_with_1_and_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seed stands in the last line, to repeat it."""
    code, told = chaos(monkeypatch, False, "--seed", "0", "--minutes", "3", "--topics", "4")
    assert (code, told["seed"], told["minutes"], told["topics"]) == (1, 0, 3, 4)
    assert capsys.readouterr().out.splitlines()[-1].startswith("seed 0: FAILED")


def test_chaos_with_a_part_that_is_gone_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the part."""
    code, _ = chaos(monkeypatch, PartError("broker", "has ended by itself"))
    assert code == 1
    assert "broker: has ended by itself" in capsys.readouterr().err
