"""The verdict on a chaos run's snapshots: what they say wrong is found, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab.chaos_offsets import untrue
from lab.chaos_report import judge
from lab.demo_snapshots import Reading
from tests.unit.lab.chaos_story import at, document, found, outage, reading, story


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (((89, 100),), "committed offset 89, but 90 was read before and 90 after"),
        (((91, 100),), "committed offset 91, but 90 was read before and 90 after"),
        (((90, 99),), "end offset 99, but 100 was read before and 100 after"),
        (((90, 101),), "end offset 101, but 100 was read before and 100 after"),
        (((90, 100), (1, 2)), "there is no partition 1"),
        ((), "partition 0 is missing"),
    ],
)
def test_offsets_outside_of_their_readings_are_found(
    rows: tuple[tuple[int, int], ...], words: str
) -> None:
    """Too low or too high, committed or end, a partition too many or too few."""
    wrong = document(story().runs[0], rows=rows)
    (sentence,) = found(hits=(wrong, *story().hits[1:]))
    assert sentence.startswith("a 12:00 (scheduled__0): ")
    assert words in sentence


def test_a_reading_that_overlaps_the_describe_proves_nothing() -> None:
    """Nearer readings that were under way are left out, so the offsets fit."""
    near = [reading("a", at(0, 1), (91, 101)), reading("a", at(0, 4.9), (91, 101))]
    assert found(readings=[*story().readings[:2], *near, *story().readings[2:]]) == []


@pytest.mark.parametrize(
    ("readings", "where"),
    [
        (story().readings[2:], ["a 12:00 (scheduled__0)", "b 12:00 (scheduled__0)"]),
        ([one for one in story().readings if one.began < at(2)], ["a 12:02 (scheduled__2)"]),
    ],
)
def test_a_snapshot_without_readings_is_counted_as_unchecked(
    readings: list[Reading], where: list[str]
) -> None:
    """And a finding, since reading begins before the first run and goes on after the last one."""
    verdict = judge(replace(story(), readings=readings))
    words = [one for one in verdict.findings if "no reading on both sides" in one]
    assert [one.split(": ")[0] for one in words] == where
    assert verdict.compared.unchecked == len(where)
    assert f"{len(where)} snapshots without a reading on both sides" in verdict.lines()[2]


def test_a_run_in_which_nothing_was_checked_fails() -> None:
    """Without readings, and without faults."""
    words = found(readings=[])
    assert "No snapshot could be compared with readings." in words
    assert "a: was never read" in words
    assert "No fault was inflicted." in found(outages=[])


def test_readings_that_lie_far_apart_are_found() -> None:
    """Any offset would lie between them: the last before the story and the first after it."""
    readings = [*story().readings[:2], *story().readings[-2:]]
    words = found(readings=readings, outages=[outage("broker", at(1), 20)])
    where = "b 12:00 (scheduled__0)"
    assert (
        f"{where}: for 196 s around it nothing was read; the broker's faults explain 50 s" in words
    )
    assert f"{where}: its readings lie 202 s apart; faults explain 50 s" in words


def test_nothing_read_is_explained_by_the_broker_alone() -> None:
    """No other part takes the client's answers away."""
    readings = [*story().readings[:2], *(one for one in story().readings if one.began > at(0, 40))]
    for part, missed in (("broker", 0), ("sshd", 2), ("triggerer", 2), ("Elasticsearch", 2)):
        outages = [*story().outages, outage(part, at(0, 6), 40)]
        words = [one for one in found(readings=readings, outages=outages) if "was read" in one]
        assert len(words) == missed, part


def test_a_snapshot_that_came_late_wants_a_fault() -> None:
    """Its readings lie as far apart as it was late, though the client read all the time."""
    late = story().hits[0]
    source = {**late.source, "@timestamp": at(1, 30).isoformat()}
    near = [reading("a", at(1, second), (90, 100)) for second in (31, 32)]
    changes = {
        "hits": (replace(late, source=source), *story().hits[1:]),
        "readings": sorted([*story().readings, *near], key=lambda one: one.began),
    }
    words = "a 12:00 (scheduled__0): its readings lie 92 s apart; faults explain 0 s"
    for part in ("MirrorMaker", "Elasticsearch"):
        assert words in found(**changes, outages=[outage(part, at(0), 100)])
    for part in ("broker", "sshd", "scheduler", "triggerer"):
        assert not any(
            "apart" in one for one in found(**changes, outages=[outage(part, at(0), 30)])
        )


def test_a_time_that_two_faults_take_counts_once() -> None:
    """Two of the broker's, one within the other, explain no more than the longer one."""
    readings = [*story().readings[:2], *(one for one in story().readings if one.began > at(1, 50))]
    both = [outage("broker", at(0, 6), 30), outage("broker", at(0, 10), 20)]
    words = found(readings=readings, outages=[*story().outages, *both])
    assert any("the broker's faults explain 60 s" in one for one in words)


def test_a_partition_whose_end_stands_still_is_found() -> None:
    """An old snapshot of it would be right."""
    still = [
        replace(one, offsets=story().readings[0].offsets) if one.topic == "b" else one
        for one in story().readings
    ]
    assert found(readings=still) == ["b: the end of partition 0 did not grow from 100"]


def test_a_field_of_the_charts_that_is_not_its_partitions_lag_is_found() -> None:
    """What people look at are the p fields."""
    hit = story().hits[0]
    wrong = replace(hit, source={**hit.source, "p0": 0})
    assert found(hits=(wrong, *story().hits[1:])) == [
        "a 12:00 (scheduled__0): p0 is 0, and the partition's lag 10"
    ]


@pytest.mark.parametrize(
    ("field", "key", "value", "words"),
    [
        ("lag", "total", 11, "lag.total is 11, and by its rows 10"),
        ("lag", "max", None, "lag.max is None, and by its rows 10"),
        ("lag", "reported_mismatch", True, "lag.reported_mismatch is True, and by its rows False"),
        ("offsets", "committed", 91, "offsets.committed is 91, and by its rows 90"),
        ("offsets", "end", 0, "offsets.end is 0, and by its rows 100"),
        ("partitions", "total", 2, "partitions.total is 2, and by its rows 1"),
        ("partitions", "uncommitted", 1, "partitions.uncommitted is 1, and by its rows 0"),
        ("partitions", "negative", 1, "partitions.negative is 1, and by its rows 0"),
        ("partitions", "missing", 1, "it says that 1 partitions are missing, which nobody took"),
    ],
)
def test_a_sum_that_is_not_its_rows_is_found(field: str, key: str, value: Any, words: str) -> None:
    """Charts and alerts are made of them; a field that isn't there is no better."""
    hit = story().hits[0]
    wrong = replace(hit, source={**hit.source, field: {**hit.source[field], key: value}})
    assert found(hits=(wrong, *story().hits[1:])) == [f"a 12:00 (scheduled__0): {words}"]
    if key != "missing":
        rest = {name: one for name, one in hit.source[field].items() if name != key}
        wrong = replace(hit, source={**hit.source, field: rest})
        (sentence,) = found(hits=(wrong, *story().hits[1:]))
        assert f"{field}.{key} is absent" in sentence


def test_sums_leave_out_what_is_not_known() -> None:
    """No commit is no lag, one beyond the end counts as none; and nothing at all is null."""
    rows = [
        {"id": 0, "committed": None, "end": 7, "lag": None},
        {"id": 1, "committed": 12, "end": 10, "lag": -2},
        {"id": 2, "committed": 3, "end": 8, "lag": 5},
    ]
    right: dict[str, Any] = {
        **{"partition": rows, "p0": None, "p1": -2, "p2": 5},
        "lag": {"total": 5, "max": 5, "reported_mismatch": False},
        "offsets": {"committed": 15, "end": 18},
        "partitions": {"total": 3, "uncommitted": 1, "negative": 1},
    }
    assert untrue(right) == []
    assert untrue({**right, "p3": 1}) == ["p3 is there, and no such partition"]
    none = {
        **{"partition": rows[:1], "p0": None},
        "lag": {"total": None, "max": None, "reported_mismatch": False},
        "offsets": {"committed": None, "end": None},
        "partitions": {"total": 1, "uncommitted": 1, "negative": 0},
    }
    assert untrue(none) == []
    assert untrue({**none, "lag": {**none["lag"], "total": 0}}) == [
        "lag.total is 0, and by its rows None"
    ]


def test_a_change_that_nobody_made_is_found() -> None:
    """No topic was made anew, whatever a broker that comes up says."""
    hit = story().hits[0]
    counts = {**hit.source["partitions"], "changed": "recreated"}
    wrong = replace(hit, source={**hit.source, "partitions": counts})
    (words,) = found(hits=(wrong, *story().hits[1:]))
    assert "recreated" in words
