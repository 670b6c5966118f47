"""The chaos run's evidence: what has ended by itself until the very last is part of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lab import chaos
from tests.unit.lab.chaos_story import at


def test_a_client_that_ends_while_the_last_runs_do_is_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ran when the faults were over, so nothing else would tell."""
    monkeypatch.setattr(chaos, "_sleep_until", lambda _: None)
    records = SimpleNamespace(
        left_open=lambda *_: [],
        gaps=lambda *_: [],
        runs=lambda *_: [],
        hits=list,
        lost=lambda: ["lost"],
    )
    stage: Any = SimpleNamespace(
        records=records,
        reader=SimpleNamespace(readings=tuple),
        gone_clients=lambda: ["The independent client has ended by itself"],
    )
    evidence = chaos._evidence(stage, ["a"], at(0), at(2), [], lambda _: None)
    assert evidence.left_open == ["lost", "The independent client has ended by itself"]
    assert evidence.minutes == [at(0), at(1), at(2)]
