"""A made-up story of a chaos run, which is right until a test changes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_lag_provider.run import document_id
from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from lab.chaos_check import GAP, Hit, Lacking, Run
from lab.chaos_faults import Outage
from lab.chaos_plan import Fault, Kind
from lab.chaos_report import Evidence, judge
from lab.demo_snapshots import Reading
from lab.offsets import PartitionOffsets

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
