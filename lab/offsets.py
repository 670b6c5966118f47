"""An independent view of a group's offsets and their ends, through librdkafka.

Through a consumer that joins nothing: librdkafka's admin client may end the whole process when a
group's coordinator goes away (https://github.com/confluentinc/librdkafka/issues/4605).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from lab.errors import LabError

_TIMEOUT = 10.0


@dataclass(frozen=True)
class PartitionOffsets:
    """The two offsets that make a partition's lag."""

    committed: int | None
    """The group's committed offset, None where it never committed."""

    end: int
    """The partition's end offset, that of the next message."""

    @property
    def lag(self) -> int | None:
        """The difference, negative after a commit beyond the end, None without a commit."""
        return None if self.committed is None else self.end - self.committed


def read_offsets(bootstrap: str, group: str, topic: str) -> dict[int, PartitionOffsets]:
    """Return committed and end offset of each partition of a topic, see :func:`read_group`."""
    return read_group(bootstrap, group, [topic])[topic]


def read_group(
    bootstrap: str, group: str, topics: Sequence[str]
) -> dict[str, dict[int, PartitionOffsets]]:
    """Return a group's offsets of several topics, by topic and partition.

    The commits are read first: while both move, the difference is at least the true lag.

    :param bootstrap: ``host:port`` of the broker
    :raises LabError: the broker does not answer, or lacks one of the topics
    """
    try:
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
                "log_level": 0,
            }
        )
        try:
            return _read(consumer, topics)
        finally:
            consumer.close()
    except KafkaException as error:
        raise LabError(f"offsets of group {group!r} can't be read: {error}") from error
    except KeyError as error:
        raise LabError(f"offsets of group {group!r}: the answer lacks {error}") from error


def _read(consumer: Consumer, topics: Sequence[str]) -> dict[str, dict[int, PartitionOffsets]]:
    keys = _partitions(consumer, topics)
    asked = [TopicPartition(topic, partition) for topic, partition in keys]
    committed = _offsets(consumer.committed(asked, timeout=_TIMEOUT))
    asked = [TopicPartition(topic, partition, OFFSET_END) for topic, partition in keys]
    ends = _offsets(consumer.offsets_for_times(asked, timeout=_TIMEOUT))
    found: dict[str, dict[int, PartitionOffsets]] = {topic: {} for topic in topics}
    for topic, partition in keys:
        at, end = committed[topic, partition], ends[topic, partition]
        found[topic][partition] = PartitionOffsets(at if at >= 0 else None, end)
    return found


def _partitions(consumer: Consumer, topics: Sequence[str]) -> list[tuple[str, int]]:
    known = consumer.list_topics(timeout=_TIMEOUT).topics
    for topic in topics:
        if topic not in known or known[topic].error:
            reason = known[topic].error if topic in known else "no such topic"
            raise LabError(f"offsets of {topic!r} can't be read: {reason}")
    return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]


def _offsets(found: Sequence[TopicPartition]) -> dict[tuple[str, int], int]:
    """Return what a broker answered for some partitions.

    :raises KafkaException: it had no answer for one of them
    """
    for one in found:
        if one.error:
            raise KafkaException(one.error)
    return {(one.topic, one.partition): one.offset for one in found}
