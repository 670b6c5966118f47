"""MirrorMaker 1, the one that commits as an ordinary consumer group of the source cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import ConsumerGroupState

from lab import client
from lab.errors import LabError
from lab.kafka import Broker, java_command, write_properties
from lab.process import Part, Process
from lab.workspace import Workspace

GROUP = "oasis-group"
"""The consumer group that it has unless told otherwise."""

TOPICS = ("orders", "payments", "clicks")
"""The topics that it mirrors unless told otherwise."""

# It ends when it is asked to, and what it runs with it.
_RESTARTING = (
    *("/bin/sh", "-c"),
    "trap 'kill $! 2>/dev/null; wait $!; exit' TERM; while :; do \"$@\" & wait $!; sleep 1; done",
    "sh",
)


class MirrorMaker(Part):
    """Copies topics from one broker to another and commits what the other one has.

    :param workspace: the laboratory it belongs to
    :param home: the Kafka distribution's folder
    :param source: the broker it reads from
    :param target: the broker it writes to
    :param group: its consumer group; may hold blanks
    :param topics: the topics it mirrors
    :param streams: number of consumers, members of the group
    :param commit_milliseconds: time between commits. Its own default, a minute, would hide all
        movement from a test.
    :param restarts: whether it is started again when it ends by itself, as by a service manager; it
        does so when a commit of it meets a rebalance, for instance after its broker hung
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        home: Path,
        source: Broker,
        target: Broker,
        group: str = GROUP,
        topics: Sequence[str] = TOPICS,
        streams: int = 2,
        commit_milliseconds: int = 2000,
        restarts: bool = False,
    ) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._source = source
        directory = workspace.directory("mirrormaker")
        stem = f"{len(list(directory.iterdir()))}"
        consumer = write_properties(
            directory / f"{stem}-consumer.properties",
            {
                "bootstrap.servers": source.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,
                # How soon it sees a topic that is made while it runs.
                "metadata.max.age.ms": 5000,
            },
        )
        producer = write_properties(
            directory / f"{stem}-producer.properties",
            {"bootstrap.servers": target.bootstrap, "acks": "all", "linger.ms": 20},
        )
        self._process = Process(
            workspace=workspace,
            name="mirrormaker",
            command=[
                *(_RESTARTING if restarts else ()),
                *java_command(home, 256, "kafka.tools.MirrorMaker"),
                *("--consumer.config", consumer, "--producer.config", producer),
                *("--include", "|".join(topic.replace(".", r"\.") for topic in topics)),
                *("--num.streams", str(streams)),
                *("--offset.commit.interval.ms", str(commit_milliseconds)),
            ],
        )

    def start(self) -> None:
        """Start it, or start it again; return when its group is stable.

        :raises PartError: it does not come up
        """
        self._process.start()
        self._process.wait_until(self._joined, timeout=60, what="a member of its group")

    def _joined(self) -> bool:
        try:
            state = client.group_state(self._source.bootstrap, self.group)
        except LabError:
            return False
        return state is ConsumerGroupState.STABLE
