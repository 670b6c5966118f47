"""Judges snapshots: are they what an independent client read, in succession, and does lag rise?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_lag_provider.snapshot import PartitionLag, TopicSnapshot
from lab.offsets import PartitionOffsets

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Taken:
    """The snapshot of one scheduled run."""

    run_id: str
    scheduled_at: datetime
    """When the run was due, one minute after the run before; its describe began then or later."""

    snapshot: TopicSnapshot

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.snapshot.topic

    @property
    def minute(self) -> str:
        """The minute it was due, for people, in UTC."""
        return f"{self.scheduled_at.astimezone(UTC):%H:%M}"

    @property
    def lag(self) -> int:
        """Messages behind; 0 when no partition has a committed offset."""
        return self.snapshot.lag_total or 0

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Taken:
        """Read a document whose outcome is success.

        :raises KeyError: it is another one
        """
        return cls(
            run_id=document["airflow"]["run_id"],
            scheduled_at=datetime.fromisoformat(document["airflow"]["scheduled_at"]),
            snapshot=TopicSnapshot.from_document(document),
        )


@dataclass(frozen=True)
class Reading:
    """What an independent client read of one topic, between two instants."""

    topic: str
    began: datetime
    ended: datetime
    offsets: Mapping[int, PartitionOffsets]


def around(taken: Taken, readings: Iterable[Reading]) -> tuple[Reading, Reading] | None:
    """Return the last reading before the run was due and the first one after its describe.

    Not before its work began: the describe begins with the minute, and the runs wait for it.

    :param readings: of any topics, in the order they were made
    :return: None as long as one of the two is missing
    """
    own = [reading for reading in readings if reading.topic == taken.topic]
    before = [reading for reading in own if reading.ended <= taken.scheduled_at]
    after = [reading for reading in own if reading.began >= taken.snapshot.taken_at]
    return (before[-1], after[0]) if before and after else None


def mistakes(snapshot: TopicSnapshot, before: Reading, after: Reading) -> list[str]:
    """Return a sentence for everything in a snapshot that can't have been so.

    Offsets only grow. So each must lie between what was read before and what was read after.
    """
    found = {row.partition for row in snapshot.partitions}
    wrong = [
        f"partition {number} is missing" for number in sorted(before.offsets.keys() - found)
    ] + [f"there is no partition {number}" for number in sorted(found - after.offsets.keys())]
    for row in snapshot.partitions:
        if row.partition in before.offsets and row.partition in after.offsets:
            wrong += _row_mistakes(row, before.offsets[row.partition], after.offsets[row.partition])
    return wrong


def successive(taken: Iterable[Taken], count: int) -> tuple[Taken, ...]:
    """Return the first `count` snapshots of a topic that lie one minute apart each.

    :return: as many as there are in succession, at best, when there are fewer
    """
    best: tuple[Taken, ...] = ()
    current: tuple[Taken, ...] = ()
    for one in sorted(taken, key=lambda one: one.scheduled_at):
        follows = current and one.scheduled_at - current[-1].scheduled_at == _MINUTE
        current = (*current, one) if follows else (one,)
        best = max(best, current, key=len)
        if len(best) == count:
            break
    return best


def rise(lag: int, taken: Sequence[Taken]) -> tuple[Taken, Taken] | None:
    """Return the first two successive snapshots that show a topic's lag rising.

    :param lag: what both must be above, and the second one above the first
    :return: None when there are none
    """
    ordered = sorted(taken, key=lambda one: one.scheduled_at)
    for first, second in zip(ordered, ordered[1:], strict=False):
        if second.scheduled_at - first.scheduled_at == _MINUTE and lag < first.lag < second.lag:
            return first, second
    return None


def _row_mistakes(
    row: PartitionLag, before: PartitionOffsets, after: PartitionOffsets
) -> list[str]:
    pairs = (
        ("committed offset", before.committed, row.committed, after.committed),
        ("end offset", before.end, row.end, after.end),
    )
    wrong = [
        f"partition {row.partition}: {what} {value}, but {low} was read before and {high} after"
        for what, low, value, high in pairs
        if not _between(low, value, high)
    ]
    if None not in (row.committed, row.end) and row.lag != (row.end or 0) - (row.committed or 0):
        wrong.append(f"partition {row.partition}: lag {row.lag} is not {row.end} - {row.committed}")
    return wrong


def _between(low: int | None, value: int | None, high: int | None) -> bool:
    """Tell whether a value fits between two readings; None is before the first commit."""
    if value is None:
        return low is None
    return (low is None or low <= value) and high is not None and value <= high
