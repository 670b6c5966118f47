"""A topic's partitions from one snapshot to the next: which are missing, and what changed.

Kafka numbers partitions from 0, adds them, and never takes one away: a topic with fewer of them,
or with an end offset that fell, is another topic of the same name. (An end offset also falls when
a broker that lacked the last messages was made leader: `unclean.leader.election.enable`, and with
brokers before 2.1 it may fall a little after a clean change of leader: KIP-207.)

A partition that a snapshot had counts as missing in all later ones that lack it, until it is back,
the topic is recognised as made anew, or two snapshots in a row show that the topic has no more
partitions: the group is active and its members own 0, 1, 2, … to the last one, without a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_lag_provider.snapshot import Changed, TopicSnapshot


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a topic's partitions after a snapshot.

    :param at: when the snapshot's describe ended, with time zone.
    :param ends: last known log end offset by partition number, ``None`` where there is none;
        with the missing partitions.
    :param missing: the partitions that the snapshot lacked.
    :param whole: whether members owned each partition from 0 to the last one.
    """

    at: datetime
    ends: Mapping[int, int | None]
    missing: frozenset[int]
    whole: bool

    @property
    def present(self) -> frozenset[int]:
        """The partitions that the snapshot had."""
        return frozenset(self.ends.keys() - self.missing)

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Shape:
        """Return what a success document tells, see :data:`DOCUMENT_FIELDS`.

        :raises KeyError: it is not such a document.
        """
        rows = document["partition"]
        missing = frozenset(document["partitions"].get("missing_ids", ()))
        ends: dict[int, int | None] = dict.fromkeys(missing)
        ends.update({row["id"]: row["end"] for row in rows})
        owners = ((row["id"], row["consumer"]) for row in rows)
        return cls(
            at=datetime.fromisoformat(document["@timestamp"]),
            ends=ends,
            missing=missing,
            whole=_is_whole(document["group_state"], owners),
        )


DOCUMENT_FIELDS = (
    "@timestamp",
    "group_state",
    "partition.id",
    "partition.end",
    "partition.consumer",
    "partitions.missing",
    "partitions.missing_ids",
)
"""The fields of a document that :meth:`Shape.of_document` reads.

Elasticsearch leaves out an object of which it finds no field, so ``partitions.missing``, which each
of these documents has, keeps ``partitions`` there.
"""


def compared(snapshot: TopicSnapshot, before: Shape | None) -> TopicSnapshot:
    """Return the snapshot with what became of its partitions.

    :param before: the last earlier snapshot's; ``None``: there was none.
    """
    if before is None:
        return replace(snapshot, missing=())
    if _fell(snapshot, before):
        return replace(snapshot, missing=(), changed="recreated")
    present, had = {row.partition for row in snapshot.partitions}, before.present
    changed: Changed | None = "shrank" if had - present else "grew" if present - had else None
    is_all = before.whole and changed is None and _is_whole_now(snapshot)
    missing = () if is_all else tuple(sorted(before.ends.keys() - present))
    return replace(snapshot, missing=missing, changed=changed)


def shape_after(snapshot: TopicSnapshot, before: Shape | None) -> Shape:
    """Return what is known after a snapshot.

    :param snapshot: what :func:`compared` returned.
    :param before: what it was compared with.
    """
    known = {} if before is None or snapshot.changed == "recreated" else before.ends
    missing = snapshot.missing or ()
    ends = {number: known.get(number) for number in missing}
    for row in snapshot.partitions:
        ends[row.partition] = known.get(row.partition) if row.end is None else row.end
    return Shape(
        at=snapshot.taken_at,
        ends=ends,
        missing=frozenset(missing),
        whole=_is_whole_now(snapshot),
    )


def _fell(snapshot: TopicSnapshot, before: Shape) -> bool:
    """Return whether the end offset of a partition is lower than it was."""
    for row in snapshot.partitions:
        end = before.ends.get(row.partition)
        if row.end is not None and end is not None and row.end < end:
            return True
    return False


def _is_whole_now(snapshot: TopicSnapshot) -> bool:
    owners = ((row.partition, row.consumer) for row in snapshot.partitions)
    return _is_whole(snapshot.group_state, owners)


def _is_whole(state: str, owners: Iterable[tuple[int, str | None]]) -> bool:
    return state == "active" and all(
        number == place and owner is not None for place, (number, owner) in enumerate(owners)
    )
