"""What a snapshot says of real groups, beside what an independent client reads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from airflow_lag_provider.snapshot import TopicSnapshot
from lab import client
from tests.integration.support import Bench, context, member, mirror, write_project

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("server", ["mirrormaker", "openssh"])
def test_a_snapshot_equals_what_an_independent_client_reads(bench: Bench, server: str) -> None:
    """Over both SSH servers, offsets and lag of all 18 partitions are the client's own."""
    summary = bench.operator(ssh_conn_id=server).execute(context("run"))
    (document,) = bench.documents(topic="orders")
    expected = bench.lab.source.read_offsets(bench.lab.group, "orders")
    snapshot = TopicSnapshot.from_document(document)
    assert {row.partition: (row.committed, row.end) for row in snapshot.partitions} == {
        number: (offsets.committed, offsets.end) for number, offsets in expected.items()
    }
    assert all(document[f"p{number}"] == offsets.lag for number, offsets in expected.items())
    assert document["group_state"] == "active"
    assert document["partitions"]["total"] == 18
    assert summary["lag"] == {"total": 0, "max": 0}


def test_a_group_with_a_space_and_topics_that_share_a_beginning(bench: Bench) -> None:
    """Never committed is null, beyond the end is negative, and orders is not orders.eu."""
    lab = bench.lab
    group = "a group; $(id) 'quoted'"
    lab.source.create_topic("orders.eu", 3)
    for partition in range(3):
        lab.source.produce("orders.eu", partition, 10)
    topics = ["orders", "orders.eu"]
    with member(lab.source.bootstrap, group=group, topics=topics) as consumer:
        eu = [TopicPartition("orders.eu", 1, 4), TopicPartition("orders.eu", 2, 100_000)]
        consumer.commit(offsets=[*eu, TopicPartition("orders", 0, 2)], asynchronous=False)
        for topic in ("orders", "orders.eu"):
            bench.operator(topic=topic, group=group).execute(context("run"))
    (eu_document,) = bench.documents(topic="orders.eu")
    (document,) = bench.documents(topic="orders")
    assert [eu_document[name] for name in ("p0", "p1", "p2")] == [None, 6, -99_990]
    assert "p3" not in eu_document
    assert eu_document["lag"] == {
        "total": 6,
        "max": 6,
        "max_partition": 1,
        "reported_mismatch": False,
    }
    counts = {"total": 3, "uncommitted": 1, "negative": 1, "missing": 0}
    assert eu_document["partitions"] == counts
    assert eu_document["group"] == group
    assert eu_document["partition"][0]["client"] == "a member"
    counts = {"total": 18, "uncommitted": 17, "negative": 0, "missing": 0}
    assert document["partitions"] == counts
    assert document["p0"] == client.end_offsets(lab.source.bootstrap, "orders")[0] - 2


def test_a_group_beyond_ascii_is_found(bench: Bench) -> None:
    """A group's id may hold any letters, whatever locale the SSH session has."""
    group = "größe-группа"
    client.commit_offsets(bench.lab.source.bootstrap, group, {("orders", 0): 1})
    bench.operator(group=group).execute(context("run"))
    (document,) = bench.documents(group=group)
    assert document["group_state"] == "empty"
    assert document["p0"] == client.end_offsets(bench.lab.source.bootstrap, "orders")[0] - 1


def test_topics_that_no_configuration_names_are_reported(bench: Bench, tmp_path: Path) -> None:
    """A topic that somebody began to mirror shows in every document of its group."""
    mirrors = {"oasis": mirror(bench.lab, topics={"orders": None, "clicks": None})}
    file = write_project(tmp_path, mirrors=mirrors).parent / "include" / "mirrors.yaml"
    bench.operator(mirrors_file=str(file)).execute(context("run"))
    (document,) = bench.documents(topic="orders")
    assert document["unconfigured_topics"] == ["payments"]


def test_several_topics_share_one_describe(bench: Bench) -> None:
    """An operator with several topics runs one command and writes a document for each."""
    before = bench.lab.sshd.counts().commands
    summary = bench.operator(topics=["orders", "clicks"]).execute(context("run"))
    assert bench.lab.sshd.counts().commands == before + 1
    assert {document["topic"] for document in bench.documents()} == {"orders", "clicks"}
    assert summary["stored"] == 2


def test_the_command_that_ran_is_the_one_in_the_summary(bench: Bench) -> None:
    """What the XCom shows is, letter by letter, what reached the host."""
    summary = bench.operator().execute(context("run"))
    assert bench.lab.sshd.commands()[-1] == summary["command"]


def test_a_retry_replaces_the_failure_and_leaves_one_document(bench: Bench) -> None:
    """The tries of a run share a document; in the end it is the success."""
    started_at = datetime.now(UTC)
    with pytest.raises(Exception, match="ToolNotFound"):
        bench.operator(tool="/nowhere/tool.sh").execute(context("run", started_at=started_at))
    (failure,) = bench.documents()
    assert failure["event"]["outcome"] == "failure"
    bench.operator().execute(context("run", try_number=2, started_at=started_at))
    (success,) = bench.documents()
    assert success["event"]["outcome"] == "success"
    assert success["airflow"]["try_number"] == 2


def test_a_failure_never_replaces_a_success(bench: Bench) -> None:
    """A try that fails after its document was written, and was not told so, changes nothing."""
    started_at = datetime.now(UTC)
    bench.operator().execute(context("run", started_at=started_at))
    (before,) = bench.documents()
    with pytest.raises(Exception, match="ToolNotFound"):
        bench.operator(tool="/nowhere/tool.sh").execute(
            context("run", try_number=2, started_at=started_at)
        )
    assert bench.documents() == [before]


def test_a_dated_index_is_made_for_the_scheduled_instant(bench: Bench) -> None:
    """The date in an index's name is filled in, and the index has the mapping."""
    summary = bench.operator(index="consumer_lag-%Y").execute(context("run"))
    index = f"consumer_lag-{datetime.now(UTC):%Y}"
    assert summary["index"] == index
    mapping = bench.elasticsearch.request("GET", f"/{index}/_mapping")[index]["mappings"]
    assert mapping["properties"]["p17"] == {"type": "long"}
    assert mapping["properties"]["topic"] == {"type": "keyword"}
