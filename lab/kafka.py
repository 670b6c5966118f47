"""Kafka brokers, and the folder of tools that a Kafka distribution would have."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lab import client, offsets
from lab.cache import KAFKA_VERSION, Progress, kafka_libs
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.workspace import Workspace

LIGHT_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Flags for Java programs that live minutes: less memory, and half the start-up time."""

_LAB = Path(__file__).parent
_START_SECONDS = 90.0
# Until then the tool was written in Scala, and its class had another name.
_REWRITTEN = (3, 8)
_COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
_OLD_COMMAND = "kafka.admin.ConsumerGroupCommand"


def write_distribution(
    workspace: Workspace, progress: Progress, version: str = KAFKA_VERSION
) -> Path:
    """Lay out bin/, config/ and libs/ as a Kafka distribution has them.

    :param version: of Kafka
    :return: the folder; ``bin/kafka-consumer-groups.sh`` below it works from any shell
    :raises LabError: the jars can't be fetched
    """
    libs = kafka_libs(progress, version)
    home = workspace.directory("kafka" if version == KAFKA_VERSION else f"kafka-{version}")
    shutil.copytree(_LAB / "bin", home / "bin")
    shutil.copytree(_LAB / "config", home / "config")
    (home / "libs").symlink_to(libs, target_is_directory=True)
    if tuple(map(int, version.split("."))) < _REWRITTEN:
        tool = home / "bin" / "kafka-consumer-groups.sh"
        tool.write_text(tool.read_text().replace(_COMMAND, _OLD_COMMAND))
    return home


def write_properties(path: Path, properties: Mapping[str, str | int]) -> Path:
    """Write a Java properties file and return its path."""
    lines = (f"{key}={_escaped(str(value))}\n" for key, value in properties.items())
    path.write_text("".join(lines), encoding="utf-8")
    return path


def java_command(home: Path, heap_megabytes: int, *words: str | Path) -> list[str]:
    """Return the command line of a long-running Java class of Kafka.

    :param home: the distribution's folder
    :param heap_megabytes: the largest heap
    :param words: class and arguments
    """
    return [
        "java",
        f"-Xmx{heap_megabytes}m",
        *LIGHT_JVM,
        f"-Dlog4j.configuration=file:{home}/config/log4j.properties",
        "-cp",
        f"{home}/libs/*",
        *(str(word) for word in words),
    ]


class Broker(Part):
    """One Kafka broker that is its own controller (KRaft).

    :param workspace: the laboratory it belongs to
    :param name: ``source`` or ``target``; names its log and its directory
    :param home: the distribution's folder
    :param auto_create_topics: whether writing to a missing topic makes it. Off on the source, where
        a deleted topic must stay deleted; on for the target, as MirrorMaker needs it.
    :param settings: further lines of its server.properties
    :param heap_megabytes: its largest heap; thousands of partitions want more
    :param cluster: the name of the broker whose cluster it joins; by default it has its own
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        name: str,
        home: Path,
        auto_create_topics: bool = False,
        settings: Mapping[str, str | int] | None = None,
        heap_megabytes: int = 384,
        cluster: str | None = None,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.bootstrap = f"{HOST}:{self.port}"
        self._directory = workspace.directory(f"broker-{name}")
        self._configuration = write_properties(
            self._directory / "server.properties",
            {**self._properties(free_port(), auto_create_topics), **(settings or {})},
        )
        self._process = Process(
            workspace=workspace,
            name=f"kafka-{name}",
            command=java_command(home, heap_megabytes, "kafka.Kafka", self._configuration),
        )
        self._format = Process(
            workspace=workspace,
            name=f"kafka-{name}-format",
            command=java_command(
                home, 128, "kafka.tools.StorageTool", "format",
                "-t", f"lag-lab-{cluster or name:a<14}"[:22], "-c", self._configuration,
            ),
        )  # fmt: skip

    def start(self) -> None:
        """Start it, or start it again on the same port with the same data; return when it answers.

        :raises PartError: it does not come up
        """
        if not (self._directory / "data" / "meta.properties").exists():
            self._format.run(timeout=_START_SECONDS)
        self._process.start()
        self._process.wait_until(
            lambda: is_listening(self.port) and client.is_answering(self.bootstrap),
            timeout=_START_SECONDS,
            what=f"answering on {self.bootstrap}",
        )

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; see `lab.client.create_topic`."""
        client.create_topic(self.bootstrap, name, partitions)

    def produce(self, topic: str, partition: int, count: int) -> None:
        """Write messages to one partition; see `lab.client.produce`."""
        client.produce(self.bootstrap, topic, partition, count)

    def read_offsets(self, group: str, topic: str) -> dict[int, offsets.PartitionOffsets]:
        """Read a group's offsets by partition; see `lab.offsets.read_offsets`."""
        return offsets.read_offsets(self.bootstrap, group, topic)

    def _properties(self, controller_port: int, auto_create: bool) -> dict[str, str | int]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._directory / "data"),
            "num.partitions": 18,
            "auto.create.topics.enable": str(auto_create).lower(),
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            # Consumers of a test come one by one and need not wait for each other.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
        }


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
