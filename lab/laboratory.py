"""All parts together, as the demo and most tests want them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from lab.cache import Progress
from lab.elasticsearch import Credentials, Elasticsearch
from lab.errors import LabError
from lab.kafka import Broker, write_distribution
from lab.mirrormaker import GROUP, TOPICS, MirrorMaker
from lab.producer import Producer
from lab.sshd import AsyncsshServer, OpenSshServer
from lab.workspace import Workspace

_Part = TypeVar("_Part")


class Laboratory:
    """Kafka, MirrorMaker, a producer, SSH servers and Elasticsearch; a context manager.

    Entering starts the parts, those that don't need each other at the same time. Leaving, an
    exception, Ctrl-C and even the death of this process end all of them.

    :param progress: told, line by line, what it waits for
    :param kafka: whether to start the brokers, and with them what the next two say
    :param mirrormaker: whether to start MirrorMaker, and the target it writes to
    :param mirrormaker_restarts: whether that is started again when it ends by itself
    :param producer: whether to start the producer
    :param elasticsearch: whether to start Elasticsearch
    :param elasticsearch_users: its users; by default it asks for none
    :param sshd: whether to start the asyncssh server
    :param sshd_password: whether that takes a password too
    :param openssh: whether to start OpenSSH's sshd
    :param group: MirrorMaker's consumer group
    :param topics: topics that are made, mirrored and written to
    :param partitions: number of partitions of each
    :param source_heap: the source broker's largest heap in MB; thousands of partitions want more
    :param logs: directory for the parts' logs, which then stays; by default they go with the rest
    """

    def __init__(
        self,
        *,
        progress: Progress = lambda _: None,
        kafka: bool = True,
        mirrormaker: bool = True,
        mirrormaker_restarts: bool = False,
        producer: bool = True,
        elasticsearch: bool = True,
        elasticsearch_users: tuple[Credentials, ...] = (),
        sshd: bool = True,
        sshd_password: bool = False,
        openssh: bool = False,
        group: str = GROUP,
        topics: Sequence[str] = TOPICS,
        partitions: int = 18,
        source_heap: int = 384,
        logs: Path | None = None,
    ) -> None:
        self.topics = tuple(topics)
        self.partitions = partitions
        self.group = group
        self._source_heap = source_heap
        self._progress = progress
        self._with_kafka = kafka
        self._with_mirrormaker = kafka and mirrormaker
        self._mirrormaker_restarts = mirrormaker_restarts
        self._with_producer = kafka and producer
        self._with_elasticsearch = elasticsearch
        self._elasticsearch_users = elasticsearch_users
        self._with_sshd = sshd
        self._sshd_password = sshd_password
        self._with_openssh = openssh
        self._logs = logs
        self._workspace: Workspace | None = None
        self._source: Broker | None = None
        self._target: Broker | None = None
        self._mirrormaker: MirrorMaker | None = None
        self._producer: Producer | None = None
        self._sshd: AsyncsshServer | None = None
        self._openssh: OpenSshServer | None = None
        self._elasticsearch: Elasticsearch | None = None
        self._home: Path | None = None

    def __enter__(self) -> Self:
        """Start all parts.

        :raises LabError: one of them can't be fetched or does not come up; all others end
        """
        self._workspace = Workspace(logs=self._logs)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all parts and remove what they wrote."""
        self.close()

    @property
    def workspace(self) -> Workspace:
        """Its directory and its logs; further parts of one's own go there."""
        return _there(self._workspace, "workspace")

    @property
    def kafka_home(self) -> Path:
        """The folder of a Kafka distribution."""
        return _there(self._home, "Kafka")

    @property
    def tool(self) -> Path:
        """The path of kafka-consumer-groups.sh, as a command sent to a server of it names it."""
        return self.kafka_home / "bin" / "kafka-consumer-groups.sh"

    @property
    def source(self) -> Broker:
        """The broker that MirrorMaker reads and whose groups are described."""
        return _there(self._source, "source broker")

    @property
    def target(self) -> Broker:
        """The broker that MirrorMaker writes to."""
        return _there(self._target, "target broker")

    @property
    def mirrormaker(self) -> MirrorMaker:
        """MirrorMaker."""
        return _there(self._mirrormaker, "MirrorMaker")

    @property
    def producer(self) -> Producer:
        """The producer."""
        return _there(self._producer, "producer")

    @property
    def sshd(self) -> AsyncsshServer:
        """The SSH server that needs no root."""
        return _there(self._sshd, "asyncssh server")

    @property
    def openssh(self) -> OpenSshServer:
        """OpenSSH's sshd."""
        return _there(self._openssh, "OpenSSH server")

    @property
    def elasticsearch(self) -> Elasticsearch:
        """Elasticsearch."""
        return _there(self._elasticsearch, "Elasticsearch")

    def close(self) -> None:
        """End all parts and remove what they wrote; does nothing twice."""
        if self._workspace:
            # First, because librdkafka would spend seconds on a broker that is gone.
            if self._producer:
                self._producer.abandon()
            self._workspace.close()

    def _start(self) -> None:
        jobs: list[Callable[[], None]] = []
        if self._with_kafka:
            jobs.append(self._start_kafka)
        if self._with_elasticsearch:
            jobs.append(self._start_elasticsearch)
        if self._with_sshd or self._with_openssh:
            jobs.append(self._start_ssh)
        _together(jobs, self.workspace)

    def _start_kafka(self) -> None:
        home = self._home = write_distribution(self.workspace, self._progress)
        source = self._source = Broker(
            workspace=self.workspace,
            name="source",
            home=home,
            heap_megabytes=self._source_heap,
        )
        starts = [lambda: self._start_broker(source)]
        if self._with_mirrormaker:
            target = self._target = Broker(
                workspace=self.workspace, name="target", home=home, auto_create_topics=True
            )
            starts.append(lambda: self._start_broker(target))
        _together(starts, self.workspace)
        if self._with_producer:
            self._producer = Producer(
                bootstrap=source.bootstrap, topics=self.topics, partitions=self.partitions
            )
            self._producer.start()
        if self._with_mirrormaker:
            self._mirrormaker = MirrorMaker(
                workspace=self.workspace,
                home=home,
                source=source,
                target=self.target,
                group=self.group,
                topics=self.topics,
                restarts=self._mirrormaker_restarts,
            )
            self._timed("MirrorMaker", self._mirrormaker.start)

    def _start_broker(self, broker: Broker) -> None:
        self._timed(f"Kafka broker {broker.name}", broker.start)
        for topic in self.topics:
            broker.create_topic(topic, self.partitions)

    def _start_elasticsearch(self) -> None:
        self._elasticsearch = Elasticsearch(
            workspace=self.workspace, progress=self._progress, users=self._elasticsearch_users
        )
        self._timed("Elasticsearch", self._elasticsearch.start)

    def _start_ssh(self) -> None:
        if self._with_sshd:
            self._sshd = AsyncsshServer(workspace=self.workspace, password=self._sshd_password)
            self._timed("SSH server", self._sshd.start)
        if self._with_openssh:
            self._openssh = OpenSshServer(workspace=self.workspace)
            self._timed("OpenSSH server", self._openssh.start)

    def _timed(self, name: str, start: Callable[[], None]) -> None:
        self._progress(f"{name}: starting")
        began = time.monotonic()
        start()
        self._progress(f"{name}: up after {time.monotonic() - began:.1f} s")


def _together(jobs: Sequence[Callable[[], None]], workspace: Workspace) -> None:
    """Run jobs at the same time; at the first failure end the laboratory, so that all jobs end.

    A Ctrl-C does the same: the threads of a half-started laboratory would otherwise wait for parts
    that nobody wants any more.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        futures: list[Future[None]] = [pool.submit(job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            workspace.close()
            raise
        failed = [error for future in done if (error := future.exception())]
        if failed:
            workspace.close()
            raise failed[0]


def _there(part: _Part | None, name: str) -> _Part:
    if part is None:
        raise LabError(f"this laboratory has no {name}, or it isn't started")
    return part
