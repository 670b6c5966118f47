"""A session with a client that is stood in for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider import errors
from airflow_lag_provider.documents import Document
from airflow_lag_provider.hooks.elasticsearch_prepare import index_body
from airflow_lag_provider.hooks.elasticsearch_session import Session
from tests.unit.hooks.answers import NO_INDEX, SHARDS, api_error


def test_of_each_document_it_is_said_alone_what_became_of_it() -> None:
    """One that can't be read takes nothing from what is known of the others."""
    found = {"event": {"outcome": "success"}}

    async def mget(**_: Any) -> Any:
        error = {"type": "no_shard_available_action_exception", "reason": "gone"}
        return {
            "docs": [
                {"_index": "lag", "_id": "1", "found": True, "_source": found},
                {"_index": "lag", "_id": "2", "error": error},
                {"_index": "lag", "_id": "3", "found": False},
            ]
        }

    client: Any = SimpleNamespace(mget=mget)
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    first, second, third = asyncio.run(session.outcomes("1", "2", "3"))
    assert (first, third) == (found, None)
    assert isinstance(second, errors.DocumentUnreadable)
    assert "gone" in str(second)


@pytest.mark.parametrize("call", ["create", "put_mapping"])
def test_an_index_that_can_not_be_seen_to_says_nothing_of_the_documents(call: str) -> None:
    """No room for its shards or its fields: all of them fit once somebody has made some."""

    async def get_mapping(**_: Any) -> Any:
        if call == "create":
            raise api_error(404, *NO_INDEX)
        return {"lag": {"mappings": {}}}

    async def refused(**_: Any) -> Any:
        raise api_error(400, "validation_exception", SHARDS)

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(**{"get_mapping": get_mapping, call: refused})
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    with pytest.raises(errors.IndexUnusable, match="maximum normal shards"):
        asyncio.run(session.write(Document("1", 1, {})))


def test_a_request_that_is_refused_as_a_whole_is_no_word_on_each_document() -> None:
    """A proxy finds it too large, for one document alone or for all together: halves are sent."""
    sizes: list[int] = []

    async def get_mapping(**_: Any) -> Any:
        return {"lag": {"mappings": index_body()["mappings"]}}

    async def bulk(*, operations: Any, **_: Any) -> Any:
        names = [line["index"]["_id"] for line in operations[::2]]
        sizes.append(len(names))
        if len(names) > 4 or "3" in names:
            raise api_error(413, "too_large", "Request Entity Too Large")
        items = [{"_index": "lag", "_id": one, "status": 201} for one in names]
        return {"items": [{"index": one} for one in items]}

    client: Any = SimpleNamespace(indices=SimpleNamespace(get_mapping=get_mapping), bulk=bulk)
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    fates = asyncio.run(session.write(*(Document(str(n), 1, {}) for n in range(8))))
    assert [n for n, fate in enumerate(fates) if fate] == [3]
    assert isinstance(fates[3], errors.DocumentRefused)
    assert "413" in str(fates[3])
    assert sizes == [8, 4, 2, 2, 1, 1, 4]


@pytest.mark.parametrize("names", [("1",), ("1", "2")])
def test_seeing_to_the_index_and_writing_have_one_limit_together(names: tuple[str, ...]) -> None:
    """A task's own limit counts on it, where each of the two takes more than half."""
    limit = 0.2

    async def get_mapping(**_: Any) -> Any:
        await asyncio.sleep(0.6 * limit)
        return {"lag": {"mappings": index_body()["mappings"]}}

    async def index(**_: Any) -> None:
        await asyncio.sleep(0.6 * limit)

    async def bulk(**_: Any) -> Any:
        await asyncio.sleep(0.6 * limit)
        return {"items": [{"index": {"_index": "lag", "status": 201}}] * len(names)}

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(get_mapping=get_mapping), index=index, bulk=bulk
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=limit)
    with pytest.raises(errors.ElasticsearchTimedOut):
        asyncio.run(session.write(*(Document(name, 1, {}) for name in names)))


def test_what_a_template_made_of_a_new_index_is_looked_at_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its fields p0, p1, … may be narrow: a lag is left out where it must be, with a warning."""
    made: list[str] = []
    written: list[Any] = []

    async def get_mapping(**_: Any) -> Any:
        if not made:
            raise api_error(404, *NO_INDEX)
        wanted = index_body()["mappings"]
        properties = {**wanted["properties"], "p0": {"type": "integer"}}
        return {"lag": {"mappings": {**wanted, "properties": properties}}}

    async def create(*, index: str, **_: Any) -> None:
        made.append(index)

    async def bulk(*, operations: Any, **_: Any) -> Any:
        written.extend(operations[1::2])
        return {"items": [{"index": {"_index": "lag", "status": 201}}] * 2}

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(get_mapping=get_mapping, create=create), bulk=bulk
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    documents = (Document("1", 1, {"p0": 2**31}), Document("2", 1, {"p0": 2}))
    assert asyncio.run(session.write(*documents)) == (None, None)
    assert written == [{"partitions": {"left_out": [0]}}, {"p0": 2}]
    assert "left out of 1 documents" in caplog.text


def test_a_block_on_an_index_is_no_missing_right() -> None:
    """Only where a right is missing a document is sent to an index that can't be completed."""

    async def get_mapping(**_: Any) -> Any:
        return {"lag": {"mappings": {}}}

    async def put_mapping(**_: Any) -> None:
        raise api_error(403, "cluster_block_exception", "blocked by: [FORBIDDEN/5/read-only];")

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(get_mapping=get_mapping, put_mapping=put_mapping)
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    with pytest.raises(errors.IndexBlocked, match="read-only"):
        asyncio.run(session.write(Document("1", 1, {})))


READ_ONLY = (403, "cluster_block_exception", "blocked by: [FORBIDDEN/5/read-only];")
OTHER_TYPE = (400, "illegal_argument_exception", "mapper [lag.total] cannot be changed")


@pytest.mark.parametrize("refusal", [READ_ONLY, OTHER_TYPE])
@pytest.mark.parametrize("refuses", ["lag-1", "lag-2"])
def test_of_several_indices_behind_an_alias_the_one_that_is_written_to_counts(
    refuses: str, refusal: tuple[int, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """An old one that can't be completed, or has narrower fields, holds no document up."""
    completed: list[str] = []
    written: list[Any] = []

    async def get_mapping(**_: Any) -> Any:
        return {
            "lag-1": {"mappings": {"properties": {"p0": {"type": "short"}}}},
            "lag-2": {"mappings": {"properties": {"p1": {"type": "short"}}}},
        }

    async def get_alias(*, name: str) -> Any:
        return {
            "lag-1": {"aliases": {name: {}}},
            "lag-2": {"aliases": {name: {"is_write_index": True}}},
        }

    async def put_mapping(*, index: str, **_: Any) -> None:
        if index == refuses:
            raise api_error(*refusal)
        completed.append(index)

    async def index(*, document: Any, **_: Any) -> None:
        written.append(document)

    indices = SimpleNamespace(get_mapping=get_mapping, get_alias=get_alias, put_mapping=put_mapping)
    client: Any = SimpleNamespace(indices=indices, index=index)
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    writing = session.write(Document("1", 1, {"p0": 2**31, "p1": 2**31}))
    if refuses == "lag-2":
        with pytest.raises(errors.IndexBlocked if refusal is READ_ONLY else errors.IndexUnusable):
            asyncio.run(writing)
        return
    assert asyncio.run(writing) == (None,)
    assert completed == ["lag-2"]
    assert written == [{"p0": 2**31, "partitions": {"left_out": [1]}}]
    assert "lag-1" in caplog.text


def test_a_user_who_may_not_add_fields_writes_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A snapshot is worth more than the types of its fields; the log names the missing right."""
    written: list[str] = []

    async def get_mapping(**_: Any) -> Any:
        return {"lag": {"mappings": {}}}

    async def put_mapping(**_: Any) -> None:
        raise api_error(403, "security_exception", "is unauthorized for user [lag_writer]")

    async def index(*, id: str, **_: Any) -> None:
        written.append(id)

    client: Any = SimpleNamespace(
        indices=SimpleNamespace(get_mapping=get_mapping, put_mapping=put_mapping), index=index
    )
    session = Session(client, index="lag", mapping=None, where="here", seconds=5)
    assert asyncio.run(session.write(Document("1", 1, {}))) == (None,)
    assert written == ["1"]
    assert "`manage`" in caplog.text
