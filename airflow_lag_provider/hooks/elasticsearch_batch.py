"""Documents of many tasks in one request: what the callers of one event loop write together.

In the triggerer all topics of a group wake up when their describe ends, or one after the other
while Airflow starts them. A client and a request for each would keep the event loop busy for
longer than Airflow likes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from airflow_lag_provider.errors import StoreError
from airflow_lag_provider.hooks.elasticsearch import Document, LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.shared_work import PerLoop

Fates = tuple[StoreError | None, ...]

# How long a document waits for others, seconds.
GATHER_SECONDS = 0.1
# Their callers go on at the same moment too, so there must not be too many of them.
MOST_DOCUMENTS = 100
# How long one client is used, and what it has seen of the index is believed, seconds: less than a
# minute, so that the next minute's documents find out that somebody deleted the index.
SESSION_SECONDS = 30.0
# How long an open client waits for more documents, seconds.
IDLE_SECONDS = 5.0


@dataclass(slots=True)
class _Waiting:
    """The documents of one caller."""

    documents: tuple[Document, ...]
    fates: asyncio.Future[Fates]


@dataclass(slots=True)
class _Queue:
    """What waits for one connection and index.

    :param task: writes it; kept here, because an event loop doesn't keep its tasks.
    """

    waiting: list[_Waiting] = field(default_factory=list)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def add(self, one: _Waiting) -> None:
        """Let one more caller wait."""
        self.waiting.append(one)
        self.filled.set()

    def take(self, most: int | None = None) -> list[_Waiting]:
        """Take out the first callers with so many documents together, at least one caller."""
        count = size = 0
        for one in self.waiting:
            size += len(one.documents)
            if count and most is not None and size > most:
                break
            count += 1
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        if not self.waiting:
            self.filled.clear()
        return taken


_Queues = dict[tuple[str, str], _Queue]

_queues: PerLoop[_Queues] = PerLoop(dict)


async def write(*documents: Document, elasticsearch_conn_id: str, index: str) -> Fates:
    """Write documents, together with those that other callers write at the same time.

    :return: for each document ``None``, or why that one alone could not be written.
    :raises StoreError: none of them could be written; each caller gets an error of its own.
    """
    # By index too: what is wrong with one index must not fail the documents of another.
    key = (elasticsearch_conn_id, index)
    queues = _queues.get()
    if key not in queues:
        queues[key] = _Queue()
        hook = LagElasticsearchHook(elasticsearch_conn_id=elasticsearch_conn_id, index=index)
        queues[key].task = asyncio.create_task(_write_all(queues, key, hook))
    fates: asyncio.Future[Fates] = asyncio.get_running_loop().create_future()
    queues[key].add(_Waiting(documents, fates))
    return await fates


async def _write_all(queues: _Queues, key: tuple[str, str], hook: LagElasticsearchHook) -> None:
    """Write what waits, and what comes for some seconds after it; then forget the queue."""
    queue = queues[key]
    try:
        while queue.waiting:
            try:
                async with hook.session() as session:
                    await _write_for_a_while(queue, session)
            except Exception as error:
                _fail(queue.take(), error)
    except BaseException as error:
        _fail(queue.take(), error)
        raise
    finally:
        # Nothing was awaited since the last look at the queue, so nobody can be in it.
        del queues[key]


async def _write_for_a_while(queue: _Queue, session: Session) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + SESSION_SECONDS
    while loop.time() < end and await _gathered(queue):
        error = await _write_batch(queue.take(MOST_DOCUMENTS), session)
        if isinstance(error, StoreError) and error.retriable:
            # What is away for one batch is away for the next, and their callers' time is limited.
            _fail(queue.take(), error)
        if error:
            return


async def _gathered(queue: _Queue) -> bool:
    """Wait for documents and, while they are few, for more of them; return whether any came."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            await queue.filled.wait()
    except TimeoutError:
        return False
    if sum(len(one.documents) for one in queue.waiting) < MOST_DOCUMENTS:
        await asyncio.sleep(GATHER_SECONDS)
    return True


async def _write_batch(batch: list[_Waiting], session: Session) -> Exception | None:
    """Write the documents of some callers and tell each what became of its own.

    :return: why nothing could be written.
    """
    try:
        fates = await session.write(*(one for caller in batch for one in caller.documents))
    except BaseException as error:
        _fail(batch, error)
        if not isinstance(error, Exception):
            raise
        return error
    start = 0
    for caller in batch:
        if not caller.fates.done():
            caller.fates.set_result(fates[start : start + len(caller.documents)])
        start += len(caller.documents)
    return None


def _fail(callers: list[_Waiting], error: BaseException) -> None:
    for caller in callers:
        if not caller.fates.done():
            # A caller may add notes to its error, so no two share one.
            mine = type(error)(error.message) if isinstance(error, StoreError) else error
            caller.fates.set_exception(mine)
