"""The hook on a real Elasticsearch with passwords and roles."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchUnreachable,
    StoreError,
)
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_prepare import index_body
from lab.network import HOST, free_port
from tests.integration.support import (
    SUPERUSER,
    WRITER,
    Bench,
    context,
    mirror,
    write_project,
)

pytestmark = pytest.mark.integration


def document(number: int = 0, *, version: int = 1) -> Document:
    source = {
        "@timestamp": datetime.now(UTC).isoformat(),
        "topic": f"topic-{number}",
        "p0": version,
    }
    return Document(id=str(number), version=version, source=source)


def write(*documents: Document) -> None:
    asyncio.run(LagElasticsearchHook(elasticsearch_conn_id="elastic").write(*documents))


@pytest.fixture
def connect(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that changes fields of the Elasticsearch connection."""

    def change(**fields: Any) -> None:
        connection = {**bench.connections["elastic"], **fields}
        monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(connection))

    return change


def test_many_tasks_create_the_missing_index_together(bench: Bench) -> None:
    """Thirty writers that all find no index leave one with the mapping and thirty documents."""

    async def all_at_once() -> None:
        hook = LagElasticsearchHook(elasticsearch_conn_id="elastic")
        await asyncio.gather(*(hook.write(document(number)) for number in range(30)))

    asyncio.run(all_at_once())
    assert len(bench.documents()) == 30
    mapping = bench.elasticsearch.request("GET", "/consumer_lag/_mapping")["consumer_lag"]
    assert mapping["mappings"]["properties"]["topic"] == {"type": "keyword"}
    assert mapping["mappings"]["properties"]["p0"] == {"type": "long"}


def test_of_two_versions_the_higher_stays_whichever_comes_last(bench: Bench) -> None:
    """Writing an older or equal version again changes nothing and is no error."""
    for version in (5, 3, 5, 7, 1):
        write(document(version=version))
    assert [one["p0"] for one in bench.documents()] == [7]


def test_a_node_that_is_away_is_passed_over(bench: Bench, connect: Any) -> None:
    """Of several hosts one that can't be reached costs nothing but the attempt."""
    port = bench.elasticsearch.port
    connect(port=None, host=f"{HOST}:{free_port()},{HOST}:{free_port()},{HOST}:{port}")
    write(document())
    connect(port=None, host=None, extra={"hosts": [f"{HOST}:{free_port()}", f"{HOST}:{port}"]})
    write(document(version=2))
    assert [one["p0"] for one in bench.documents()] == [2]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"password": "hush-wrong"}, ElasticsearchAccessDenied),
        ({"login": None, "password": None}, ElasticsearchAccessDenied),
        ({"port": 1}, ElasticsearchUnreachable),
        ({"schema": "https"}, ElasticsearchUnreachable),
        ({"host": ""}, ElasticsearchConnectionInvalid),
    ],
)
def test_a_connection_that_does_not_work_is_an_error_that_says_so(
    connect: Any, fields: dict[str, Any], kind: type[StoreError]
) -> None:
    """Wrong password, no password, nobody there, wrong scheme and no host each have their error."""
    connect(**fields)
    with pytest.raises(kind, match="elastic") as raised:
        write(document())
    assert "hush" not in str(raised.value)


def test_the_connection_can_be_tried(connect: Any) -> None:
    """test_connection says whether the cluster answers, and why not."""
    hook = LagElasticsearchHook(elasticsearch_conn_id="elastic")
    works, words = hook.test_connection()
    assert works, words
    connect(password="hush-wrong")
    works, words = hook.test_connection()
    assert not works
    assert "401" in words


def test_an_index_of_the_old_script_is_completed_and_used(bench: Bench, connect: Any) -> None:
    """An index with text topics and integer partitions keeps them and gets all that it lacks."""
    old = {
        "@timestamp": {"type": "date"},
        "topic": {"type": "text"},
        **{f"p{number}": {"type": "integer"} for number in range(18)},
    }
    bench.elasticsearch.request("PUT", "/consumer_lag", {"mappings": {"properties": old}})
    # Adding fields to somebody else's index takes the right to manage it.
    connect(login=SUPERUSER.user, password=SUPERUSER.password)
    bench.operator().execute(context("run"))
    (found,) = bench.documents(topic__keyword="orders", kafka__topic__name="orders")
    assert found["partitions"]["total"] == 18
    mapping = bench.elasticsearch.request("GET", "/consumer_lag/_mapping")["consumer_lag"]
    properties = mapping["mappings"]["properties"]
    assert properties["p0"] == {"type": "integer"}
    assert properties["topic"]["type"] == "text"
    assert properties["group"] == {"type": "keyword"}
    assert WRITER.user not in str(properties)


def test_an_index_that_somebody_deletes_is_made_anew(bench: Bench) -> None:
    """The next session makes it from the mapping; nothing has guessed a type by then."""
    write(document(0))
    bench.elasticsearch.request("DELETE", "/consumer_lag")
    write(document(1), document(2))
    assert {one["topic"] for one in bench.documents()} == {"topic-1", "topic-2"}
    mapping = bench.elasticsearch.request("GET", "/consumer_lag/_mapping")["consumer_lag"]
    assert mapping["mappings"]["properties"]["topic"] == {"type": "keyword"}


def test_an_index_that_is_deleted_during_a_session_is_completed_by_the_next(
    bench: Bench, connect: Any
) -> None:
    """Elasticsearch makes it anew with types that it guesses; what readers need is added then."""
    connect(login=SUPERUSER.user, password=SUPERUSER.password)

    async def story() -> None:
        async with LagElasticsearchHook(elasticsearch_conn_id="elastic").session() as session:
            await session.write(document(0))
            await asyncio.to_thread(bench.elasticsearch.request, "DELETE", "/consumer_lag")
            await session.write(document(1))

    asyncio.run(story())
    write(document(2))
    found = bench.documents(topic__keyword="topic-1") + bench.documents(topic__keyword="topic-2")
    assert [one["topic"] for one in found] == ["topic-1", "topic-2"]
    mapping = bench.elasticsearch.request("GET", "/consumer_lag/_mapping")["consumer_lag"]
    assert mapping["mappings"]["properties"]["group"] == {"type": "keyword"}


def test_a_user_with_the_fewest_rights_writes_to_an_index_that_lacks_fields(bench: Bench) -> None:
    """Whether this version lets it add fields (8.19 still does) or not, no snapshot is lost."""
    bench.elasticsearch.request("PUT", "/consumer_lag", {"mappings": {"properties": {}}})
    bench.operator().execute(context("run"))
    assert len(bench.documents()) == 1


def test_documents_add_no_field_that_the_mapping_does_not_name(
    bench: Bench, tmp_path: Path
) -> None:
    """After successes and failures the index has the mapping's fields and p0 to p17, no more."""
    mirrors = {"oasis": mirror(bench.lab)}
    file = write_project(tmp_path, mirrors=mirrors).parent / "include" / "mirrors.yaml"
    bench.operator(mirrors_file=str(file)).execute(context("run"))
    with pytest.raises(Exception, match="not-there"):
        bench.operator(topic="not-there").execute(context("other"))
    mapping = bench.elasticsearch.request("GET", "/consumer_lag/_mapping")["consumer_lag"]
    wanted = index_body()["mappings"]["properties"]
    partitions = {f"p{number}" for number in range(18)}
    assert mapping["mappings"]["properties"].keys() == wanted.keys() | partitions
    for name, field in wanted.items():
        assert mapping["mappings"]["properties"][name].keys() == field.keys()


def test_of_many_documents_one_that_is_refused_loses_no_other(bench: Bench) -> None:
    """Each document has its fate: written, there already in a better version, or refused."""
    write(document(1, version=7))
    refused = document(2)
    refused = replace(refused, source={**refused.source, "p0": "many"})
    hook = LagElasticsearchHook(elasticsearch_conn_id="elastic")
    fates = asyncio.run(hook.write(document(0), document(1), refused, document(3)))
    assert [type(fate) for fate in fates] == [type(None), type(None), DocumentRefused, type(None)]
    assert "p0" in str(fates[2])
    found = {one["topic"]: one["p0"] for one in bench.documents()}
    assert found == {"topic-0": 1, "topic-1": 7, "topic-3": 1}
