"""Documents of many tasks in one request: what the callers of one event loop write together.

In the triggerer all topics of a group wake up at the same moment, when their describe ends. A
client and a request for each would keep the event loop busy for longer than Airflow likes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from airflow_lag_provider.errors import StoreError
from airflow_lag_provider.hooks.elasticsearch import Document, LagElasticsearchHook

Fates = tuple[StoreError | None, ...]

# How long the first document waits for others, seconds.
GATHER_SECONDS = 0.03
# Their callers go on at the same moment too, so there must not be too many of them.
MOST_DOCUMENTS = 100


@dataclass(slots=True)
class _Batches:
    """The documents that wait for one connection and index, and the task that writes them."""

    waiting: list[tuple[tuple[Document, ...], asyncio.Future[Fates]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


_loops: dict[asyncio.AbstractEventLoop, dict[tuple[str, str], _Batches]] = {}


async def write(*documents: Document, elasticsearch_conn_id: str, index: str) -> Fates:
    """Write documents, together with those that other callers write at the same time.

    :return: for each document ``None``, or why that one alone could not be written.
    :raises StoreError: none of them could be written; each caller gets an error of its own.
    """
    # By index too: what is wrong with one index must not fail the documents of another.
    batches = _of_loop().setdefault((elasticsearch_conn_id, index), _Batches())
    future: asyncio.Future[Fates] = asyncio.get_running_loop().create_future()
    batches.waiting.append((documents, future))
    if batches.task is None or batches.task.done():
        hook = LagElasticsearchHook(elasticsearch_conn_id=elasticsearch_conn_id, index=index)
        batches.task = asyncio.create_task(_write_all(batches, hook))
        batches.task.add_done_callback(lambda _: _forget(elasticsearch_conn_id, index, batches))
    return await future


async def _write_all(batches: _Batches, hook: LagElasticsearchHook) -> None:
    await asyncio.sleep(GATHER_SECONDS)
    while batches.waiting:
        batch = [batches.waiting.pop(0)]
        count = len(batch[0][0])
        while batches.waiting and count + len(batches.waiting[0][0]) <= MOST_DOCUMENTS:
            batch.append(batches.waiting.pop(0))
            count += len(batch[-1][0])
        if error := await _write_batch(batch, hook):
            # What is away for one batch is away for the next, and their callers' time is limited.
            _fail([future for _, future in batches.waiting], error)
            batches.waiting.clear()


async def _write_batch(
    batch: list[tuple[tuple[Document, ...], asyncio.Future[Fates]]], hook: LagElasticsearchHook
) -> StoreError | None:
    """Write the documents of some callers and tell each what became of its own.

    :return: the error when nobody could write anything now.
    """
    try:
        fates = await hook.write(*(document for documents, _ in batch for document in documents))
    except BaseException as error:
        _fail([future for _, future in batch], error)
        if not isinstance(error, Exception):
            raise
        return error if isinstance(error, StoreError) and error.retriable else None
    start = 0
    for documents, future in batch:
        if not future.done():
            future.set_result(fates[start : start + len(documents)])
        start += len(documents)
    return None


def _fail(futures: list[asyncio.Future[Fates]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            # A caller may add notes to its error, so no two share one.
            mine = type(error)(error.message) if isinstance(error, StoreError) else error
            future.set_exception(mine)


def _forget(elasticsearch_conn_id: str, index: str, batches: _Batches) -> None:
    """Remove what waits for nothing, so that a dated index is not kept for ever."""
    if not batches.waiting:
        _of_loop().pop((elasticsearch_conn_id, index), None)


def _of_loop() -> dict[tuple[str, str], _Batches]:
    """Return what waits in the running loop; what is left of loops that ended goes."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        for other in [other for other in _loops if other.is_closed()]:
            _loops.pop(other, None)
        _loops[loop] = {}
    return _loops[loop]
