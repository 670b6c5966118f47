"""Documents of many tasks in one request: what the callers of one event loop do together.

In the triggerer all topics of a group wake up when their describe ends, or one after the other
while Airflow starts them, and again when they miss a deadline. A client and a request for each
would keep the event loop busy for longer than Airflow likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import StoreError
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import Question
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.shared_work import PerLoop, detached

Fates = tuple[StoreError | None, ...]
Outcomes = tuple[Mapping[str, Any] | StoreError | None, ...]
Newest = tuple[Mapping[str, Any] | None, ...]

# How long a document waits for others, seconds.
GATHER_SECONDS = 0.1
# Their callers go on at the same moment too, so there must not be too many of them.
MOST_ITEMS = 100
# How long one client is used, and what it has seen of the index is believed, seconds: less than a
# minute, so that the next minute's documents find out that somebody deleted the index.
SESSION_SECONDS = 30.0
# How long an open client waits for more documents, seconds.
IDLE_SECONDS = 5.0

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Results = Awaitable[tuple[ResultT, ...]]


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    """The items of one caller, such as documents, and what became of them."""

    items: tuple[ItemT, ...]
    results: asyncio.Future[tuple[ResultT, ...]]


@dataclass(slots=True)
class _Queue(Generic[ItemT, ResultT]):
    """What waits for one kind of work on one connection and index.

    :param work: one request of a session for some items; returns a result for each.
    :param task: does it; kept here, because an event loop doesn't keep its tasks.
    """

    work: Callable[..., Results[ResultT]]
    waiting: list[_Waiting[ItemT, ResultT]] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def add(self, one: _Waiting[ItemT, ResultT]) -> None:
        """Let one more caller wait."""
        self.waiting.append(one)
        self.filled.set()

    def take(self, most: int | None = None) -> list[_Waiting[ItemT, ResultT]]:
        """Take out the first callers with so many items together, at least one caller."""
        count = size = 0
        for one in self.waiting:
            size += len(one.items)
            if count and most is not None and size > most:
                break
            count += 1
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        if not self.waiting:
            self.filled.clear()
        return taken


_Key = tuple[str, str, str]
_Queues = dict[_Key, _Queue[Any, Any]]

_queues: PerLoop[_Queues] = PerLoop(dict)


async def write(*documents: Document, elasticsearch_conn_id: str, index: str) -> Fates:
    """Write documents, together with those that other callers write at the same time.

    :return: for each document ``None``, or why that one alone could not be written.
    :raises StoreError: none of them could be written; each caller gets an error of its own.
    """
    key = ("write", elasticsearch_conn_id, index)
    return await _together(key, lambda session, *some: session.write(*some), documents)


async def outcomes(*ids: str, elasticsearch_conn_id: str, index: str) -> Outcomes:
    """Return of documents what became of them, see :meth:`.Session.outcomes`.

    :raises StoreError: it can't be said of any; each caller gets an error of its own.
    """
    key = ("outcomes", elasticsearch_conn_id, index)
    return await _together(key, lambda session, *some: session.outcomes(*some), ids)


async def latest(*questions: Question, elasticsearch_conn_id: str, index: str) -> Newest:
    """Return the newest snapshot of topics, see :meth:`.Session.latest`.

    :param index: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    :raises StoreError: it can't be said; each caller gets an error of its own.
    """
    key = ("latest", elasticsearch_conn_id, index)
    return await _together(key, lambda session, *some: session.latest(*some), questions)


async def _together(
    key: _Key, work: Callable[..., Results[ResultT]], items: tuple[ItemT, ...]
) -> tuple[ResultT, ...]:
    """Return the results for some items, of work that is done for other callers' items too.

    :param key: what is done, connection and index. By index too: what is wrong with one index must
        not fail the documents of another.
    """
    queues = _queues.get()
    if key not in queues:
        queues[key] = _Queue(work)
        hook = LagElasticsearchHook(elasticsearch_conn_id=key[1], index=key[2])
        queues[key].task = detached(_work_on_all(queues, key, hook))
    results: asyncio.Future[tuple[ResultT, ...]] = asyncio.get_running_loop().create_future()
    queues[key].add(_Waiting(items, results))
    return await results


async def _work_on_all(queues: _Queues, key: _Key, hook: LagElasticsearchHook) -> None:
    """Do what waits, and what comes for some seconds after it; then forget the queue."""
    queue = queues[key]
    try:
        while queue.waiting:
            try:
                async with hook.session() as session:
                    await _work_for_a_while(queue, session)
            except Exception as error:
                _fail(queue.take(), error)
    except BaseException as error:
        _fail(queue.take(), error)
        raise
    finally:
        # Nothing was awaited since the last look at the queue, so nobody can be in it.
        del queues[key]


async def _work_for_a_while(queue: _Queue[Any, Any], session: Session) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + SESSION_SECONDS
    while loop.time() < end and await _gathered(queue):
        error = await _work_on(queue.take(MOST_ITEMS), queue.work, session)
        if isinstance(error, StoreError) and error.retriable:
            # What is away for one batch is away for the next, and their callers' time is limited.
            _fail(queue.take(), error)
        if error:
            return


async def _gathered(queue: _Queue[Any, Any]) -> bool:
    """Wait for items and, while they are few, for more of them; return whether any came."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            await queue.filled.wait()
    except TimeoutError:
        return False
    if sum(len(one.items) for one in queue.waiting) < MOST_ITEMS:
        await asyncio.sleep(GATHER_SECONDS)
    return True


async def _work_on(
    batch: list[_Waiting[ItemT, ResultT]], work: Callable[..., Results[ResultT]], session: Session
) -> Exception | None:
    """Do the work for the items of some callers and give each its own results.

    :return: why nothing could be done.
    """
    try:
        results = await work(session, *(one for caller in batch for one in caller.items))
    except BaseException as error:
        _fail(batch, error)
        if not isinstance(error, Exception):
            raise
        return error
    start = 0
    for caller in batch:
        if not caller.results.done():
            caller.results.set_result(results[start : start + len(caller.items)])
        start += len(caller.items)
    return None


def _fail(callers: list[_Waiting[Any, Any]], error: BaseException) -> None:
    for caller in callers:
        if not caller.results.done():
            # A caller may add notes to its error, so no two share one.
            mine = type(error)(error.message) if isinstance(error, StoreError) else error
            caller.results.set_exception(mine)
