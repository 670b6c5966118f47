"""Topics that lose partitions, grow, are deleted and made anew, under a running MirrorMaker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from confluent_kafka import TopicPartition

from airflow_lag_provider import recall
from lab import client
from lab.laboratory import Laboratory
from lab.mirrormaker import MirrorMaker
from lab.offsets import read_offsets
from tests.integration.support import SUPERUSER, Bench, context, eventually, member

pytestmark = pytest.mark.integration

GROUP = "changing-group"
OLD_SCRIPT = {
    "@timestamp": {"type": "date"},
    "topic": {"type": "text"},
    **{f"p{number}": {"type": "integer"} for number in range(18)},
}


class Story:
    """Runs of one topic, one after the other.

    :param changes: what the operator gets.
    """

    def __init__(self, bench: Bench, index: str = "consumer_lag", **changes: Any) -> None:
        self._bench = bench
        self._index = index
        self._changes = changes
        self._runs = 0

    def next(self, *, remembers: bool = True, run_type: str = "scheduled") -> dict[str, Any]:
        """Take a snapshot; return its document.

        :param remembers: whether the process is that of the run before.
        """
        if not remembers:
            recall._memory.clear()
        self._runs += 1
        run = context(f"run {self._runs}")
        run["dag_run"].run_type = run_type
        self._bench.operator(index=self._index, **self._changes).execute(run)
        return self.last()

    def last(self) -> dict[str, Any]:
        """Return the newest document."""
        index = datetime.now(UTC).strftime(self._index)
        return self._bench.documents(index, group=self._changes["group"])[-1]


@pytest.fixture
def mirrormaker(lab: Laboratory) -> Iterator[MirrorMaker]:
    """A MirrorMaker that copies `changing` with 4 partitions and `steady` with 2."""
    for topic, partitions in (("changing", 4), ("steady", 2)):
        lab.source.create_topic(topic, partitions)
        for partition in range(partitions):
            lab.source.produce(topic, partition, 50)
    started = MirrorMaker(
        workspace=lab.workspace, home=lab.kafka_home, source=lab.source, target=lab.target,
        group=GROUP, topics=("changing", "steady"),
    )  # fmt: skip
    started.start()
    yield started
    started.stop()
    for topic in ("changing", "steady"):
        client.delete_topic(lab.source.bootstrap, topic)


def wait_until_committed(lab: Laboratory, topic: str, partitions: int) -> None:
    """Wait until MirrorMaker owns all partitions and has committed their ends."""
    bootstrap = lab.source.bootstrap

    def done() -> bool:
        offsets = read_offsets(bootstrap, GROUP, topic)
        owned = client.owned_partitions(bootstrap, GROUP, topic)
        return len(offsets) == len(owned) == partitions and all(
            one.lag == 0 for one in offsets.values()
        )

    eventually(done, f"{topic} is mirrored with {partitions} partitions", seconds=150)


def test_a_topic_grows_is_deleted_and_made_anew(bench: Bench, mirrormaker: MirrorMaker) -> None:
    """Each change is said once; no figure is below zero or larger than what was written."""
    lab, bootstrap = bench.lab, bench.lab.source.bootstrap
    story = Story(bench, topic="changing", group=GROUP, mirror="changing")
    wait_until_committed(lab, "changing", 4)
    first = story.next()
    assert first["partitions"]["missing"] == 0
    assert "changed" not in first["partitions"]

    client.grow_topic(bootstrap, "changing", 6)
    for partition in (4, 5):
        lab.source.produce("changing", partition, 7)
    wait_until_committed(lab, "changing", 6)
    grown = story.next()["partitions"]
    assert (grown["total"], grown["changed"], grown["missing"]) == (6, "grew", 0)
    assert "changed" not in story.next()["partitions"]

    client.delete_topic(bootstrap, "changing")
    eventually(
        lambda: not client.owned_partitions(bootstrap, GROUP, "changing"),
        "MirrorMaker lets the deleted topic go",
        seconds=150,
    )
    with pytest.raises(AirflowFailException, match="It was there until 2"):
        story.next()
    assert story.last()["error"]["type"] == "TopicNotInGroup"

    lab.source.create_topic("changing", 3)
    for partition in range(3):
        lab.source.produce("changing", partition, 5)
    eventually(
        lambda: client.owned_partitions(bootstrap, GROUP, "changing") == {0, 1, 2},
        "MirrorMaker has the new topic",
        seconds=150,
    )
    anew = story.next()
    counts = anew["partitions"]
    assert (counts["total"], counts["changed"], counts["missing"]) == (3, "recreated", 0)
    assert "p3" not in anew
    assert anew["lag"]["total"] is None or 0 <= anew["lag"]["total"] <= 15
    again = story.next()["partitions"]
    assert (again["missing"], again.get("changed")) == (0, None)


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("index", ["consumer_lag", "consumer_lag-%Y.%m.%d", "old script"])
def test_partitions_are_missing_until_they_are_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, index: str, remembers: bool
) -> None:
    """From memory or Elasticsearch, they are counted and named; runs by hand change nothing."""
    lab = bench.lab
    topic, group = "halved", f"halved {index[-6:]} {remembers}"
    lab.source.create_topic(topic, 4)
    if index == "old script":
        index = "consumer_lag"
        body = {"mappings": {"properties": OLD_SCRIPT}}
        bench.elasticsearch.request("PUT", f"/{index}", body)
        # Adding fields to somebody else's index takes the right to manage it.
        connection = {
            **bench.connections["elastic"],
            "login": SUPERUSER.user,
            "password": SUPERUSER.password,
        }
        monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(connection))
    story = Story(bench, index, topic=topic, group=group, mirror="halved")
    with member(lab.source.bootstrap, group=group, topics=[topic]) as consumer:
        offsets = [TopicPartition(topic, number, 0) for number in (0, 2)]
        consumer.commit(offsets=offsets, asynchronous=False)
        assert story.next(remembers=False)["partitions"]["missing"] == 0
    gone = story.next(remembers=remembers)["partitions"]
    assert (gone["total"], gone["missing"], gone["missing_ids"]) == (2, 2, [1, 3])
    assert gone["changed"] == "shrank"
    for run_type in ("manual", "backfill", "scheduled"):
        still = story.next(remembers=remembers, run_type=run_type)["partitions"]
        assert still["missing_ids"] == [1, 3]
        # What isn't scheduled is compared, and nothing is compared with it.
        assert "changed" not in still
    with member(lab.source.bootstrap, group=group, topics=[topic]):
        back = story.next(remembers=remembers)["partitions"]
    assert (back["total"], back["missing"], back["changed"]) == (4, 0, "grew")
