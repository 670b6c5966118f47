"""What one describe says of a topic at one moment, and the document made from it.

Numbers are message counts and offsets (64-bit); ``None`` is "not known", never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

GroupState = Literal["active", "empty", "rebalancing"]
Changed = Literal["grew", "shrank", "recreated"]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One row of a describe.

    :param topic: the topic's name.
    :param partition: the partition's number, from 0.
    :param committed: committed offset; ``None`` when the group never committed there.
    :param end: log end offset; ``None`` when the tool could not read it.
    :param lag: the tool's own figure, which may be negative; ``None`` where it printed none.
    :param consumer: id of the member that owns the partition, ``None`` when nobody does.
    :param host: that member's host, without the leading slash Kafka prints.
    :param client: that member's client id.
    """

    topic: str
    partition: int
    committed: int | None
    end: int | None
    lag: int | None
    consumer: str | None = None
    host: str | None = None
    client: str | None = None

    @property
    def known_lag(self) -> int | None:
        """The tool's figure, but ``None`` without a committed offset, which it is counted from."""
        return None if self.committed is None else self.lag

    @property
    def is_mismatch(self) -> bool:
        """Whether the tool's LAG is not end − committed, or stands where one of them is unknown."""
        if self.committed is None or self.end is None:
            return self.lag is not None
        return self.lag != self.end - self.committed


@dataclass(frozen=True)
class TopicSnapshot:
    """How far one topic of a consumer group is behind, at one moment.

    :param mirror: the mirror's name in the configuration.
    :param group: the consumer group's id.
    :param topic: the topic's name.
    :param taken_at: when the describe ended, with time zone.
    :param group_state: ``active``, ``empty`` (no members) or ``rebalancing``.
    :param partitions: the topic's rows, sorted by partition number; at least one.
    :param unconfigured_topics: topics of the group that the configuration doesn't name;
        ``None`` when the configuration isn't known.
    :param missing: numbers of the partitions that earlier snapshots had and this one lacks, see
        ``history.py``; ``None`` when the earlier ones aren't known.
    :param changed: what became of the partitions since the snapshot before, see ``history.py``.
    """

    mirror: str
    group: str
    topic: str
    taken_at: datetime
    group_state: GroupState
    partitions: tuple[PartitionLag, ...]
    unconfigured_topics: tuple[str, ...] | None = None
    missing: tuple[int, ...] | None = None
    changed: Changed | None = None

    @cached_property
    def _lags(self) -> dict[int, int]:
        """Lag by partition, where it is known; a negative one counts as nothing to catch up."""
        return {
            row.partition: max(0, lag)
            for row in self.partitions
            if (lag := row.known_lag) is not None
        }

    @property
    def mismatches(self) -> tuple[int, ...]:
        """The partitions whose LAG the tool's own offsets don't explain."""
        return tuple(row.partition for row in self.partitions if row.is_mismatch)

    @property
    def lag_total(self) -> int | None:
        """Messages behind over all partitions with a lag; ``None`` when no partition has one."""
        return sum(self._lags.values()) if self._lags else None

    @property
    def lag_max(self) -> int | None:
        """The largest lag of a partition, in messages; ``None`` when no partition has one."""
        return max(self._lags.values(), default=None)

    @property
    def lag_max_partition(self) -> int | None:
        """The lowest number among the partitions with the largest lag."""
        return max(self._lags, key=lambda number: self._lags[number], default=None)

    def to_document(self) -> dict[str, Any]:
        """Return the snapshot's part of its document; the run adds its own."""
        known = [
            row for row in self.partitions if row.committed is not None and row.end is not None
        ]
        document: dict[str, Any] = {
            "@timestamp": self.taken_at.isoformat(),
            "topic": self.topic,
            "mirror": self.mirror,
            "group": self.group,
            "group_state": self.group_state,
            "lag": {
                "total": self.lag_total,
                "max": self.lag_max,
                "max_partition": self.lag_max_partition,
                "reported_mismatch": bool(self.mismatches),
            },
            "partitions": self._counts(),
            "offsets": {
                "committed": sum(row.committed or 0 for row in known) if known else None,
                "end": sum(row.end or 0 for row in known) if known else None,
            },
            "partition": [_row_to_document(row) for row in self.partitions],
        }
        document.update({f"p{row.partition}": row.known_lag for row in self.partitions})
        if self.unconfigured_topics is not None:
            document["unconfigured_topics"] = list(self.unconfigured_topics)
        return document

    def _counts(self) -> dict[str, Any]:
        """Return the field ``partitions``; what isn't known is left out."""
        counts: dict[str, Any] = {
            "total": len(self.partitions),
            "uncommitted": sum(row.committed is None for row in self.partitions),
            "negative": sum((row.known_lag or 0) < 0 for row in self.partitions),
        }
        if self.missing is not None:
            counts["missing"] = len(self.missing)
        if self.missing:
            counts["missing_ids"] = list(self.missing)
        if self.changed:
            counts["changed"] = self.changed
        return counts

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TopicSnapshot:
        """Return the snapshot that a success document holds.

        :param document: the ``_source`` of a document with ``event.outcome`` ``success``.
        :raises KeyError: it is not such a document.
        """
        unconfigured: Sequence[str] | None = document.get("unconfigured_topics")
        counts: Mapping[str, Any] = document.get("partitions", {})
        return cls(
            mirror=document["mirror"],
            group=document["group"],
            topic=document["topic"],
            taken_at=datetime.fromisoformat(document["@timestamp"]),
            group_state=document["group_state"],
            partitions=tuple(
                _row_from_document(row, topic=document["topic"]) for row in document["partition"]
            ),
            unconfigured_topics=None if unconfigured is None else tuple(unconfigured),
            missing=tuple(counts.get("missing_ids", ())) if "missing" in counts else None,
            changed=counts.get("changed"),
        )


@dataclass(frozen=True, slots=True)
class TopicFailure:
    """Why there is no snapshot of a topic.

    :param failed_at: when that was known, with time zone.
    :param error_type: name of the class of the error, see ``errors.py``.
    :param error_message: what is wrong and what to do.
    :param unconfigured_topics: see :class:`TopicSnapshot`; also ``None`` without a description.
    """

    mirror: str
    group: str
    topic: str
    failed_at: datetime
    error_type: str
    error_message: str
    unconfigured_topics: tuple[str, ...] | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the failure's part of its document; it has no figures at all."""
        document: dict[str, Any] = {
            "@timestamp": self.failed_at.isoformat(),
            "topic": self.topic,
            "mirror": self.mirror,
            "group": self.group,
            "error": {"type": self.error_type, "message": self.error_message},
        }
        if self.unconfigured_topics is not None:
            document["unconfigured_topics"] = list(self.unconfigured_topics)
        return document


def _row_to_document(row: PartitionLag) -> dict[str, Any]:
    return {
        "id": row.partition,
        "committed": row.committed,
        "end": row.end,
        "lag": row.lag,
        "consumer": row.consumer,
        "host": row.host,
        "client": row.client,
    }


def _row_from_document(row: Mapping[str, Any], *, topic: str) -> PartitionLag:
    return PartitionLag(
        topic=topic,
        partition=row["id"],
        committed=row["committed"],
        end=row["end"],
        lag=row["lag"],
        consumer=row["consumer"],
        host=row["host"],
        client=row["client"],
    )
