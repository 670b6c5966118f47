"""Documents of many callers in one request; Elasticsearch is stood in for here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_lag_provider.errors import DocumentRefused, ElasticsearchUnreachable, StoreError
from airflow_lag_provider.hooks import elasticsearch_batch as batch
from airflow_lag_provider.hooks.elasticsearch import Document, LagElasticsearchHook


class Store:
    """Remembers the requests; refuses documents by id, or everything."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.refused: dict[str, StoreError] = {}
        self.error: Exception | None = None

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        self.requests.append([one.id for one in documents])
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        return tuple(self.refused.get(one.id) for one in documents)

    async def outcomes(self, *ids: str) -> tuple[Any, ...]:
        self.requests.append(list(ids))
        if self.error:
            raise self.error
        return tuple({"id": one} for one in ids)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(LagElasticsearchHook, "write", staticmethod(store.write))
    monkeypatch.setattr(LagElasticsearchHook, "outcomes", staticmethod(store.outcomes))
    return store


def document(name: int) -> Document:
    return Document(id=str(name), version=1, source={})


async def wrote(*documents: Document, index: str = "lag") -> Any:
    return await batch.write(*documents, elasticsearch_conn_id="es", index=index)


def together(*calls: Any) -> list[Any]:
    async def story() -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(story())


def test_documents_of_many_callers_go_in_one_request_and_each_learns_its_own_fate(
    store: Store,
) -> None:
    """Of three callers one hears that its second document was refused, the others nothing."""
    refused = store.refused["2"] = DocumentRefused("No.")
    results = together(wrote(document(0)), wrote(document(1), document(2)), wrote(document(3)))
    assert store.requests == [["0", "1", "2", "3"]]
    assert results == [(None,), (None, refused), (None,)]


def test_a_request_has_a_limit(store: Store) -> None:
    """Three hundred documents are three requests; one caller's documents stay together."""
    together(*(wrote(document(number)) for number in range(250)))
    assert [len(request) for request in store.requests] == [100, 100, 50]
    store.requests.clear()
    together(wrote(*map(document, range(150))))
    assert [len(request) for request in store.requests] == [150]


def test_what_fails_as_a_whole_fails_each_with_an_error_of_its_own(store: Store) -> None:
    """Notes that one caller adds don't show on another's error."""
    store.error = ElasticsearchUnreachable("No connection.")
    first, second = together(wrote(document(0)), wrote(document(1)))
    assert type(first) is type(second) is ElasticsearchUnreachable
    assert first is not second


def test_what_is_wrong_with_one_index_is_not_another_ones_matter(store: Store) -> None:
    """Documents of two indices are never in one request."""
    together(wrote(document(0)), wrote(document(1), index="other"))
    assert store.requests == [["0"], ["1"]]


def test_a_cancelled_caller_leaves_the_others_alone(store: Store) -> None:
    """Its document is written all the same."""

    async def story() -> Any:
        first, second = (asyncio.create_task(wrote(document(number))) for number in (0, 1))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(story()) == (None,)
    assert store.requests == [["0", "1"]]


def test_callers_that_ask_for_outcomes_share_a_request_too(store: Store) -> None:
    """When a host is away, all its topics miss their deadlines at the same moment."""

    async def asked(*ids: str) -> Any:
        return await batch.outcomes(*ids, elasticsearch_conn_id="es", index="lag")

    results = together(asked("a", "b"), wrote(document(0)), asked("c"))
    assert sorted(store.requests) == [["0"], ["a", "b", "c"]]
    assert results == [({"id": "a"}, {"id": "b"}), (None,), ({"id": "c"},)]
    store.error = ElasticsearchUnreachable("No.")
    first, second = together(asked("a"), asked("b"))
    assert type(first) is type(second) is ElasticsearchUnreachable
    assert first is not second


def test_each_event_loop_writes_its_own(store: Store) -> None:
    """Nothing waits for a loop that has ended, and such loops are forgotten."""
    for _ in range(3):
        together(wrote(document(0)))
    assert len(store.requests) == 3
    assert len(batch._loops) == 1


def test_a_cluster_that_is_away_costs_one_attempt_for_all_that_wait(store: Store) -> None:
    """The other batches fail with the first one instead of waiting for their own time-outs."""
    store.error = ElasticsearchUnreachable("No.")
    results = together(*(wrote(document(number)) for number in range(250)))
    assert len(store.requests) == 1
    assert {type(one) for one in results} == {ElasticsearchUnreachable}
    assert len({id(one) for one in results}) == 250


def test_nothing_is_kept_of_an_index_that_nobody_writes_to_any_more(store: Store) -> None:
    """A dated index leaves nothing behind in a triggerer that lives for months."""

    async def story() -> int:
        for number in range(20):
            await wrote(document(number), index=f"lag-{number}")
        await asyncio.sleep(0)
        return len(batch._of_loop())

    assert asyncio.run(story()) == 0
