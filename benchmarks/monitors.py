"""Programs that read a group's lag again and again; each is run in a process of its own.

    python -m benchmarks.monitors confluent-kafka '{"bootstrap": "127.0.0.1:9092", …}'

Prints a line of JSON for each reading, see `readings.Reading`. A program imports only what it
needs, so that its memory is its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.readings import Partition, Reading

SSH_CONN_ID = "mirrormaker"
"""The Airflow connection to the host that `ours` runs its command on."""

Lags = dict[Partition, int | None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a program is told.

    :param bootstrap: ``host:port`` of the broker.
    :param every: seconds from one reading to the next.
    :param topics: for `ours`: the topics that ask for the group's description, one caller each.
    :param command: for `ours`: the remote command.
    """

    bootstrap: str
    group: str
    every: float
    topics: tuple[str, ...] = ()
    command: str = ""


def confluent_kafka(settings: Settings) -> None:
    """Read with one admin client of confluent-kafka."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

    client = AdminClient({"bootstrap.servers": settings.bootstrap})
    request = [ConsumerGroupTopicPartitions(settings.group)]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]

    def read() -> Lags:
        answer = client.list_consumer_group_offsets(request)[settings.group].result(30)
        committed = [p for p in answer.topic_partitions if p.offset >= 0]
        wanted = {TopicPartition(p.topic, p.partition): latest for p in committed}
        futures = client.list_offsets(wanted)
        ends = {(p.topic, p.partition): f.result(30).offset for p, f in futures.items()}
        return {(p.topic, p.partition): ends[p.topic, p.partition] - p.offset for p in committed}

    _repeat(read, settings.every)


def kafka_python(settings: Settings) -> None:
    """Read with one admin client of kafka-python."""
    from kafka import KafkaAdminClient
    from kafka.admin import OffsetSpec

    client = KafkaAdminClient(bootstrap_servers=settings.bootstrap)

    def read() -> Lags:
        committed = client.list_group_offsets(settings.group)[settings.group]
        ends = client.list_partition_offsets(dict.fromkeys(committed, OffsetSpec.LATEST))
        return {
            (p.topic, p.partition): ends[p].offset - found.offset for p, found in committed.items()
        }

    _repeat(read, settings.every)


async def aiokafka(settings: Settings) -> None:
    """Read with one admin client and one consumer of aiokafka, which subscribes to nothing."""
    from aiokafka import AIOKafkaConsumer
    from aiokafka.admin import AIOKafkaAdminClient

    client = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap)
    await client.start()
    await consumer.start()

    async def read() -> Lags:
        committed = await client.list_consumer_group_offsets(settings.group)
        ends = await consumer.end_offsets(list(committed))
        return {(p.topic, p.partition): ends[p] - found.offset for p, found in committed.items()}

    await _repeat_async(read, settings.every)


async def ours(settings: Settings) -> None:
    """Read as the triggerer does, once for all topics, through the SSH connection in Airflow."""
    from airflow_lag_provider.collect import collect

    async def one(topic: str, occasion: float) -> Lags:
        collected = await collect(
            ssh_conn_id=SSH_CONN_ID,
            command=settings.command,
            bootstrap_servers=(settings.bootstrap,),
            group=settings.group,
            timeout=30,
            occasion=occasion,
            attempt=1,
        )
        return {(p.topic, p.partition): p.lag for p in collected.description.topic(topic)}

    async def read() -> Lags:
        occasion = time.time()
        found = await asyncio.gather(*(one(topic, occasion) for topic in settings.topics))
        return {key: lag for lags in found for key, lag in lags.items()}

    await _repeat_async(read, settings.every)


def _repeat(read: Callable[[], Lags], every: float) -> None:
    due = time.time()
    while True:
        began = time.time()
        lags = read()
        _say(began, lags)
        due += every
        time.sleep(max(0.0, due - time.time()))


async def _repeat_async(read: Callable[[], Awaitable[Lags]], every: float) -> None:
    due = time.time()
    while True:
        began = time.time()
        lags = await read()
        _say(began, lags)
        due += every
        await asyncio.sleep(max(0.0, due - time.time()))


def _say(began: float, lags: Lags) -> None:
    ended = time.time()
    print(Reading(began, ended, ended - began, lags).line(), flush=True)


PROGRAMS: dict[str, Callable[[Settings], None] | Callable[[Settings], Awaitable[None]]] = {
    "ours": ours,
    "confluent-kafka": confluent_kafka,
    "aiokafka": aiokafka,
    "kafka-python": kafka_python,
}


def main() -> None:
    """Run the program that the command line names until it is ended."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    running = PROGRAMS[name](settings)
    if running is not None:
        asyncio.run(running)  # type: ignore[arg-type]  # a coroutine


if __name__ == "__main__":
    main()
