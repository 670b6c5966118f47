"""An independent client that reads all offsets all the time, to judge snapshots by."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from lab.client import PartitionOffsets
from lab.demo_snapshots import Reading
from lab.errors import LabError

_TIMEOUT = 10.0


def read_group(
    bootstrap: str, group: str, topics: Sequence[str]
) -> dict[str, dict[int, PartitionOffsets]]:
    """Return a group's offsets of several topics, by topic and partition.

    The commits are read first, as by `client.read_offsets`. Through a consumer that joins nothing:
    librdkafka's admin client may end the whole process when a group's coordinator goes away
    (https://github.com/confluentinc/librdkafka/issues/4605).

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


class Reader:
    """Reads committed and end offsets of all topics, again and again, from a thread.

    :param bootstrap: ``host:port`` of the source broker
    :param group: MirrorMaker's consumer group
    :param topics: the topics
    :param every: seconds from the end of a reading to the next one
    """

    def __init__(
        self, *, bootstrap: str, group: str, topics: Sequence[str], every: float = 1.0
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = tuple(topics)
        self._every = every
        self._readings: list[Reading] = []
        self._stopping = threading.Event()
        # A daemon: a broker that is gone would hold it, and the end of the demo, for seconds.
        self._thread = threading.Thread(target=self._run, name="lab-reader", daemon=True)
        self.trouble: LabError | None = None
        """Why the last reading failed; None if it did not."""

    @property
    def running(self) -> bool:
        """Whether it reads; not any more after an error that nobody has thought of."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start reading; return when each topic has been read.

        :raises LabError: the broker does not answer
        """
        self._read_all()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join(timeout=3)

    def readings(self) -> tuple[Reading, ...]:
        """Return all readings so far, oldest first."""
        return tuple(self._readings)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self._read_all()
                self.trouble = None
            except LabError as error:
                self.trouble = error

    def _read_all(self) -> None:
        began = datetime.now(UTC)
        found = read_group(self._bootstrap, self._group, self._topics)
        ended = datetime.now(UTC)
        self._readings += [
            Reading(topic, began, ended, offsets) for topic, offsets in found.items()
        ]


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
