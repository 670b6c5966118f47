"""Documents of many callers in one request; Elasticsearch is stood in for here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchConnectionInvalid,
    ElasticsearchUnreachable,
    StoreError,
)
from airflow_lag_provider.hooks import elasticsearch_batch as batch
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import Question

TASK = ContextVar[str]("TASK")


class Store:
    """Remembers the sessions and their requests; refuses documents by id, or everything.

    :param error: what a request raises.
    :param closed: what opening a session raises.
    :param tasks: in which tasks' contexts it was asked to write.
    """

    def __init__(self) -> None:
        self.sessions: list[list[list[str]]] = []
        self.open = 0
        self.refused: dict[str, StoreError] = {}
        self.error: Exception | None = None
        self.closed: Exception | None = None
        self.tasks: set[str | None] = set()

    @property
    def requests(self) -> list[list[str]]:
        return [request for session in self.sessions for request in session]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        if self.closed:
            raise self.closed
        self.sessions.append([])
        self.open += 1
        try:
            yield SimpleNamespace(write=self.write, outcomes=self.outcomes, latest=self.latest)
        finally:
            self.open -= 1

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        self.sessions[-1].append([one.id for one in documents])
        self.tasks.add(TASK.get(None))
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        return tuple(self.refused.get(one.id) for one in documents)

    async def outcomes(self, *ids: str) -> tuple[Any, ...]:
        self.sessions[-1].append(list(ids))
        if self.error:
            raise self.error
        return tuple({"id": one} for one in ids)

    async def latest(self, *questions: Question) -> tuple[Any, ...]:
        self.sessions[-1].append([one.topic for one in questions])
        return tuple({"topic": one.topic} for one in questions)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(LagElasticsearchHook, "session", lambda _: store.session())
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
    store.sessions.clear()
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


def test_what_is_written_for_many_is_written_in_nobodys_context(store: Store) -> None:
    """A line that it logs must not open the log of a task that may have ended (Airflow 2.11)."""

    async def caller(number: int) -> None:
        TASK.set(f"task {number}")
        await wrote(document(number))

    together(*(caller(number) for number in range(3)))
    assert store.tasks == {None}


def test_each_event_loop_writes_its_own(store: Store) -> None:
    """Nothing waits for a loop that has ended, and such loops are forgotten."""
    for _ in range(3):
        together(wrote(document(0)))
    assert len(store.requests) == 3
    assert len(batch._queues) == 1
    assert store.open == 0


def test_a_cluster_that_is_away_costs_one_attempt_for_all_that_wait(store: Store) -> None:
    """The other batches fail with the first one instead of waiting for their own time-outs."""
    store.error = ElasticsearchUnreachable("No.")
    results = together(*(wrote(document(number)) for number in range(250)))
    assert len(store.requests) == 1
    assert {type(one) for one in results} == {ElasticsearchUnreachable}
    assert len({id(one) for one in results}) == 250


def test_nothing_is_kept_of_an_index_that_nobody_writes_to_any_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dated index leaves nothing behind in a triggerer that lives for months."""
    monkeypatch.setattr(batch, "IDLE_SECONDS", 0.01)

    async def story() -> int:
        await asyncio.gather(*(wrote(document(n), index=f"lag-{n}") for n in range(20)))
        await asyncio.sleep(0.2)
        return len(batch._queues.get())

    assert asyncio.run(story()) == 0
    assert (len(store.sessions), store.open) == (20, 0)


def one_after_the_other(*pauses: float) -> None:
    async def story() -> None:
        for number, pause in enumerate(pauses):
            await asyncio.sleep(pause)
            await wrote(document(number))

    asyncio.run(story())


def test_what_comes_within_some_seconds_goes_through_one_session(store: Store) -> None:
    """Documents one after the other need one client and one look at the index."""
    one_after_the_other(0, 0.05, 0.05)
    assert store.sessions == [[["0"], ["1"], ["2"]]]


def test_a_session_ends_though_documents_go_on_coming(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed connection or a deleted index is noticed all the same."""
    monkeypatch.setattr(batch, "SESSION_SECONDS", 0.05)
    one_after_the_other(0, 0, 0)
    assert store.sessions == [[["0"]], [["1"]], [["2"]]]


def test_a_failed_request_ends_its_session(store: Store) -> None:
    """The next document gets a new client, which looks at the index again."""
    store.error = DocumentRefused("No.")

    async def story() -> None:
        with pytest.raises(DocumentRefused):
            await wrote(document(0))
        store.error = None
        await wrote(document(1))

    asyncio.run(story())
    assert store.sessions == [[["0"]], [["1"]]]


def test_a_session_that_can_not_be_opened_fails_all_who_wait(store: Store) -> None:
    """Each gets an error of its own, and whoever comes later tries again."""
    store.closed = ElasticsearchConnectionInvalid("No connection.")

    async def story() -> list[Any]:
        asked = [wrote(document(number)) for number in range(3)]
        failed = await asyncio.gather(*asked, return_exceptions=True)
        store.closed = None
        return [*failed, await wrote(document(3))]

    *failed, fates = asyncio.run(story())
    assert [type(one) for one in failed] == [ElasticsearchConnectionInvalid] * 3
    assert len({id(one) for one in failed}) == 3
    assert fates == (None,)


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


def test_questions_of_many_topics_go_in_one_request(store: Store) -> None:
    """After its start a triggerer asks for all topics of the minute at once."""

    async def asked(topic: str) -> Any:
        question = Question(mirror="m", group="g", topic=topic, before=datetime.now(UTC))
        return await batch.latest(question, elasticsearch_conn_id="es", index="lag-%Y")

    results = together(*(asked(f"t{number}") for number in range(30)))
    assert store.requests == [[f"t{number}" for number in range(30)]]
    assert results == [({"topic": f"t{number}"},) for number in range(30)]
