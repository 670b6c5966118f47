"""Documents of many tasks in one request: what the callers of one event loop do together.

In the triggerer all topics of a group wake up at the same moment, when their describe ends, and
again when they miss a deadline. A client and a request for each would keep the event loop busy for
longer than Airflow likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_lag_provider.errors import StoreError
from airflow_lag_provider.hooks.elasticsearch import Document, LagElasticsearchHook

Fates = tuple[StoreError | None, ...]
Outcomes = tuple[Mapping[str, Any] | None, ...]

# How long the first caller waits for others, seconds.
GATHER_SECONDS = 0.03
# Their callers go on at the same moment too, so there must not be too many of them.
MOST_DOCUMENTS = 100

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_Caller = tuple[tuple[ItemT, ...], asyncio.Future[tuple[ResultT, ...]]]


@dataclass(slots=True)
class _Batches(Generic[ItemT, ResultT]):
    """The callers that wait for the same work, with their items, and the task that does it.

    :param work: one request for some items; returns a result for each.
    """

    work: Callable[..., Awaitable[tuple[ResultT, ...]]]
    waiting: list[_Caller[ItemT, ResultT]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


_loops: dict[asyncio.AbstractEventLoop, dict[tuple[str, str, str], _Batches[Any, Any]]] = {}


async def write(*documents: Document, elasticsearch_conn_id: str, index: str) -> Fates:
    """Write documents, together with those that other callers write at the same time.

    :return: for each document ``None``, or why that one alone could not be written.
    :raises StoreError: none of them could be written; each caller gets an error of its own.
    """
    hook = LagElasticsearchHook(elasticsearch_conn_id=elasticsearch_conn_id, index=index)
    return await _together(("write", elasticsearch_conn_id, index), hook.write, documents)


async def outcomes(*ids: str, elasticsearch_conn_id: str, index: str) -> Outcomes:
    """Return of documents what became of them, see :meth:`.LagElasticsearchHook.outcomes`.

    :raises StoreError: it can't be said; each caller gets an error of its own.
    """
    hook = LagElasticsearchHook(elasticsearch_conn_id=elasticsearch_conn_id, index=index)
    return await _together(("outcomes", elasticsearch_conn_id, index), hook.outcomes, ids)


async def _together(
    key: tuple[str, str, str],
    work: Callable[..., Awaitable[tuple[ResultT, ...]]],
    items: tuple[ItemT, ...],
) -> tuple[ResultT, ...]:
    """Return the results for some items, of work that is done for other callers' items too.

    :param key: what is done, connection and index. By index too: what is wrong with one index must
        not fail the documents of another.
    """
    batches: _Batches[ItemT, ResultT] = _of_loop().setdefault(key, _Batches(work))
    future: asyncio.Future[tuple[ResultT, ...]] = asyncio.get_running_loop().create_future()
    batches.waiting.append((items, future))
    if batches.task is None or batches.task.done():
        batches.task = asyncio.create_task(_work_on_all(batches))
        batches.task.add_done_callback(lambda _: _forget(key, batches))
    return await future


async def _work_on_all(batches: _Batches[ItemT, ResultT]) -> None:
    await asyncio.sleep(GATHER_SECONDS)
    while batches.waiting:
        batch = [batches.waiting.pop(0)]
        count = len(batch[0][0])
        while batches.waiting and count + len(batches.waiting[0][0]) <= MOST_DOCUMENTS:
            batch.append(batches.waiting.pop(0))
            count += len(batch[-1][0])
        if error := await _work_on(batch, batches.work):
            # What is away for one batch is away for the next, and their callers' time is limited.
            _fail([future for _, future in batches.waiting], error)
            batches.waiting.clear()


async def _work_on(
    batch: list[_Caller[ItemT, ResultT]],
    work: Callable[..., Awaitable[tuple[ResultT, ...]]],
) -> StoreError | None:
    """Do the work for the items of some callers and give each its own results.

    :return: the error when nobody could be served now.
    """
    try:
        results = await work(*(item for items, _ in batch for item in items))
    except BaseException as error:
        _fail([future for _, future in batch], error)
        if not isinstance(error, Exception):
            raise
        return error if isinstance(error, StoreError) and error.retriable else None
    start = 0
    for items, future in batch:
        if not future.done():
            future.set_result(results[start : start + len(items)])
        start += len(items)
    return None


def _fail(futures: list[asyncio.Future[Any]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            # A caller may add notes to its error, so no two share one.
            mine = type(error)(error.message) if isinstance(error, StoreError) else error
            future.set_exception(mine)


def _forget(key: tuple[str, str, str], batches: _Batches[Any, Any]) -> None:
    """Remove what waits for nothing, so that a dated index is not kept for ever."""
    if not batches.waiting:
        _of_loop().pop(key, None)


def _of_loop() -> dict[tuple[str, str, str], _Batches[Any, Any]]:
    """Return what waits in the running loop; what is left of loops that ended goes."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        for other in [other for other in _loops if other.is_closed()]:
            _loops.pop(other, None)
        _loops[loop] = {}
    return _loops[loop]
