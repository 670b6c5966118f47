"""What becomes of a task when Elasticsearch doesn't take its document, on a real server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import DocumentRefused, ElasticsearchOverloaded, IndexUnusable
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_flush import flush
from airflow_lag_provider.spool import Spool
from lab.elasticsearch import Credentials, Elasticsearch
from lab.workspace import Workspace
from tests.integration.hooks.faults import FAULTS, READER, Fault
from tests.integration.hooks.tasks import INDEX, LAGS, Tasks
from tests.integration.support import ROLES, SUPERUSER, WRITER, search

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ALL_ROLES = f"""{ROLES}
lag_reader:
  cluster: ["monitor"]
  indices:
    - names: ["consumer_lag*"]
      privileges: ["view_index_metadata", "read"]
"""
# Less than a topic of a thousand partitions, and more than all other documents here together.
PRESSURE = "indexing_pressure.memory.limit: 64kb"


@pytest.fixture(scope="module")
def server() -> Iterator[Elasticsearch]:
    with Workspace() as workspace:
        server = Elasticsearch(
            workspace=workspace,
            users=(SUPERUSER, WRITER, Credentials(*READER, ("lag_reader",))),
            roles=ALL_ROLES,
            settings=(PRESSURE,),
        )
        server.start()
        yield server
        server.stop()


@pytest.fixture
def tasks(server: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """The server without our index, and the usual connection."""
    tasks = Tasks(server, monkeypatch)
    tasks.connect(server.connection(WRITER))
    server.request("DELETE", f"/{INDEX},{INDEX}-1,{INDEX}-2,{INDEX}-3?ignore_unavailable=true")
    return tasks


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_what_elasticsearch_does_not_take(
    server: Elasticsearch,
    tasks: Tasks,
    spool: Spool,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a spool the task fails and says why; with one it warns, and the document arrives."""
    caplog.set_level(logging.INFO)
    assert tasks.run("before").result
    tasks.connect(server.connection(WRITER), request_timeout=2)
    with fault.happens(server, tasks):
        with monkeypatch.context() as without:
            without.delenv("AIRFLOW__LAG__SPOOL_DIR")
            failed = tasks.run("failed")
        caplog.clear()
        waiting = tasks.run("waiting")
        warned = [one.message for one in caplog.records if "in the spool" in one.message]
    assert type(failed.error) is fault.kind
    assert failed.retried is fault.retried is fault.kind.retriable
    for word in ("elastic", f"127.0.0.1:{server.port}", *fault.words, fault.kind.advice):
        assert word in failed.text
    assert "hush" not in failed.text

    assert waiting.result
    assert waiting.result["waiting"] == 1
    assert len(spool.files()) == 1
    assert "doesn't take documents" in " ".join(warned)

    tasks.connect(server.connection(WRITER))
    late = {"failed"} if fault.may_be_stored else set()
    assert tasks.documents().keys() - late == {"before"}
    flushed = asyncio.run(flush(spool))
    assert (len(flushed.sent), flushed.refused, flushed.left) == (1, [], 0), flushed.reasons
    after = tasks.run("after")
    assert after.result
    assert "waiting" not in after.result
    stored = tasks.documents()
    assert stored.keys() - late == {"before", "waiting", "after"}
    for one in stored.values():
        assert tuple(one[f"p{number}"] for number in range(len(LAGS))) == LAGS
    assert stored["waiting"]["@timestamp"] < stored["after"]["@timestamp"]
    assert spool.files() == []


def test_a_document_that_does_not_fit_is_refused_and_kept_with_the_reason(
    tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other try helps it; with a spool it can be sent again once the mapping is mended."""
    conflict = {"properties": {"topic": {"type": "integer"}}}
    tasks.server.request("PUT", f"/{INDEX}", {"mappings": conflict})
    with monkeypatch.context() as without:
        without.delenv("AIRFLOW__LAG__SPOOL_DIR")
        lost = tasks.run("lost")
    kept = tasks.run("kept")
    for ended in (lost, kept):
        assert type(ended.error) is DocumentRefused
        assert not ended.retried
        assert all(word in ended.text for word in ("elastic", "[topic]", "include/mapping.json"))
    assert not tasks.documents()
    assert len(spool.files(kind="refused")) == len(spool.files()) == 1
    tasks.server.request("DELETE", f"/{INDEX}")
    assert len(asyncio.run(flush(spool, kind="refused")).sent) == 1
    assert tasks.documents().keys() == {"kept"}


def test_a_slow_answer_is_waited_for(server: Elasticsearch, tasks: Tasks) -> None:
    """Within the time limit it costs nothing but the time."""
    assert tasks.run("before").result
    with resumed_after(server, seconds=3):
        assert tasks.run("slow").result
    assert tasks.documents().keys() == {"before", "slow"}


def test_a_write_whose_answer_came_too_late_is_repeated_and_not_doubled(
    server: Elasticsearch, tasks: Tasks
) -> None:
    """The server carries out both requests, and the second finds its document there."""
    tasks.connect(server.connection(WRITER), request_timeout=3)

    async def story() -> None:
        async with LagElasticsearchHook(elasticsearch_conn_id="elastic").session() as session:
            await session.write(document("before"))
            with resumed_after(server, seconds=4):
                await session.write(document("late"))

    asyncio.run(story())
    assert tasks.documents().keys() == {"before", "late"}


def test_a_document_that_finds_no_room_in_memory_is_tried_again(tasks: Tasks) -> None:
    """Elasticsearch rejects what it has no memory for at the moment; the smaller ones pass."""
    failed = tasks.run("large", lags=(1,) * 1000)
    assert type(failed.error) is ElasticsearchOverloaded
    assert failed.retried
    assert all(word in failed.text for word in ("429", "es_rejected_execution", "write queue"))
    assert tasks.run("small").result
    assert tasks.documents().keys() == {"small"}


def test_an_index_for_which_there_are_no_shards_left_is_made_later(
    tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the limit; the document waits until somebody has raised it."""
    tasks.change({"cluster.max_shards_per_node": 1})
    try:
        unusable(tasks, monkeypatch, "maximum normal shards open", "cluster.max_shards_per_node")
    finally:
        tasks.change({"cluster.max_shards_per_node": None})
    assert len(asyncio.run(flush(spool)).sent) == 1
    assert tasks.documents().keys() == {"waiting"}


def test_an_alias_that_names_no_index_to_write_to(
    tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a document alone and of several in one request: they wait until it names one."""
    for number in (1, 2):
        tasks.server.request("PUT", f"/{INDEX}-{number}", {"aliases": {INDEX: {}}})
    unusable(tasks, monkeypatch, "no write index is defined", "aliases")
    hook = LagElasticsearchHook(elasticsearch_conn_id="elastic")
    fates = asyncio.run(hook.write(document("one"), document("two")))
    assert [type(fate) for fate in fates] == [IndexUnusable] * 2
    chosen = {"index": f"{INDEX}-2", "alias": INDEX, "is_write_index": True}
    tasks.server.request("POST", "/_aliases", {"actions": [{"add": chosen}]})
    assert len(asyncio.run(flush(spool)).sent) == 1
    assert tasks.documents().keys() == {"waiting"}


def test_an_old_index_behind_the_alias_that_takes_no_fields(
    server: Elasticsearch, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the one that is written to has to take them; of the others the log says so."""
    old = {"mappings": {"properties": {"p0": {"type": "short"}}}}
    block = "index.blocks.read_only"
    for number in (1, 2, 3):
        chosen = {"aliases": {INDEX: {"is_write_index": number == 3}}}
        tasks.server.request("PUT", f"/{INDEX}-{number}", {**(old if number < 3 else {}), **chosen})
    tasks.server.request("PUT", f"/{INDEX}-1/_settings", {block: True})
    tasks.connect(server.connection(SUPERUSER))
    lags = (2**40, 7)
    try:
        assert tasks.run("run", lags=lags).result
    finally:
        tasks.server.request("PUT", f"/{INDEX}-1/_settings", {block: None})
    assert f"The index {INDEX}-1, which isn't written to" in caplog.text
    (found,) = search(server, index=f"{INDEX}-3")
    assert (found["_source"]["p0"], found["_source"]["p1"]) == lags
    mappings = tasks.server.request("GET", f"/{INDEX}/_mapping")
    has_all = {name: "lag" in one["mappings"]["properties"] for name, one in mappings.items()}
    assert has_all == {f"{INDEX}-1": False, f"{INDEX}-2": True, f"{INDEX}-3": True}


def test_the_rights_of_the_readme_suffice_for_an_alias(server: Elasticsearch, tasks: Tasks) -> None:
    """Which index is written to is found with them, and measured alone."""
    for number, kind in ((1, "short"), (2, "long")):
        chosen = {"aliases": {INDEX: {"is_write_index": number == 2}}}
        field = {"mappings": {"properties": {"p0": {"type": kind}}}}
        tasks.server.request("PUT", f"/{INDEX}-{number}", {**field, **chosen})
    assert tasks.run("run", lags=(2**40,)).result
    (found,) = search(server, index=f"{INDEX}-2")
    assert found["_source"]["p0"] == 2**40


def test_an_index_that_is_gone_and_must_not_come_back_by_itself(tasks: Tasks) -> None:
    """Where no write may create an index, the session says so, and the next one creates it."""

    async def story() -> None:
        async with LagElasticsearchHook(elasticsearch_conn_id="elastic").session() as session:
            await session.write(document("before"))
            await asyncio.to_thread(tasks.server.request, "DELETE", f"/{INDEX}")
            with pytest.raises(IndexUnusable, match="404"):
                await session.write(document("lost"))

    tasks.change({"action.auto_create_index": "false"})
    try:
        asyncio.run(story())
        assert tasks.run("after").result
    finally:
        tasks.change({"action.auto_create_index": None})
    assert tasks.documents().keys() == {"after"}


def test_an_index_that_has_no_room_for_our_fields(
    server: Elasticsearch, tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may add fields hears of the limit, and the document waits until it is raised."""
    tasks.connect(server.connection(SUPERUSER))
    limit = "index.mapping.total_fields.limit"
    tasks.server.request("PUT", f"/{INDEX}", {"settings": {limit: 5}})
    unusable(tasks, monkeypatch, "Limit of total fields", limit)
    tasks.change_index({limit: 1100})
    assert len(asyncio.run(flush(spool)).sent) == 1
    assert tasks.documents().keys() == {"waiting"}


def test_a_document_that_brings_more_fields_than_the_index_takes(
    tasks: Tasks, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until somebody raises the limit; smaller ones are written meanwhile."""
    assert tasks.run("before").result
    limit = "index.mapping.total_fields.limit"
    tasks.change_index({limit: 5})
    unusable(tasks, monkeypatch, "Limit of total fields", limit, lags=(1,) * 10)
    assert tasks.run("small").result
    tasks.change_index({limit: 1100})
    assert len(asyncio.run(flush(spool)).sent) == 1
    assert tasks.documents().keys() == {"before", "waiting", "small"}


def test_a_lag_that_an_old_field_can_not_hold_is_left_out_of_it_alone(
    server: Elasticsearch, tasks: Tasks
) -> None:
    """The document says which ones, and the true figures stand beside them."""
    old = {f"p{number}": {"type": "integer"} for number in range(18)}
    old |= {f"p{number}": {"type": "float"} for number in (4, 5)}
    old |= {"@timestamp": {"type": "date"}, "topic": {"type": "text"}}
    tasks.server.request("PUT", f"/{INDEX}", {"mappings": {"properties": old}})
    tasks.connect(server.connection(SUPERUSER))
    lags = (2**31, 2**31 - 1, 2**40, 5, 2**24 + 1, 2**24)
    assert tasks.run("run", lags=lags).result
    (found,) = search(server, partitions__left_out=2, lag__max=2**40)
    one = found["_source"]
    assert {name: one[name] for name in old.keys() & one.keys()} == {
        "@timestamp": one["@timestamp"],
        "topic": "orders",
        "p1": 2**31 - 1,
        "p3": 5,
        "p5": 2**24,
    }
    assert one["partitions"]["left_out"] == [0, 2, 4]
    assert one["lag"]["total"] == sum(lags)
    assert [row["lag"] for row in one["partition"]] == list(lags)
    mapping = tasks.server.request("GET", f"/{INDEX}/_mapping")[INDEX]["mappings"]
    assert mapping["properties"]["p0"] == {"type": "integer"}


def document(run_id: str) -> Document:
    source = {"@timestamp": "2026-11-24T15:00:00Z", "airflow": {"run_id": run_id}}
    return Document(id=run_id, version=1, source=source)


def unusable(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, *words: str, lags: tuple[int, ...] = LAGS
) -> None:
    """Assert that a task can't use the index, and that with a spool its document waits."""
    with monkeypatch.context() as without:
        without.delenv("AIRFLOW__LAG__SPOOL_DIR")
        failed = tasks.run("failed", lags=lags)
    assert type(failed.error) is IndexUnusable
    assert not failed.retried
    assert all(word in failed.text for word in ("elastic", *words))
    waiting = tasks.run("waiting", lags=lags)
    assert waiting.result
    assert waiting.result["waiting"] == 1


@contextmanager
def resumed_after(server: Elasticsearch, *, seconds: float) -> Iterator[None]:
    """Let the server hang for so long."""
    server.pause()
    timer = Timer(seconds, server.resume)
    timer.start()
    try:
        yield
    finally:
        timer.join()
