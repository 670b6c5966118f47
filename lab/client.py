"""An independent view of a broker's offsets, through librdkafka, and what tests do to a broker.

Nothing here runs Kafka's own tools or the package under test, so a comparison with it means
something. Every call makes its own connection: a long-lived one never recovers from some errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from lab.errors import LabError, ReadBackError

_TIMEOUT = 10.0
_WARM_UP_SECONDS = 20.0
_T = TypeVar("_T")


def admin(bootstrap: str) -> AdminClient:
    """Return a new admin client that keeps its complaints to itself.

    Keep it in a variable until its futures are done: they never are once it has been collected.

    :param bootstrap: ``host:port``
    """
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def _result(future: Future[_T], what: str) -> _T:
    try:
        return future.result(_TIMEOUT + 2)
    except (KafkaException, TimeoutError) as error:
        raise LabError(f"{what}: {error or 'time-out'}") from error


def is_answering(bootstrap: str) -> bool:
    """Tell whether a broker answers a metadata request within two seconds."""
    try:
        return bool(admin(bootstrap).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def create_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Create a topic and wait until all its partitions have a leader; one that is there may stay.

    :raises LabError: the broker refuses it, or it isn't ready in time
    """
    client = admin(bootstrap)
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1)
    try:
        _result(client.create_topics([new])[topic], f"topic {topic!r} can't be created")
    except LabError as error:
        cause = error.__cause__
        known = isinstance(cause, KafkaException) and cause.args[0].code()
        if known != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    _wait_for_leaders(client, topic, partitions)


def grow_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Give a topic more partitions and wait until all of them have a leader.

    :param partitions: how many it has then
    :raises LabError: the broker refuses it, or it isn't ready in time
    """
    client = admin(bootstrap)
    futures = client.create_partitions([NewPartitions(topic, partitions)])
    _result(futures[topic], f"topic {topic!r} can't grow")
    _wait_for_leaders(client, topic, partitions)


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic and wait until the broker doesn't list it any more.

    :raises LabError: the broker refuses it
    """
    client = admin(bootstrap)
    _result(client.delete_topics([topic])[topic], f"topic {topic!r} can't be deleted")
    _wait(
        lambda: topic not in client.list_topics(timeout=_TIMEOUT).topics,
        f"topic {topic!r} is gone",
    )


def delete_group(bootstrap: str, group: str) -> None:
    """Delete a consumer group that has no members.

    :raises LabError: the broker refuses it, as it does while the group has members
    """
    client = admin(bootstrap)
    futures = client.delete_consumer_groups([group], request_timeout=_TIMEOUT)
    _result(futures[group], f"group {group!r} can't be deleted")


def group_state(bootstrap: str, group: str) -> ConsumerGroupState:
    """Return a group's state; ``DEAD`` where there is no such group.

    :raises LabError: the broker does not answer
    """
    state: ConsumerGroupState = _describe(bootstrap, group).state
    return state


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Return the end offset of each partition of a topic.

    :raises LabError: the broker does not answer, or has no such topic
    """
    client = admin(bootstrap)
    what = f"end offsets of {topic!r} can't be read"
    try:
        metadata = client.list_topics(topic, timeout=_TIMEOUT).topics[topic]
    except KafkaException as error:
        raise LabError(f"{what}: {error}") from error
    if metadata.error:
        raise LabError(f"{what}: {metadata.error}")
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, p): latest for p in metadata.partitions}
    futures = client.list_offsets(wanted, request_timeout=_TIMEOUT)
    return {key.partition: _result(f, what).offset for key, f in sorted(futures.items())}


def committed_offsets(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Return a group's committed offsets of a topic; partitions without a commit are left out.

    :raises LabError: the broker does not answer
    """
    found = _all_committed_offsets(bootstrap, group)
    return {partition: offset for (name, partition), offset in found.items() if name == topic}


def commit_offsets(bootstrap: str, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Commit offsets for a group without members, also beyond the end, and read them back.

    A broker that has just made its ``__consumer_offsets`` can lose a commit without a word, so it
    is repeated until it is there.

    :param offsets: the offset to commit by topic and partition
    :raises ReadBackError: the broker takes the commits, and doesn't have them
    :raises LabError: the broker does not take them
    """
    deadline = time.monotonic() + _WARM_UP_SECONDS
    while True:
        error = _try_commit(bootstrap, group, offsets)
        if error is None:
            found = _all_committed_offsets(bootstrap, group)
            if all(found.get(key) == offset for key, offset in offsets.items()):
                return
        if time.monotonic() > deadline:
            if error:
                raise LabError(f"offsets of group {group!r} can't be committed: {error}") from error
            raise ReadBackError(f"offsets committed for group {group!r} are not there")
        time.sleep(0.2)


def produce(bootstrap: str, topic: str, partition: int, count: int) -> None:
    """Write `count` small messages to one partition and wait until the broker has them.

    :raises LabError: the broker did not take all of them
    """
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0}
    producer = Producer(settings)
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error:
            failures.append(error)

    for number in range(count):
        while True:
            try:
                producer.produce(
                    topic, value=b"%d" % number, partition=partition, on_delivery=delivered
                )
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(_TIMEOUT)
    if left or failures:
        reason = failures[0] if failures else "time-out"
        raise LabError(f"{left + len(failures)} of {count} messages not written: {reason}")


def members_of(bootstrap: str, group: str) -> Iterable[str]:
    """Return the client ids of a group's members.

    :raises LabError: the broker does not answer
    """
    return [member.client_id for member in _describe(bootstrap, group).members]


def owned_partitions(bootstrap: str, group: str, topic: str) -> set[int]:
    """Return the partitions of a topic that members of a group own.

    :raises LabError: the broker does not answer
    """
    return {
        one.partition
        for member in _describe(bootstrap, group).members
        for one in member.assignment.topic_partitions
        if one.topic == topic
    }


def _wait_for_leaders(client: AdminClient, topic: str, partitions: int) -> None:
    def ready() -> bool:
        found = client.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions.values()
        return len(found) == partitions and all(p.leader >= 0 for p in found)

    _wait(ready, f"topic {topic!r} has {partitions} partitions, each with a leader")


def _all_committed_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """Return a group's committed offsets by topic and partition."""
    request = [ConsumerGroupTopicPartitions(group)]
    # Kept in a name: the futures of a client that is gone never end.
    client = admin(bootstrap)
    futures = client.list_consumer_group_offsets(request, request_timeout=_TIMEOUT)
    answer = _result(futures[group], f"offsets of group {group!r} can't be read")
    found = answer.topic_partitions or []
    return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}


def _describe(bootstrap: str, group: str) -> Any:
    client = admin(bootstrap)
    futures = client.describe_consumer_groups([group], request_timeout=_TIMEOUT)
    return _result(futures[group], f"group {group!r} can't be described")


def _try_commit(
    bootstrap: str, group: str, offsets: Mapping[tuple[str, int], int]
) -> KafkaException | None:
    positions = [TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    try:
        for result in consumer.commit(offsets=positions, asynchronous=False) or ():
            if result.error:
                return KafkaException(result.error)
    except KafkaException as error:
        return error
    finally:
        consumer.close()
    return None


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"not so after {_TIMEOUT:g} s: {what}")
        time.sleep(0.1)
