"""The faults of a chaos run are drawn up front, and fit into its time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.chaos_plan import COMING_UP, KINDS, PARTS, Fault, plan

SEEDS = st.integers(min_value=0, max_value=2**32)
MINUTES = st.integers(min_value=1, max_value=40)


def test_the_same_seed_brings_the_same_faults() -> None:
    """A run can be repeated, and another seed is another run."""
    assert plan(7, seconds=900) == plan(7, seconds=900)
    assert plan(7, seconds=900) != plan(8, seconds=900)


@given(SEEDS, MINUTES)
def test_faults_come_one_after_the_other_unless_they_are_meant_to_meet(
    seed: int, minutes: int
) -> None:
    """Who doesn't begin beside another one begins when all parts are well again."""
    well_at = 0.0
    for fault in plan(seed, seconds=60 * minutes):
        assert fault.beside == (fault.at < well_at)
        well_at = max(well_at, fault.over)


@given(SEEDS, st.integers(min_value=3, max_value=40))
def test_each_part_is_hit_before_any_is_hit_again(seed: int, minutes: int) -> None:
    """Three minutes suffice for all parts; those that come beside another one come on top."""
    in_order = [one.part for one in plan(seed, seconds=60 * minutes) if not one.beside]
    assert set(in_order[: len(PARTS)]) == set(PARTS)


@given(SEEDS)
def test_each_part_fails_in_all_ways_before_it_fails_in_one_again(seed: int) -> None:
    """A long run has all kinds for all parts."""
    kinds: dict[str, list[str]] = {part: [] for part in PARTS}
    for fault in plan(seed, seconds=3600):
        kinds[fault.part].append(fault.kind)
    for drawn in kinds.values():
        assert set(drawn[: len(KINDS)]) == set(KINDS)


@given(SEEDS, MINUTES)
def test_all_is_over_before_the_end(seed: int, minutes: int) -> None:
    """The last ten seconds are calm, and no fault is too short to be noticed."""
    faults = plan(seed, seconds=60 * minutes)
    assert faults
    for fault in faults:
        assert fault.over <= 60 * minutes - 10
        assert 8 <= fault.lasts <= 100


@given(SEEDS)
def test_two_at_once_are_some_and_never_mirrormaker_without_its_broker(seed: int) -> None:
    """MirrorMaker comes up only with its broker, so these two are never at fault together."""
    faults = plan(seed, seconds=3600)
    pairs = [{one.part, other.part} for one, other in pairwise(faults) if other.beside]
    assert pairs
    assert {"MirrorMaker", "broker"} not in pairs
    assert Counter(map(len, pairs)) == {2: len(pairs)}


@given(SEEDS)
def test_in_a_long_run_some_last_longer_than_a_minute(seed: int) -> None:
    """A run that is due in the middle of it misses its snapshot in spite of its retry."""
    assert max(one.lasts for one in plan(seed, seconds=3600)) >= 60
    assert max(one.lasts for one in plan(seed, seconds=180)) < 60


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_was_ended_needs_time_to_come_up(part: str) -> None:
    """One that hung goes on at once."""
    assert Fault(part, "hang", at=10, lasts=5).over == 15
    assert Fault(part, "kill", at=10, lasts=5).over == 15 + COMING_UP[part]
