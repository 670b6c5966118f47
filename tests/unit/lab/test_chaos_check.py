"""The verdict on a chaos run: made-up violations are found, and a right story passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_lag_provider.errors import DescribeError, EndedByAirflow
from lab.chaos_check import EXPLAINED_BY, FULL, GAP, RECOVERY, Lacking, cause, told
from lab.chaos_faults import Outage
from lab.chaos_plan import PARTS
from lab.chaos_report import judge
from tests.unit.lab.chaos_story import at, document, found, outage, run, story


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
