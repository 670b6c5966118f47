"""What tools of three versions say of brokers of two: each state becomes the right document.

The tools run on the host as always, so each test is a run of the operator from SSH to document.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from confluent_kafka import Consumer, ConsumerGroupState, TopicPartition

from airflow_lag_provider.errors import LagError
from lab import client
from lab.laboratory import Laboratory
from lab.network import HOST, free_port
from tests.integration.guarded import Guarded, guarded_broker
from tests.integration.support import TOOLS, Bench, context, eventually, member

pytestmark = pytest.mark.integration

BROKERS = ["3.9.1", "4.3.1"]
PARTITIONS = 4
# Messages of each partition.
ENDS = [10, 20, 30, 0]
READERS_GROUP = "readers-group"


@pytest.fixture(scope="module")
def brokers(lab: Laboratory, homes: dict[str, Path]) -> Iterator[Callable[[str], Guarded]]:
    """Return a function that returns the broker of a version, with two topics and no group."""
    with ExitStack() as stack:
        started: dict[str, Guarded] = {}

        def broker_of(version: str) -> Guarded:
            if version not in started:
                name = f"states-{version.replace('.', '-')}"
                one = stack.enter_context(guarded_broker(lab, name=name, home=homes[version]))
                for topic in ("orders", "orders.eu"):
                    one.plain.create_topic(topic, PARTITIONS)
                    for partition, count in enumerate(ENDS):
                        one.plain.produce(topic, partition, count)
                client.commit_offsets(one.plain.bootstrap, READERS_GROUP, {("orders", 0): 0})
                one.allow_describe("reader", READERS_GROUP)
                started[version] = one
            return started[version]

        yield broker_of


class Pair:
    """One broker, one tool, and the documents of runs with them.

    :param broker: the broker; groups of tests are named after the tool, so that each has its own.
    """

    def __init__(self, bench: Bench, broker: Guarded, tool: Path, version: str) -> None:
        self.bench = bench
        self.broker = broker
        self.bootstrap = broker.plain.bootstrap
        self._tool = tool
        self.version = version

    def group(self, name: str) -> str:
        return f"{name} of {self.version}"

    def document(self, group: str, **changes: Any) -> dict[str, Any]:
        """Run the operator; return the document it left."""
        arguments = {
            "mirror": self.bootstrap,
            "bootstrap_servers": self.bootstrap,
            "group": group,
            "tool": str(self._tool),
            **changes,
        }
        index = "consumer_lag"
        self.bench.elasticsearch.request("DELETE", f"/{index}?ignore_unavailable=true")
        try:
            self.bench.operator(**arguments).execute(context("run"))
        except (LagError, AirflowFailException):
            (document,) = self.bench.documents(index)
            assert document["event"]["outcome"] == "failure"
            assert not {"p0", "lag", "partition", "partitions"} & document.keys()
            return document
        (document,) = self.bench.documents(index)
        assert document["event"]["outcome"] == "success"
        return document

    def member(self, group: str, **settings: Any) -> AbstractContextManager[Consumer]:
        """Return a member that owns all partitions of topic orders."""
        return member(self.bootstrap, group=group, topics=["orders"], **settings)

    def error(self, group: str, **changes: Any) -> dict[str, str]:
        """Run the operator, which must fail; return the document's ``error``."""
        found: dict[str, str] = self.document(group, **changes)["error"]
        return found


@pytest.fixture(params=[(broker, tool) for broker in BROKERS for tool in TOOLS], ids="-".join)
def pair(
    request: pytest.FixtureRequest,
    bench: Bench,
    homes: dict[str, Path],
    brokers: Callable[[str], Guarded],
) -> Pair:
    """A broker of one version and the tool of one, all combinations."""
    broker, tool = request.param
    path = homes[tool] / "bin" / "kafka-consumer-groups.sh"
    return Pair(bench, brokers(broker), path, tool)


def lags(document: dict[str, Any]) -> list[int | None]:
    return [document[f"p{number}"] for number in range(PARTITIONS)]


def test_an_active_group(pair: Pair) -> None:
    """Committed, never committed, beyond the end: lag, null, below zero; an owner for each."""
    group = pair.group("active")
    with pair.member(group) as consumer:
        offsets = [TopicPartition("orders", 0, 4), TopicPartition("orders", 3, 7)]
        consumer.commit(offsets=offsets, asynchronous=False)
        document = pair.document(group)
    assert document["group_state"] == "active"
    assert lags(document) == [6, None, None, -7]
    assert [row["end"] for row in document["partition"]] == ENDS
    assert {row["client"] for row in document["partition"]} == {"a member"}
    assert {row["host"] for row in document["partition"]} == {HOST}
    assert document["lag"]["total"] == 6
    assert document["lag"]["reported_mismatch"] is False
    counts = document["partitions"]
    assert (counts["total"], counts["uncommitted"], counts["negative"]) == (4, 2, 1)


def test_an_empty_group_and_its_partitions_without_a_commit(pair: Pair) -> None:
    """Without members the tools leave out what never committed; it isn't 0 and not null."""
    group = pair.group("empty")
    client.commit_offsets(pair.bootstrap, group, {("orders", 0): 4, ("orders", 2): 30})
    document = pair.document(group)
    assert document["group_state"] == "empty"
    assert {name: document[name] for name in ("p0", "p2")} == {"p0": 6, "p2": 0}
    assert not {"p1", "p3"} & document.keys()
    assert document["partitions"]["total"] == 2


def test_a_rebalancing_group(pair: Pair) -> None:
    """A member that doesn't come back when another one joins: the lag of the last commits."""
    group = pair.group("rebalancing")
    with pair.member(group) as consumer:
        offsets = [TopicPartition("orders", number, 0) for number in range(PARTITIONS)]
        consumer.commit(offsets=offsets, asynchronous=False)
        second = Consumer({"bootstrap.servers": pair.bootstrap, "group.id": group})
        second.subscribe(["orders"])
        try:
            # The first one isn't polled, so it can't give its partitions back.
            deadline = time.monotonic() + 20
            while client.group_state(pair.bootstrap, group) is ConsumerGroupState.STABLE:
                assert time.monotonic() < deadline
                second.poll(0.2)
            document = pair.document(group)
        finally:
            second.close()
    assert document["group_state"] == "rebalancing"
    assert lags(document) == ENDS


@pytest.mark.parametrize("pair", [("4.3.1", tool) for tool in TOOLS], ids="-".join, indirect=True)
def test_a_group_of_the_new_protocol(pair: Pair) -> None:
    """On a 4.x broker newer tools see it; the old one calls it missing, and the advice says so."""
    group = pair.group("new")
    with pair.member(group, **{"group.protocol": "consumer"}) as consumer:
        offsets = [TopicPartition("orders", number, 0) for number in range(PARTITIONS)]
        consumer.commit(offsets=offsets, asynchronous=False)
        document = pair.document(group)
    if pair.version == "2.6.2":
        assert document["error"]["type"] == "GroupNotFound"
        assert "older than Kafka 3.5" in document["error"]["message"]
    else:
        assert document["group_state"] == "active"
        assert lags(document) == ENDS


def test_a_group_that_is_not_there(pair: Pair) -> None:
    """Whatever the version calls it, it is a missing group, which the message names."""
    error = pair.error("no-such-group")
    assert error["type"] == "GroupNotFound"
    assert "'no-such-group'" in error["message"]


def test_a_topic_that_was_deleted(pair: Pair) -> None:
    """Its rows vanish, those of the group's other topic stay; nothing of it is 0."""
    group, doomed = pair.group("deleted"), f"doomed-{pair.version}"
    pair.broker.plain.create_topic(doomed, 2)
    client.commit_offsets(pair.bootstrap, group, {(doomed, 0): 0, ("orders", 1): 5})
    assert pair.document(group, topic=doomed)["p0"] == 0
    client.delete_topic(pair.bootstrap, doomed)
    eventually(
        lambda: pair.error(group, topic=doomed)["type"] == "TopicNotInGroup",
        "the broker has forgotten the commits of the deleted topic",
        seconds=30,
    )
    assert pair.document(group)["p1"] == 15


def test_a_user_who_may_not_see_the_topics(pair: Pair) -> None:
    """The tool prints nothing and ends well; the document says what is usually missing."""
    config = pair.broker.command_config("reader", "r-pass")
    error = pair.error(
        READERS_GROUP, bootstrap_servers=pair.broker.bootstrap, command_config=config
    )
    assert error["type"] == "NothingPrinted"
    assert "grant DESCRIBE" in error["message"]


def test_a_user_who_may_not_see_the_group(pair: Pair) -> None:
    """A missing right on the group is named as one."""
    config = pair.broker.command_config("stranger", "s-pass")
    error = pair.error(
        READERS_GROUP, bootstrap_servers=pair.broker.bootstrap, command_config=config
    )
    assert error["type"] == "AuthorizationDenied"


def test_a_user_with_a_wrong_password(pair: Pair) -> None:
    """Wrong credentials are told from missing rights, and don't show."""
    config = pair.broker.command_config("reader", "hush-wrong")
    error = pair.error(
        READERS_GROUP, bootstrap_servers=pair.broker.bootstrap, command_config=config
    )
    assert error["type"] == "AuthenticationFailed"
    assert "hush-wrong" not in json.dumps(error)


def test_a_client_without_the_credentials_that_the_listener_wants(pair: Pair) -> None:
    """A plain client at a listener with SASL finds nobody who answers; the advice knows."""
    error = pair.error(READERS_GROUP, bootstrap_servers=pair.broker.bootstrap, timeout=10)
    assert error["type"] == "BrokerUnreachable"
    assert "TLS or SASL" in error["message"]


@pytest.mark.parametrize("pair", [("3.9.1", tool) for tool in TOOLS], ids="-".join, indirect=True)
class TestTool:
    """What depends on the tool alone."""

    def test_a_broker_that_hangs(self, pair: Pair) -> None:
        """It takes connections and answers nothing: the tool's reason comes in time."""
        pair.broker.plain.pause()
        try:
            assert pair.error("any", timeout=10)["type"] == "BrokerUnreachable"
        finally:
            pair.broker.plain.resume()

    def test_a_broker_that_is_down(self, pair: Pair) -> None:
        """Nobody listens at the address."""
        nobody = f"{HOST}:{free_port()}"
        error = pair.error("any", bootstrap_servers=nobody, timeout=10)
        assert error["type"] == "BrokerUnreachable"

    def test_a_broker_that_no_server_knows(self, pair: Pair) -> None:
        """The name can't be resolved on the host: exit code 1 before Kafka 3.8, 0 since."""
        error = pair.error("any", bootstrap_servers="no-such-host.invalid:9092", timeout=10)
        assert error["type"] == "BrokerUnreachable"
        assert "resolved" in error["message"]

    def test_a_client_configuration_that_is_not_there(self, pair: Pair) -> None:
        """A wrong path is named, whether the tool crashes or reports it."""
        error = pair.error("any", command_config="/nowhere/client.properties")
        assert error["type"] == "CommandConfigNotFound"
        assert "/nowhere/client.properties" in error["message"]

    def test_a_heap_that_does_not_suffice(self, pair: Pair) -> None:
        """A JVM without memory is a matter of jvm_opts."""
        assert pair.error("any", jvm_opts="-Xmx1k")["type"] == "JavaFailed"
