"""A consumer group with many topics on a real broker, and the mirrors.yaml that watches it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from benchmarks import projects
from lab import client
from lab.errors import LabError
from lab.laboratory import Laboratory
from lab.sshd import AsyncsshServer

_TOPICS_AT_ONCE = 50
_PATIENCE_SECONDS = 400


def group_name(count: int) -> str:
    """Return the name of the group with so many topics."""
    return f"wide-{count}"


def topic_names(count: int) -> list[str]:
    """Return its topics' names."""
    return [f"wide-{count}-{number:04}" for number in range(count)]


def make_group(lab: Laboratory, *, topics: int, partitions: int) -> None:
    """Create topics and commit offset 0 on all their partitions for a group without members.

    Does nothing when the group is there.
    """
    bootstrap, names, group = lab.source.bootstrap, topic_names(topics), group_name(topics)
    admin = client.admin(bootstrap)
    if names[-1] in admin.list_topics(timeout=60).topics:
        return
    # First, because a broker that makes thousands of partitions is busy with them for minutes: the
    # first commit makes the topic that the broker keeps commits in.
    client.create_topic(bootstrap, names[0], partitions)
    client.commit_offsets(bootstrap, group, {(names[0], 0): 0})
    for start in range(1, topics, _TOPICS_AT_ONCE):
        some = names[start : start + _TOPICS_AT_ONCE]
        new = [NewTopic(name, num_partitions=partitions, replication_factor=1) for name in some]
        for future in admin.create_topics(new, operation_timeout=60, request_timeout=90).values():
            future.result(120)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for name in names:
        offsets = [TopicPartition(name, n, 0) for n in range(partitions)]
        while error := _refusal(consumer, offsets):
            if time.monotonic() > deadline:
                raise LabError(f"offsets of {name} can't be committed: {error}")
            time.sleep(1)
    consumer.close()
    print(f"{topics} topics are made", flush=True)


def _refusal(consumer: Consumer, offsets: list[TopicPartition]) -> object:
    """Commit, and return why the broker doesn't take it: it may not know the topic yet."""
    try:
        found = consumer.commit(offsets=offsets, asynchronous=False) or ()
    except KafkaException as error:
        return error
    return next((one.error for one in found if one.error), None)


def write_project(
    folder: Path, lab: Laboratory, *, topics: int, layout: str, deferrable: bool, index: str
) -> Path:
    """Write a DAG project that watches the group; return its configuration's path."""
    mirror: dict[str, Any] = {
        "ssh_conn_id": "mirrormaker",
        "bootstrap_servers": [lab.source.bootstrap],
        "group": group_name(topics),
        "tool": str(lab.tool),
        "layout": layout,
        "deferrable": deferrable,
        "paused": False,
        "topics": dict.fromkeys(topic_names(topics)),
    }
    elasticsearch = {"conn_id": "elastic", "index": index}
    return projects.write_files(
        folder, {"elasticsearch": elasticsearch, "mirrors": {"wide": mirror}}
    )


def connections(lab: Laboratory, host: AsyncsshServer) -> dict[str, dict[str, Any]]:
    """Return the Airflow connections that the project names."""
    return {"mirrormaker": host.connection(), "elastic": lab.elasticsearch.connection()}
