"""A cluster of three real nodes of which one dies or hangs, or that is left without a master."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from airflow_lag_provider.errors import ElasticsearchTimedOut
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_flush import flush
from airflow_lag_provider.spool import Spool
from lab.elasticsearch import Elasticsearch
from lab.elasticsearch_cluster import ElasticsearchCluster
from lab.errors import PartError
from lab.workspace import Workspace
from tests.integration.hooks.tasks import INDEX, Ended, Tasks
from tests.integration.support import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ElasticsearchCluster]:
    with Workspace() as workspace:
        cluster = ElasticsearchCluster(workspace=workspace)
        cluster.start()
        yield cluster


@pytest.fixture
def tasks(cluster: ElasticsearchCluster, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """The cluster with one document, on two of its nodes, and a connection to all three."""
    tasks = Tasks(cluster, monkeypatch)
    tasks.connect(cluster.connection())
    cluster.request("DELETE", f"/{INDEX}?ignore_unavailable=true")
    is_stored(tasks.run("before"))
    wait_for(cluster, "green")
    return tasks


def test_a_node_that_dies_costs_no_snapshot(cluster: ElasticsearchCluster, tasks: Tasks) -> None:
    """Without a spool, while the primary's node is killed and comes back: each task stores its."""
    wanted = {"before"}
    node = primary(cluster)
    node.kill()
    try:
        for number in range(5):
            is_stored(tasks.run(f"without-{number}"))
            wanted.add(f"without-{number}")
        assert tasks.documents().keys() == wanted
    finally:
        cluster.start()
    is_stored(tasks.run("after"))
    wait_for(cluster, "green")
    assert tasks.documents().keys() == {*wanted, "after"}


def test_a_node_that_hangs_is_waited_for(
    cluster: ElasticsearchCluster, tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other node can store a document until the cluster has given up the primary's."""
    tasks.connect(cluster.connection(), request_timeout=1)
    node = primary(cluster)
    node.pause()
    try:
        failed = without_spool(tasks, monkeypatch)
        waits(tasks.run("waiting"))
    finally:
        node.resume()
    assert type(failed.error) is ElasticsearchTimedOut
    assert failed.retried
    assert all(f"127.0.0.1:{one.port}" in failed.text for one in cluster.nodes)
    wait_for(cluster, "green")
    tasks.connect(cluster.connection())
    arrives(tasks, spool, may_be_stored={"failed"})


def test_without_a_master_nothing_can_be_stored(
    cluster: ElasticsearchCluster, tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single node of three says 503 and what it lacks; that is no block of the index."""
    *others, last = cluster.nodes
    for node in others:
        node.stop()
    try:
        eventually(lambda: has_no_master(last), "the last node has no master", seconds=30)
        # Of several hosts the one that was asked last has the last word.
        tasks.connect(last.connection(), request_timeout=2)
        failed = without_spool(tasks, monkeypatch)
        works, words = LagElasticsearchHook(elasticsearch_conn_id="elastic").test_connection()
        tasks.connect(cluster.connection(), request_timeout=2)
        waits(tasks.run("waiting"))
    finally:
        cluster.start()
    assert type(failed.error) is ElasticsearchTimedOut
    assert failed.retried
    assert "said 503" in failed.text
    assert not works
    assert "master" in words
    wait_for(cluster, "green")
    tasks.connect(cluster.connection())
    arrives(tasks, spool, may_be_stored=set())


def primary(cluster: ElasticsearchCluster) -> Elasticsearch:
    """Return the node that has the index's primary shard."""
    shards = cluster.request("GET", f"/_cat/shards/{INDEX}?format=json")
    return next(cluster.node(one["node"]) for one in shards if one["prirep"] == "p")


def wait_for(cluster: ElasticsearchCluster, status: str) -> None:
    path = f"/_cluster/health/{INDEX}?wait_for_status={status}&timeout=60s"
    assert not cluster.request("GET", path, timeout=65)["timed_out"]


def has_no_master(node: Elasticsearch) -> bool:
    try:
        node.request("GET", "/_cluster/health?master_timeout=1s&timeout=1s")
    except PartError as error:
        return "503" in str(error)
    return False


def without_spool(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> Ended:
    with monkeypatch.context() as without:
        without.delenv("AIRFLOW__LAG__SPOOL_DIR")
        return tasks.run("failed")


def is_stored(ended: Ended) -> None:
    assert ended.result, ended.text
    assert "waiting" not in ended.result


def waits(ended: Ended) -> None:
    assert ended.result, ended.text
    assert ended.result["waiting"] == 1


def arrives(tasks: Tasks, spool: Spool, *, may_be_stored: set[str]) -> None:
    """Assert that what waits is stored once, besides what was there."""
    flushed = asyncio.run(flush(spool))
    assert (len(flushed.sent), flushed.left) == (1, 0), flushed.reasons
    assert tasks.documents().keys() - may_be_stored == {"before", "waiting"}
    assert spool.files() == []
