"""Documents that outlive an absence of Elasticsearch: written there, or kept in the spool.

Without ``[lag] spool_dir`` there is no spool, and what can't be written is an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from airflow.providers.common.compat.sdk import conf

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchTimedOut,
    StoreError,
)
from airflow_lag_provider.hooks.elasticsearch_batch import write
from airflow_lag_provider.hooks.elasticsearch_flush import Flusher, with_reason
from airflow_lag_provider.shared_work import PerLoop
from airflow_lag_provider.spool import DEFAULT_MAX_BYTES, Spool, spool_at
from airflow_lag_provider.spool_entry import Entry, Kind
from airflow_lag_provider.spool_keeper import Keeper
from airflow_lag_provider.spool_stranded import STRANDED_SECONDS, stranded
from airflow_lag_provider.task_log import told, told_unexpected

log = logging.getLogger(__name__)

# How long a task on a worker, which ends with its event loop, sends what waits, seconds.
SETTLE_SECONDS = 5.0
# How long it is believed that Elasticsearch may be tried, or may not, seconds.
BELIEVED_SECONDS = 1.0
# Of so many snapshots in the spool it is known here that they were taken.
_MOST_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Waits:
    """What became of a document that waits in the spool.

    :param reason: why it could not be written.
    """

    reason: str


Fate = Waits | StoreError | None


@dataclass(slots=True)
class _Room:
    """What the callers of one event loop share.

    :param asking: held while it is looked whether a connection may be tried.
    :param answers: until when it is believed whether one may, and whether it may.
    :param snapshots: ids of the snapshots that wait in the spool, the oldest first.
    :param looked_at: when it was last looked for what nobody sends.
    """

    asking: dict[tuple[Spool, str], asyncio.Lock] = field(default_factory=dict)
    answers: dict[tuple[Spool, str], tuple[float, bool]] = field(default_factory=dict)
    keepers: dict[tuple[Spool, str, Kind], Keeper] = field(default_factory=dict)
    flushers: dict[tuple[Spool, str], Flusher] = field(default_factory=dict)
    snapshots: dict[str, None] = field(default_factory=dict)
    looked_at: float = float("-inf")

    async def may_try(self, spool: Spool, conn_id: str) -> bool:
        """Return whether Elasticsearch may be tried; hundreds of callers look once a second."""
        key = (spool, conn_id)
        async with self.asking.setdefault(key, asyncio.Lock()):
            now = asyncio.get_running_loop().time()
            until, may = self.answers.get(key, (now, False))
            # Where both or neither hold, somebody has heard of Elasticsearch since.
            if now >= until or may == spool.is_marked(conn_id):
                may = await asyncio.to_thread(spool.may_try, conn_id)
                self.answers[key] = (now + BELIEVED_SECONDS, may)
            return may

    def keeper(self, spool: Spool, conn_id: str, kind: Kind) -> Keeper:
        """Return the one that appends to a connection's file.

        With one append for several files some could have their part, and all be told otherwise.
        """
        return self.keepers.setdefault((spool, conn_id, kind), Keeper(spool, kind))

    def flusher(self, spool: Spool, conn_id: str) -> Flusher:
        """Return the one that sends what waits for a connection."""
        return self.flushers.setdefault((spool, conn_id), Flusher(spool, conn_id, gone=self.forget))

    def note(self, entries: Sequence[Entry]) -> None:
        """Remember which snapshots wait."""
        for one in entries:
            if (one.source.get("event") or {}).get("outcome") == "success":
                self.snapshots[one.id] = None
        while len(self.snapshots) > _MOST_KNOWN:
            del self.snapshots[next(iter(self.snapshots))]

    def forget(self, ids: Iterable[str]) -> None:
        """These wait no longer."""
        for one in ids:
            self.snapshots.pop(one, None)


_rooms: PerLoop[_Room] = PerLoop(_Room)


def configured_spool() -> Spool | None:
    """Return the spool that ``[lag] spool_dir`` names, ``None`` when it names none."""
    directory = conf.get("lag", "spool_dir", fallback="")
    return spool_at(Path(directory), _limit() or DEFAULT_MAX_BYTES) if directory else None


def _limit() -> int | None:
    """Return ``[lag] spool_max_bytes``, ``None`` when that is not a number of bytes."""
    text = conf.get("lag", "spool_max_bytes", fallback=str(DEFAULT_MAX_BYTES))
    return int(text) if text.isdecimal() else None


async def store(
    *documents: Document, elasticsearch_conn_id: str, index: str, patience: float | None = None
) -> tuple[Fate, ...]:
    """Write documents, or keep them in the spool when Elasticsearch doesn't take them now.

    What it refuses for good goes to the dead letters, and is an error all the same.

    :param patience: seconds after which Elasticsearch is taken for one that doesn't answer, where
        the caller has less time than everything on the way there may take.
    :return: for each document ``None``, that it waits, or why it is neither written nor waits.
    """
    spool = configured_spool()
    if spool is None:
        try:
            return await _write(
                documents, conn_id=elasticsearch_conn_id, index=index, patience=patience
            )
        except StoreError as error:
            return (error,) * len(documents)
    await _look_once(spool)
    await _look_for_stranded(spool, conn_id=elasticsearch_conn_id)
    entries = [
        Entry(
            conn_id=elasticsearch_conn_id,
            index=index,
            id=one.id,
            version=one.version,
            source=one.source,
        )
        for one in documents
    ]
    fates = await _tried(
        spool, documents, conn_id=elasticsearch_conn_id, index=index, patience=patience
    )
    pairs = list(zip(entries, fates, strict=True))
    if refused := [with_reason(one, why) for one, why in pairs if why and _is_refused(why)]:
        await _keep_refused(spool, refused)
    away = [(entry, fate) for entry, fate in pairs if fate and not _is_refused(fate)]
    waits = await _keep(spool, away) if away else None
    return tuple(fate if fate is None or _is_refused(fate) else waits for fate in fates)


async def _write(
    documents: Sequence[Document], *, conn_id: str, index: str, patience: float | None
) -> tuple[StoreError | None, ...]:
    try:
        async with asyncio.timeout(patience):
            return await write(*documents, elasticsearch_conn_id=conn_id, index=index)
    except TimeoutError as error:
        raise ElasticsearchTimedOut(
            f"Elasticsearch, connection {conn_id}, took nothing in the time there was."
        ) from error


async def _look_once(spool: Spool) -> None:
    """Say what is wrong with the spool, once for each process, before anybody needs it."""
    if spool.looked_at:
        return
    spool.looked_at = True
    try:
        await asyncio.to_thread(spool.prepare)
    except StoreError as error:
        text = "No document can wait for Elasticsearch when it is away. %s"
        await told(log.warning, text, error)


async def _look_for_stranded(spool: Spool, *, conn_id: str) -> None:
    """Say once in a while what waits for other connections than this one, and nobody sends."""
    room, now = _rooms.get(), asyncio.get_running_loop().time()
    if now - room.looked_at < STRANDED_SECONDS:
        return
    room.looked_at = now
    # A spool that can't be read was named before, and what waits there does no harm here.
    with suppress(StoreError, OSError):
        find = partial(stranded, spool, now=time.time(), beside=conn_id)
        for one in await asyncio.to_thread(find):
            await told(log.warning, "The spool %s: %s", spool.directory, one)


async def _tried(
    spool: Spool,
    documents: Sequence[Document],
    *,
    conn_id: str,
    index: str,
    patience: float | None,
) -> Sequence[StoreError | None]:
    """Write documents, unless Elasticsearch did not answer a moment ago."""
    room = _rooms.get()
    if not await room.may_try(spool, conn_id):
        error: StoreError = ElasticsearchTimedOut(
            f"Elasticsearch, connection {conn_id}, did not answer in time a moment ago."
        )
        return (error,) * len(documents)
    try:
        fates = await _write(documents, conn_id=conn_id, index=index, patience=patience)
    except StoreError as raised:
        error = raised
        if isinstance(error, ElasticsearchTimedOut):
            await asyncio.to_thread(spool.mark_away, conn_id)
    except Exception as raised:
        await told_unexpected(log, raised)
        error = StoreError(f"{type(raised).__name__}: {raised}.")
    else:
        if any(isinstance(one, ElasticsearchTimedOut) for one in fates):
            await asyncio.to_thread(spool.mark_away, conn_id)
        elif None in fates:
            if spool.is_marked(conn_id):
                await asyncio.to_thread(spool.mark_back, conn_id)
            room.flusher(spool, conn_id).after_success()
        return fates
    return (error,) * len(documents)


def _is_refused(fate: StoreError) -> bool:
    return isinstance(fate, DocumentRefused)


async def _keep(spool: Spool, away: Sequence[tuple[Entry, StoreError]]) -> Fate:
    """Keep documents of one connection in the spool; return what became of all of them."""
    room, entries = _rooms.get(), [entry for entry, _ in away]
    reason = str(away[0][1])
    try:
        used = await room.keeper(spool, entries[0].conn_id, "waiting").keep(entries)
    except StoreError as error:
        return type(error)(f"{reason} {error.message}")
    room.note(entries)
    room.flusher(spool, entries[0].conn_id).after_failure()
    await told(
        log.warning,
        "Elasticsearch doesn't take documents now. Of this task so many wait for it in the spool "
        "%s: %d (%d of %d bytes are used). %s",
        *(spool.directory, len(entries), used, spool.max_bytes, reason),
    )
    if not _limit():
        # What is misspelt is no reason to throw snapshots away.
        text = "[lag] spool_max_bytes is no number of bytes above 0, so that %d is used."
        await told(log.warning, text, spool.max_bytes)
    return Waits(reason)


async def _keep_refused(spool: Spool, refused: Sequence[Entry]) -> None:
    """Keep documents among the dead letters; where that can't be, the log says so."""
    try:
        await _rooms.get().keeper(spool, refused[0].conn_id, "refused").keep(refused)
    except StoreError as error:
        text = "Refused documents that could not be kept: %d. %s"
        await told(log.warning, text, len(refused), error)
    else:
        text = "Refused documents, kept in %s: %d."
        await told(log.warning, text, spool.directory, len(refused))


async def settle() -> None:
    """Wait a few seconds for what waits to be sent, where documents have just been written.

    For a task on a worker: its event loop, and what is detached on it, ends with it.
    """
    flushers = list(_rooms.get().flushers.values())
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            for one in flushers:
                await one.tried.wait()


def waiting_snapshots() -> frozenset[str]:
    """Return the ids of the snapshots that wait in the spool, as far as this event loop knows."""
    return frozenset(_rooms.get().snapshots)
