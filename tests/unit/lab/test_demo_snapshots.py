"""Snapshots are judged by what an independent client read around them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from lab.demo_snapshots import Reading, Taken, around, mistakes, rise, successive
from lab.offsets import PartitionOffsets

MINUTE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def row(partition: int, committed: int | None, end: int | None, lag: int | None) -> PartitionLag:
    return PartitionLag("orders", partition, committed, end, lag)


def snapshot(*rows: PartitionLag) -> TopicSnapshot:
    return TopicSnapshot(
        mirror="oasis",
        group="oasis-group",
        topic="orders",
        taken_at=MINUTE + seconds(5),
        group_state="active",
        partitions=rows,
    )


def taken(minute: int = 0, lag: int = 10) -> Taken:
    return Taken(
        run_id=f"run {minute}",
        scheduled_at=MINUTE + timedelta(minutes=minute),
        snapshot=snapshot(row(0, 100 - lag, 100, lag)),
    )


def reading(began: float, *, topic: str = "orders", **offsets: tuple[int | None, int]) -> Reading:
    return Reading(
        topic=topic,
        began=MINUTE + seconds(began),
        ended=MINUTE + seconds(began + 0.5),
        offsets={int(name[1:]): PartitionOffsets(*pair) for name, pair in offsets.items()},
    )


def test_a_document_tells_when_its_run_was_due() -> None:
    """The scheduled instant is the earliest at which its describe can have begun."""
    document = snapshot(row(0, 90, 100, 10)).to_document() | {
        "event": {"outcome": "success"},
        "airflow": {"run_id": "r", "scheduled_at": "2026-11-22T13:35:00+00:00"},
    }
    found = Taken.from_document(document)
    assert found.scheduled_at == MINUTE
    assert (found.topic, found.minute, found.lag, found.run_id) == ("orders", "13:35", 10, "r")


def test_the_nearest_whole_readings_around_a_run_are_taken() -> None:
    """A reading that overlaps the describe, or is of another topic, proves nothing."""
    readings = [
        reading(-2),
        nearest_before := reading(-0.5),
        reading(-0.4),
        reading(4.9),
        reading(5, topic="clicks"),
        nearest_after := reading(5),
        reading(6),
    ]
    assert around(taken(), readings) == (nearest_before, nearest_after)


@pytest.mark.parametrize("readings", [[], [reading(-1)], [reading(1), reading(6)]])
def test_without_readings_on_both_sides_there_is_no_verdict_yet(readings: list[Reading]) -> None:
    """A snapshot waits for its verdict until it has been read around it."""
    assert around(taken(), readings) is None


def test_a_snapshot_between_its_readings_is_right() -> None:
    """Offsets at and between the readings are right, and so is a partition without a commit."""
    before = reading(1, p0=(80, 90), p1=(None, 7), p2=(None, 3))
    after = reading(6, p0=(95, 100), p1=(None, 9), p2=(3, 4))
    rows = (row(0, 80, 100, 20), row(1, None, 8, None), row(2, 3, 3, 0))
    assert mistakes(snapshot(*rows), before, after) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (row(0, 79, 95, 16), "partition 0: committed offset 79, but 80 was read before and 90"),
        (row(0, 91, 95, 4), "partition 0: committed offset 91, but 80 was read before and 90"),
        (row(0, 85, 94, 9), "partition 0: end offset 94, but 95 was read before and 99 after"),
        (row(0, 85, 100, 15), "partition 0: end offset 100, but 95 was read before and 99 after"),
        (row(0, None, 95, None), "partition 0: committed offset None, but 80 was read before"),
        (row(0, 85, None, None), "partition 0: end offset None, but 95 was read before"),
        (row(0, 85, 95, 11), "partition 0: lag 11 is not 95 - 85"),
        (row(1, 85, 95, 10), "there is no partition 1"),
    ],
)
def test_what_cannot_have_been_so_is_named(wrong: PartitionLag, words: str) -> None:
    """An offset outside of its readings, a lag that isn't the difference, another partition."""
    found = mistakes(snapshot(wrong), reading(1, p0=(80, 95)), reading(6, p0=(90, 99)))
    assert any(sentence.startswith(words) for sentence in found)


def test_a_partition_that_is_not_in_the_snapshot_is_a_mistake() -> None:
    """A short snapshot is a wrong one."""
    both = {"p0": (80, 90), "p1": (5, 5)}
    found = mistakes(snapshot(row(0, 80, 90, 10)), reading(1, **both), reading(6, **both))
    assert found == ["partition 1 is missing"]


def test_a_commit_that_nobody_read_afterwards_is_a_mistake() -> None:
    """A committed offset can't be there when an independent client finds none later."""
    before, after = reading(1, p0=(None, 90)), reading(6, p0=(None, 90))
    assert len(mistakes(snapshot(row(0, 80, 90, 10)), before, after)) == 1


@given(committed=st.tuples(*[st.integers(0, 1000)] * 3), end=st.tuples(*[st.integers(0, 1000)] * 3))
def test_offsets_that_only_grow_are_always_right(
    committed: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    """Whatever two growing offsets are at three moments, the one in the middle is right."""
    low_committed, at_committed, high_committed = sorted(committed)
    low_end, at_end, high_end = sorted(end)
    before = reading(1, p0=(low_committed, low_end))
    after = reading(6, p0=(high_committed, high_end))
    middle = snapshot(row(0, at_committed, at_end, at_end - at_committed))
    assert mistakes(middle, before, after) == []


def minutes(found: tuple[Taken, ...]) -> list[int]:
    return [int((one.scheduled_at - MINUTE).total_seconds() // 60) for one in found]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], []),
        ([4], [4]),
        ([0, 1], [0, 1]),
        ([2, 0, 1], [0, 1, 2]),
        ([0, 1, 3, 4, 5, 6], [3, 4, 5]),
        ([0, 1, 1, 2], [0, 1]),
        ([0, 2, 3], [2, 3]),
    ],
)
def test_successive_snapshots_lie_a_minute_apart(there: list[int], expected: list[int]) -> None:
    """The first three in a row count, else as many as there are; a gap or a double begins anew."""
    assert minutes(successive([taken(minute) for minute in there], 3)) == expected


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ({}, None),
        ({3: 500}, None),
        ({3: 500, 4: 900}, [3, 4]),
        ({4: 900, 3: 500}, [3, 4]),
        ({3: 500, 5: 900}, None),
        ({3: 50, 4: 900}, None),
        ({3: 50, 4: 900, 5: 1300}, [4, 5]),
        ({3: 900, 4: 900}, None),
        ({3: 900, 4: 500}, None),
    ],
)
def test_a_rise_takes_two_successive_snapshots_above_the_lag_before(
    lags: dict[int, int], expected: list[int] | None
) -> None:
    """Both lie above the lag of before, the second one above the first, a minute later."""
    found = rise(50, [taken(minute, lag) for minute, lag in lags.items()])
    assert (minutes(found) if found else None) == expected


def test_a_topic_without_any_commit_has_no_lag_to_compare() -> None:
    """A lag that isn't known counts as none at all, so that it can't pass for a rise."""
    unknown = replace(taken(), snapshot=snapshot(row(0, None, 5, None)))
    assert unknown.lag == 0
