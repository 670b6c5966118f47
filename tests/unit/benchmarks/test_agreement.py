"""Which lags the comparison of programs takes for right."""

from __future__ import annotations

import pytest

from benchmarks.agreement import Sweep, bracketed, exact
from benchmarks.readings import Reading
from lab.offsets import PartitionOffsets

KEY = ("orders", 0)


def reading(lag: int | None, *, began: float = 10, ended: float = 11) -> Reading:
    return Reading(began, ended, ended - began, {KEY: lag})


def sweep(began: float, committed: int | None, end: int) -> Sweep:
    return Sweep(began, began + 1, {KEY: PartitionOffsets(committed, end)})


def test_a_still_group_is_compared_to_the_message() -> None:
    """One message off, unknown, and absent are all not right."""
    assert exact(reading(5), {KEY: 5}) == 1
    assert exact(reading(6), {KEY: 5}) == 0
    assert exact(reading(None), {KEY: 5}) == 0
    assert exact(reading(5), {("payments", 0): 5}) == 0


@pytest.mark.parametrize(("lag", "right"), [(9, 0), (10, 1), (25, 1), (26, 0), (None, 0)])
def test_a_moving_lag_lies_between_what_was_possible(lag: int | None, right: int) -> None:
    """The end before minus the commit after is the least, the end after minus the commit before
    the most."""
    sweeps = [sweep(0, 70, 80), sweep(8, 80, 100), sweep(12, 90, 105), sweep(14, 200, 300)]
    assert bracketed(reading(lag), sweeps) == right


def test_only_sweeps_outside_of_the_reading_count() -> None:
    """A sweep that overlaps the reading brackets nothing, and without two nothing is right."""
    around, within = [sweep(8, 80, 100), sweep(12, 90, 105)], sweep(10.5, 0, 1000)
    assert bracketed(reading(500), [around[0], within, around[1]]) == 0
    assert bracketed(reading(20), around[:1]) == 0
    assert bracketed(reading(20), around[1:]) == 0


def test_a_partition_without_a_commit_has_no_right_lag() -> None:
    """No number is right where the independent look knows none."""
    assert bracketed(reading(20), [sweep(8, None, 100), sweep(12, None, 105)]) == 0
