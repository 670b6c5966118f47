"""Half a cluster: one broker that runs, and what another one that is gone has left without leader.

The broker that runs has listeners besides that a client can't use as it uses the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from lab import client
from lab.certificates import Certificates, make_certificates
from lab.kafka import Broker
from lab.laboratory import Laboratory
from lab.network import HOST, free_port
from tests.integration.support import eventually


def coordinated(name: str) -> str:
    """Return the name of a group that the broker that runs coordinates.

    :param name: how it begins.
    """
    # Java's hash of the name decides between two partitions; it is odd when this sum is.
    return name if sum(map(ord, name)) % 2 == 0 else f"{name}a"


GROUP = coordinated("mirror-")
"""A group with commits in both partitions of the topic."""
STRAY_GROUP = f"{GROUP}a"
"""A group that the broker coordinated that is gone."""
TOPIC = "orders"
MESSAGES = 10
COMMITTED = 4


@dataclass(frozen=True)
class Halved:
    """What is left of the cluster.

    :param broker: the broker that runs, with a listener that anybody may use. It leads partition 0
        of `TOPIC`, and nobody leads partition 1.
    :param tls: its listener with TLS.
    :param lost: its listener that sends clients to another address, which is `nowhere`.
    :param nowhere: ``host:port`` at which nobody listens.
    :param certificates: those of the listener with TLS.
    """

    broker: Broker
    tls: str
    lost: str
    nowhere: str
    certificates: Certificates

    @property
    def bootstrap(self) -> str:
        """The listener that anybody may use."""
        return self.broker.bootstrap


@contextmanager
def halved_cluster(lab: Laboratory, *, name: str, home: Path) -> Iterator[Halved]:
    """Start two brokers and stop one of them; stop the other in the end.

    :param home: the folder of their Kafka distribution.
    """
    plain, tls, lost, nowhere, controller = (f"{HOST}:{free_port()}" for _ in range(5))
    certificates = make_certificates(lab.workspace.secrets / name)
    keys = lab.workspace.secrets / f"{name}.pem"
    keys.write_bytes(certificates.key.read_bytes() + certificates.certificate.read_bytes())
    quorum: dict[str, str | int] = {
        "controller.quorum.voters": f"1@{controller}",
        "offsets.topic.num.partitions": 2,
    }
    broker = _broker(
        lab, name, home, plain,
        **quorum,
        **{
            "listeners": f"PLAINTEXT://{plain},TLS://{tls},LOST://{lost},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{plain},TLS://{tls},LOST://{nowhere}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "LOST:PLAINTEXT,TLS:SSL",
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(keys),
        },
    )  # fmt: skip
    other_address = f"{HOST}:{free_port()}"
    other = _broker(
        lab, f"{name}-other", home, other_address, cluster=name,
        **quorum,
        **{
            "process.roles": "broker",
            "node.id": 2,
            "listeners": f"PLAINTEXT://{other_address}",
            "advertised.listeners": f"PLAINTEXT://{other_address}",
        },
    )  # fmt: skip
    broker.start()
    try:
        other.start()
        try:
            _fill(broker)
        finally:
            other.stop()
        eventually(
            lambda: _leaders(broker, TOPIC) == {0: 1, 1: -1},
            "the partitions of the other broker have no leader",
            seconds=30,
        )
        yield Halved(broker, tls, lost, nowhere, certificates)
    finally:
        broker.stop()


def _broker(
    lab: Laboratory,
    name: str,
    home: Path,
    address: str,
    *,
    cluster: str | None = None,
    **settings: str | int,
) -> Broker:
    broker = Broker(
        workspace=lab.workspace, name=name, home=home, settings=settings, cluster=cluster
    )
    broker.bootstrap, broker.port = address, int(address.rpartition(":")[2])
    return broker


def _fill(broker: Broker) -> None:
    """Make topics of which each broker leads one partition, messages and commits."""
    admin = client.admin(broker.bootstrap)
    eventually(
        lambda: len(admin.list_topics(timeout=10).brokers) == 2, "both brokers are in", seconds=30
    )
    for topic, settings in {"__consumer_offsets": {"cleanup.policy": "compact"}, TOPIC: {}}.items():
        new = NewTopic(topic, num_partitions=2, replica_assignment=[[1], [2]], config=settings)
        admin.create_topics([new])[topic].result(timeout=20)
        eventually(
            lambda topic=topic: _leaders(broker, topic) == {0: 1, 1: 2},  # type: ignore[misc]
            f"each broker leads a partition of {topic}",
            seconds=30,
        )
    for partition in range(2):
        broker.produce(TOPIC, partition, MESSAGES)
    committed = {(TOPIC, partition): COMMITTED for partition in range(2)}
    client.commit_offsets(broker.bootstrap, GROUP, committed)


def _leaders(broker: Broker, topic: str) -> dict[int, int]:
    """Return the id of the broker that leads each partition, -1 for none."""
    # A new client each time: an old one keeps the leader that it knew.
    admin = client.admin(broker.bootstrap)
    partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return {number: one.leader for number, one in partitions.items()}
