"""One laboratory for all integration tests of the package; it is started when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cache import KAFKA_VERSION
from lab.elasticsearch import Elasticsearch
from lab.kafka import write_distribution
from lab.laboratory import Laboratory
from lab.offsets import read_offsets
from tests.integration.support import (
    ROLES,
    SUPERUSER,
    TOOLS,
    WRITER,
    Bench,
    as_environment,
    eventually,
)


@pytest.fixture(scope="session")
def lab() -> Iterator[Laboratory]:
    """Brokers, MirrorMaker and both SSH servers, with a known number of messages and no traffic."""
    with Laboratory(
        producer=False, elasticsearch=False, sshd_password=True, openssh=True
    ) as laboratory:
        for number, topic in enumerate(laboratory.topics):
            for partition in range(laboratory.partitions):
                laboratory.source.produce(topic, partition, 5 + number + partition)
        wait_until_mirrored(laboratory)
        yield laboratory


@pytest.fixture(scope="session")
def elasticsearch(lab: Laboratory) -> Iterator[Elasticsearch]:
    """Elasticsearch with passwords and a user that has only the rights the README names."""
    server = Elasticsearch(workspace=lab.workspace, users=(SUPERUSER, WRITER), roles=ROLES)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def homes(lab: Laboratory) -> dict[str, Path]:
    """A Kafka distribution of each version."""
    others = {
        version: write_distribution(lab.workspace, print, version)
        for version in TOOLS
        if version != KAFKA_VERSION
    }
    return {KAFKA_VERSION: lab.kafka_home, **others}


@pytest.fixture
def bench(lab: Laboratory, elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The laboratory with the usual connections and an index that isn't there yet."""
    bench = Bench(lab, elasticsearch)
    bench.connections = {
        "mirrormaker": lab.sshd.connection(),
        "openssh": lab.openssh.connection(),
        "elastic": elasticsearch.connection(WRITER),
    }
    for name, value in as_environment(bench.connections).items():
        monkeypatch.setenv(name, value)
    elasticsearch.request("DELETE", "/consumer_lag?ignore_unavailable=true")
    return bench


def wait_until_mirrored(laboratory: Laboratory) -> None:
    """Wait until MirrorMaker has committed everything it was given."""

    def done() -> bool:
        return all(
            offsets.lag == 0
            for topic in laboratory.topics
            for offsets in read_offsets(
                laboratory.source.bootstrap, laboratory.group, topic
            ).values()
        )

    eventually(done, "MirrorMaker has caught up", seconds=60)
