"""The demo's table: each topic's lag and how its last run went, from its newest documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich import box
from rich.table import Table
from rich.text import Text

from lab.demo_index import Document, Newest

_NOTHING = "–"
# A snapshot is taken each minute; above this, one has not come.
_LATE_SECONDS = 90


@dataclass(frozen=True)
class Row:
    """One topic's line, ready to be shown."""

    topic: str
    lag: str
    """Messages behind, all partitions together."""

    worst: str
    """The partition that is farthest behind, and its lag in messages."""

    age: str
    """Seconds since the last snapshot was taken."""

    outcome: str
    """Of the last run, which may be newer than the last snapshot."""

    failed: bool = False
    late: bool = False


def rows(topics: Sequence[str], found: Mapping[str, Newest], now: datetime) -> list[Row]:
    """Return a row for each topic, in their order.

    :param topics: the topics that are watched, with documents or without
    :param found: the newest documents by topic
    :param now: the present, with time zone
    """
    return [_row(topic, found.get(topic, Newest()), now) for topic in topics]


def render(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Topic")
    for heading in ("Lag", "Worst partition", "Snapshot's age"):
        table.add_column(heading, justify="right")
    table.add_column("Last run (UTC)", overflow="fold")
    for row in rows:
        age = Text(row.age, style="yellow" if row.late else "")
        outcome = Text(row.outcome, style="red" if row.failed else "")
        table.add_row(row.topic, row.lag, row.worst, age, outcome)
    return table


def state(found: Mapping[str, Newest]) -> frozenset[tuple[str, str, str]]:
    """Return what changes when a run has ended: topic, run and outcome of each last run."""
    return frozenset(
        (topic, one.run["airflow"]["run_id"], one.run["event"]["outcome"])
        for topic, one in found.items()
        if one.run
    )


def _row(topic: str, newest: Newest, now: datetime) -> Row:
    failed = newest.run is not None and newest.run["event"]["outcome"] != "success"
    outcome = _outcome(newest.run)
    if newest.snapshot is None:
        return Row(topic, _NOTHING, _NOTHING, _NOTHING, outcome, failed=failed)
    age = (now - datetime.fromisoformat(newest.snapshot["@timestamp"])).total_seconds()
    lag = newest.snapshot["lag"]
    return Row(
        topic,
        lag=_count(lag["total"]),
        worst=_NOTHING if lag["max"] is None else f"{lag['max_partition']}: {_count(lag['max'])}",
        age=f"{max(0, age):.0f} s",
        outcome=outcome,
        failed=failed,
        late=age > _LATE_SECONDS,
    )


def _outcome(run: Document | None) -> str:
    if run is None:
        return "none yet"
    scheduled_at = datetime.fromisoformat(run["airflow"]["scheduled_at"]).astimezone(UTC)
    words = f"{scheduled_at:%H:%M} {run['event']['outcome']}"
    return f"{words}: {run['error']['type']}" if "error" in run else words


def _count(messages: int | None) -> str:
    # None of the topic's partitions has a committed offset.
    return "not known" if messages is None else f"{messages:,}"
