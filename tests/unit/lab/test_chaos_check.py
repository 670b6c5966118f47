"""The verdict on a chaos run: made-up violations are found, and a right story passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_lag_provider.errors import DescribeError, EndedByAirflow
from airflow_lag_provider.run import document_id
from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from lab.chaos_check import EXPLAINED_BY, FULL, GAP, RECOVERY, Hit, Lacking, Run, cause, told
from lab.chaos_faults import Outage
from lab.chaos_offsets import untrue
from lab.chaos_plan import PARTS, Fault, Kind
from lab.chaos_report import Evidence, judge
from lab.client import PartitionOffsets
from lab.demo_snapshots import Reading

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def at(minute: float, second: float = 0) -> datetime:
    return NOON + timedelta(minutes=minute, seconds=second)


def run(topic: str, minute: int, state: str = "success", run_id: str | None = None) -> Run:
    return Run(
        topic, run_id or f"scheduled__{minute}", at(minute), state, at(minute, 1), at(minute, 6)
    )


def document(
    of: Run, *, error: str | None = None, rows: tuple[tuple[int, int], ...] = ((90, 100),)
) -> Hit:
    """Return the document of a run, taken five seconds after its minute.

    :param rows: committed and end offset of each partition.
    """
    source: dict[str, Any]
    if error:
        source = {
            "@timestamp": (of.due + timedelta(seconds=5)).isoformat(),
            "topic": of.topic,
            "error": {"type": error, "message": "No."},
        }
    else:
        source = TopicSnapshot(
            mirror="chaos",
            group="chaos-group",
            topic=of.topic,
            taken_at=of.due + timedelta(seconds=5),
            group_state="active",
            partitions=tuple(
                PartitionLag(of.topic, number, committed, end, end - committed)
                for number, (committed, end) in enumerate(rows)
            ),
        ).to_document()
    assert of.started_at is not None
    identity = document_id(
        mirror="chaos", topic=of.topic, run_id=of.run_id, started_at=of.started_at
    )
    airflow = {
        "run_id": of.run_id,
        "run_type": "scheduled",
        "scheduled_at": of.due.isoformat(),
    }
    event = {"outcome": "failure" if error else "success"}
    return Hit(identity, {**source, "airflow": airflow, "event": event})


def reading(topic: str, began: datetime, *pairs: tuple[int, int]) -> Reading:
    offsets = {number: PartitionOffsets(*pair) for number, pair in enumerate(pairs)}
    return Reading(topic, began, began + timedelta(seconds=0.5), offsets)


def outage(part: str, began: datetime, seconds: float, kind: Kind = "kill") -> Outage:
    return Outage(Fault(part, kind, at=0, lasts=seconds), began, began + timedelta(seconds=seconds))


def story() -> Evidence:
    """Two topics, three minutes: one failure of a broker that is away, one gap of both topics."""
    first, second = (run("a", 0), run("b", 0)), (run("a", 2), run("b", 2, "failed"))
    unreachable = document(second[1], error="BrokerUnreachable")
    return Evidence(
        mirror="chaos",
        topics=("a", "b"),
        minutes=(at(0), at(1), at(2)),
        runs=(*first, *second),
        hits=(*map(document, first), document(second[0]), unreachable),
        lacking=(
            Lacking("a", at(1), GAP, "no run was made"),
            Lacking("b", at(1), GAP, "no run was made"),
            Lacking("b", at(2), "failure", "BrokerUnreachable"),
        ),
        readings=[
            reading(topic, at(minute, second), (90, 100))
            for minute in range(3)
            for second in (-2, 20)
            for topic in ("a", "b")
        ]
        + [reading(topic, at(3, 20), (95, 105)) for topic in ("a", "b")],
        outages=(outage("scheduler", at(0, 50), 60), outage("broker", at(1, 58), 20)),
    )


def found(**changes: Any) -> list[str]:
    """Return the findings on the story with some changes."""
    return list(judge(replace(story(), **changes)).findings)


def test_a_right_story_passes() -> None:
    """Everything has its document, its readings and its reason."""
    verdict = judge(story())
    assert verdict.findings == ()
    assert verdict.passed
    assert (verdict.compared.snapshots, verdict.compared.offsets) == (3, 6)


def test_the_report_counts_and_names_the_faults() -> None:
    """What was missed stands in a table, the topics of a minute together."""
    lines = judge(story()).lines()
    assert lines[:4] == [
        "2 topics, 3 minutes from 12:00 to 12:02 (UTC), 2 faults",
        "1. 4 runs, 4 documents: 3 snapshots, 1 failures; 0 runs ended by Airflow after"
        " their snapshot",
        "2. 3 snapshots compared with 14 readings of topics: 6 offsets; 0 snapshots without a"
        " reading on both sides",
        "3. 3 minutes of topics without a snapshot",
    ]
    assert lines[4:7] == [
        "   DUE    WHAT     WHY                TOPICS  FAULT",
        "   12:01  gap      no run was made    2       scheduler kill 12:00:50-12:01:50",
        "   12:02  failure  BrokerUnreachable  1       broker kill 12:01:58-12:02:18",
    ]
    assert lines[-1] == "Nothing is wrong."


def test_findings_are_printed_and_only_so_many() -> None:
    """A run in which all is wrong doesn't fill the screen."""
    many = tuple(run("a", 0, run_id=f"r{number}") for number in range(60))
    lines = judge(replace(story(), runs=(*story().runs, *many))).lines()
    assert "FINDINGS: 60" in lines
    assert lines[-1] == "   and 20 more"


def test_a_run_without_a_document_is_found() -> None:
    """Also where the list of gaps knows of it."""
    lacking = (*story().lacking, Lacking("a", at(0), GAP, "its run is success"))
    words = "a 12:00 (scheduled__0): no document, and the run is success"
    assert words in found(hits=story().hits[1:], lacking=lacking)


def test_a_second_document_of_a_run_is_found() -> None:
    """Under another id, as it would be if the run's start had changed."""
    second = replace(story().hits[0], id="another")
    assert found(hits=(*story().hits, second)) == [
        "a 12:00 (scheduled__0): 2 documents, and the run is success"
    ]


def test_a_document_under_another_id_is_found() -> None:
    """The id is the run's own, or two tries would have two documents."""
    wrong = replace(story().hits[0], id="another")
    assert found(hits=(wrong, *story().hits[1:])) == [
        "a 12:00 (scheduled__0): its document's id another is another run's"
    ]


def test_a_document_without_a_run_is_found() -> None:
    """Nobody ran anything by hand."""
    extra = document(run("a", 1, run_id="manual__1"))
    assert "a 12:01 (manual__1): a document of a run that Airflow doesn't know" in found(
        hits=(*story().hits, extra)
    )


def test_a_run_that_has_not_ended_is_found() -> None:
    """Even when its document is there already."""
    runs = (replace(story().runs[0], state="running"), *story().runs[1:])
    assert found(runs=runs) == ["a 12:00 (scheduled__0): still running"]


def test_a_document_of_another_minute_than_its_run_is_found() -> None:
    """It would fill a minute that has none."""
    runs = (*story().runs[:2], replace(story().runs[2], due=at(1)), story().runs[3])
    (words,) = found(runs=runs)
    assert words == "a 12:01 (scheduled__2): its document says 2026-11-22T12:02:00+00:00"


def test_a_green_run_with_a_failure_is_found() -> None:
    """A failure turns its run red."""
    runs = (*story().runs[:3], replace(story().runs[3], state="success"))
    assert found(runs=runs) == [
        "b 12:02 (scheduled__2): the run is green, its document a BrokerUnreachable"
    ]


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


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        (story().lacking[1:], "a 12:01: listed is nothing, there is no document"),
        (story().lacking[:2], "b 12:02: listed is nothing, there is BrokerUnreachable"),
        (
            (*story().lacking, Lacking("a", at(0), "failure", "BrokerUnreachable")),
            "a 12:00: listed is failure BrokerUnreachable, there is a snapshot",
        ),
        (
            (*story().lacking[:2], Lacking("b", at(2), "failure", "BrokerTimedOut")),
            "b 12:02: listed is failure BrokerTimedOut, there is BrokerUnreachable",
        ),
    ],
)
def test_a_list_that_differs_from_the_documents_is_found(
    lacking: tuple[Lacking, ...], words: str
) -> None:
    """Each minute without a snapshot is listed with its own reason, and no other one."""
    assert words in found(lacking=lacking)


def test_a_minute_that_nobody_asked_for_is_found() -> None:
    """The list has the minutes of the run alone."""
    lacking = (*story().lacking, Lacking("c", at(0), GAP, "no run was made"))
    assert "c 12:00: listed and not asked for" in found(lacking=lacking)


def test_what_had_not_ended_is_a_finding() -> None:
    """After the time for settling nothing may be under way."""
    assert found(left_open=["3 runs are deferred"]) == ["3 runs are deferred"]


@pytest.mark.parametrize(
    ("outages", "unexplained"),
    [
        # All faults, and none of a part that could do it.
        ([outage(part, at(0), 120) for part in PARTS if part != "broker"], ["b 12:02"]),
        ([outage(part, at(0), 120) for part in ("broker", "sshd")], ["a 12:01", "b 12:01"]),
        # Too late, and too early.
        ([outage("scheduler", at(0, 50), 60), outage("broker", at(2, 6), 20)], ["b 12:02"]),
        ([outage("scheduler", at(0, 50), 60), outage("broker", at(1), 29)], ["b 12:02"]),
        ([outage("scheduler", at(2, 1), 60), outage("broker", at(2), 1)], ["a 12:01", "b 12:01"]),
    ],
)
def test_what_no_fault_explains_is_found(outages: list[Outage], unexplained: list[str]) -> None:
    """A fault has to be one of a part that can do this, in time, with time to recover."""
    words = found(outages=outages)
    assert [one.split(": ")[0] for one in words] == unexplained
    assert all("without a fault that explains it" in one for one in words)


def test_a_triggerer_explains_a_gap_only_where_no_more_runs_were_allowed() -> None:
    """It holds runs up; the next one is not made while as many are open as there may be."""
    hang = [outage("triggerer", at(0, 30), 40), story().outages[1]]
    assert [one.split(": ")[0] for one in found(outages=hang)] == ["a 12:01", "b 12:01"]
    gap = replace(story().lacking[0], reason="no run was made; other topics have documents")
    held = [replace(run("a", minute), ended_at=at(1, 31)) for minute in (-2, -1, 0)]
    said = told(gap, held)
    assert said.reason == "no run was made; other topics have documents; max_active_runs reached"
    assert cause(said, {}, hang) is hang[0]
    assert cause(gap, {}, hang) is None
    for runs in (
        held[1:],
        [*held[1:], replace(held[0], ended_at=at(1, 30))],
        [*held[1:], replace(held[0], topic="b")],
        [*held[1:], replace(held[0], due=at(1))],
    ):
        assert told(gap, runs) is gap
    assert told(gap, [replace(one, ended_at=None) for one in held]) == said


def test_the_report_says_that_no_more_runs_were_allowed() -> None:
    """What explains the gap stands in its line."""
    held = [replace(run("a", -n, run_id=f"r{n}"), ended_at=at(1, 40)) for n in (1, 2, 3)]
    lines = judge(replace(story(), runs=(*story().runs, *held))).lines()
    assert any("no run was made; max_active_runs reached  1 " in line for line in lines)


@pytest.mark.parametrize("reason", ["no run, and the DAG is paused now", "its run is failed"])
def test_a_gap_for_another_reason_is_found(reason: str) -> None:
    """No fault of a part pauses a DAG."""
    lacking = [replace(one, reason=reason) if one.kind == GAP else one for one in story().lacking]
    assert f"a 12:01: gap without a fault that explains it: {reason}" in found(lacking=lacking)


def test_a_run_that_was_ended_after_its_snapshot_wants_a_fault() -> None:
    """It is counted and named; a scheduler or triggerer that was at fault explains it."""
    runs = (replace(story().runs[0], state="failed"), *story().runs[1:])
    where = "a 12:00 (scheduled__0)"
    words = f"{where}: ended by Airflow after its snapshot, without a fault that explains it"
    assert found(runs=runs) == [words]
    for part in PARTS:
        outages = [*story().outages, outage(part, at(0, 6), 20)]
        verdict = judge(replace(story(), runs=runs, outages=outages))
        assert verdict.findings == (() if part in {"scheduler", "triggerer"} else (words,)), part
    lines = judge(
        replace(story(), runs=runs, outages=[*story().outages, outage("triggerer", at(0, 6), 20)])
    ).lines()
    assert "; 1 runs ended by Airflow after their snapshot" in lines[1]
    assert lines[2] == (f"   ended after its snapshot: {where}, triggerer kill 12:00:06-12:00:26")
    late = [*story().outages, outage("triggerer", at(0, 7), 20)]
    assert words in found(runs=runs, outages=late)


def test_a_fault_may_cost_a_minute_while_its_part_recovers() -> None:
    """Up to its own time after it is well again."""
    failure = story().lacking[2]
    hits = {(hit.topic, hit.due): hit for hit in story().hits}
    just = outage("broker", at(2) - RECOVERY["broker"] - timedelta(seconds=5), 5)
    assert cause(failure, hits, [just]) is just
    assert cause(failure, hits, [replace(just, well=just.well - timedelta(seconds=1))]) is None


@pytest.mark.parametrize("error", ["GroupNotFound", "TopicNotInGroup", "UnexpectedError"])
def test_a_reason_that_no_fault_can_have_is_found(error: str) -> None:
    """All parts were at fault, and still the group was there."""
    wrong = document(story().runs[3], error=error)
    lacking = (*story().lacking[:2], Lacking("b", at(2), "failure", error))
    outages = [outage(part, at(0), 180) for part in PARTS]
    assert found(hits=(*story().hits[:3], wrong), lacking=lacking, outages=outages) == [
        f"b 12:02: failure without a fault that explains it: {error}"
    ]


def test_the_reasons_are_errors_that_there_are_and_the_parts_too() -> None:
    """A name that was changed would explain nothing, and nobody would see it."""
    known = {EndedByAirflow.__name__, GAP, FULL}
    waiting = [DescribeError]
    while waiting:
        kind = waiting.pop()
        known.add(kind.__name__)
        waiting += kind.__subclasses__()
    assert set(EXPLAINED_BY) <= known
    assert {part for parts in EXPLAINED_BY.values() for part in parts} <= set(PARTS)
    assert set(RECOVERY) == set(PARTS)
