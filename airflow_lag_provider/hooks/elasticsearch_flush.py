"""Sends what waits in the spool: file by file, oldest first, in requests of a limited size."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from airflow.providers.common.compat.sdk import redact

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchConnectionInvalid,
    ElasticsearchNotTrusted,
    ElasticsearchTimedOut,
    SpoolFull,
    SpoolUnusable,
    StoreError,
)
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_errors import FIELDS_USED_UP
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.shared_work import detached
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry, FileName, Kind, connection_key
from airflow_lag_provider.spool_file import SpoolFile
from airflow_lag_provider.spool_keeper import append_each
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

# How often it is looked whether something waits, after documents were written, seconds.
LOOK_SECONDS = 10.0
# How long is waited, at first and at most, before what waits is sent again, seconds.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
# Documents in one request: to put so many of 18 partitions into one takes the event loop some
# milliseconds.
DOCUMENTS_AT_ONCE = 50


@dataclass(slots=True)
class Flushed:
    """What became of the documents that waited.

    :param sent: ids of those that are in Elasticsearch now.
    :param refused: ids of those that Elasticsearch refused.
    :param left: files in which some wait on.
    :param owned: how many files living processes own, who send them themselves.
    :param reasons: why some wait on.
    """

    sent: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: int = 0
    owned: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Away:
    """What is not tried any more in one flush: a connection, or one index of it.

    :param too_wide: by connection and index why some documents alone are not there: others have
        fewer fields, and may find room.
    """

    known: dict[tuple[str, str | None], StoreError] = field(default_factory=dict)
    too_wide: dict[tuple[str, str], StoreError] = field(default_factory=dict)

    def add(self, conn_id: str, index: str, error: StoreError) -> None:
        if FIELDS_USED_UP in error.message:
            self.too_wide.setdefault((conn_id, index), error)
            return
        everywhere = error.retriable or isinstance(
            error, ElasticsearchConnectionInvalid | ElasticsearchNotTrusted
        )
        self.known.setdefault((conn_id, None if everywhere else index), error)

    def holds(self, path: Path) -> bool:
        """Return whether all documents of a file are for a connection that is away."""
        name = FileName.parse(path.name)
        keys = {connection_key(conn_id) for conn_id, index in self.known if index is None}
        return name is not None and name.connection in keys

    def why(self, conn_id: str, index: str) -> StoreError | None:
        return self.known.get((conn_id, None)) or self.known.get((conn_id, index))


async def flush(spool: Spool, *, conn_id: str | None = None, kind: Kind = "waiting") -> Flushed:
    """Send what waits, of this process and of those that are gone, and remove what was sent.

    What Elasticsearch refuses goes to the dead letters, with the reason.

    :param conn_id: of one connection only.
    :param kind: ``refused``: send the dead letters again.
    :raises SpoolUnusable: the directory can't be read, or is another user's.
    """
    flushed, away = Flushed(), _Away()
    await asyncio.to_thread(spool.check)
    await asyncio.to_thread(partial(spool.release, conn_id=conn_id))
    for path in await asyncio.to_thread(partial(spool.files, conn_id=conn_id, kind=kind)):
        if away.holds(path):
            # A thousand files are not taken over and read once a minute for nothing.
            flushed.left += 1
            continue
        try:
            file = await asyncio.to_thread(spool.take, path)
            if file is None:
                flushed.owned += await asyncio.to_thread(path.exists)
                continue
            try:
                await _flush_file(spool, file, kind=kind, away=away, flushed=flushed)
            finally:
                file.close()
        except Exception as error:
            # It is as it was before; those behind it may do better.
            flushed.left += 1
            if (reason := str(error)) not in flushed.reasons:
                flushed.reasons.append(reason)
                known = isinstance(error, SpoolUnusable | OSError)
                text = "The file %s of the spool can't be dealt with: %s"
                await told(log.warning, text, path, error, exc_info=None if known else error)
    flushed.reasons += map(str, [*away.known.values(), *away.too_wide.values()])
    return flushed


async def _flush_file(
    spool: Spool, file: SpoolFile, *, kind: Kind, away: _Away, flushed: Flushed
) -> None:
    entries = await asyncio.to_thread(file.entries)
    kept: list[Entry] = []
    refused: list[Entry] = []
    sent: list[str] = []
    for conn_id, index in dict.fromkeys((one.conn_id, one.index) for one in entries):
        there = [one for one in entries if (one.conn_id, one.index) == (conn_id, index)]
        fates = await _send(spool, conn_id, index, there, away=away)
        for entry, fate in zip(there, fates, strict=True):
            if fate is None:
                sent.append(entry.id)
            elif isinstance(fate, DocumentRefused):
                refused.append(with_reason(entry, fate))
            else:
                kept.append(entry)
    # An owner that was killed at once leaves an empty one.
    if sent or refused or not entries:
        letters = () if kind == "refused" else refused
        rest = [*kept, *refused] if kind == "refused" else kept
        await asyncio.to_thread(_settle, spool, file, rest, letters)
    flushed.left += bool(kept)
    flushed.refused += [one.id for one in refused]
    flushed.sent += sent


def _settle(spool: Spool, file: SpoolFile, rest: Sequence[Entry], letters: Sequence[Entry]) -> None:
    """Leave the rest in a file, not before the dead letters are on the disk, or counted."""
    for one, kept in zip(
        letters, append_each(spool, "refused", [[one] for one in letters]), strict=True
    ):
        full = isinstance(kept, SpoolFull)
        if isinstance(kept, Exception) and not full:
            raise kept
        log.warning(
            "Elasticsearch refused document %s/%s of topic %s; it is %s: %s",
            *(one.index, one.id, one.source.get("topic")),
            "lost, because there is no room for more of them" if full else "kept with the reason",
            one.reason,
        )
    file.keep(tuple(rest))


def with_reason(entry: Entry, error: StoreError) -> Entry:
    """Return a dead letter."""
    return replace(entry, reason=str(redact(error.message)))


async def _send(
    spool: Spool, conn_id: str, index: str, entries: Sequence[Entry], *, away: _Away
) -> list[StoreError | None]:
    """Send documents to one index; return for each ``None``, or why it isn't there."""
    fates: list[StoreError | None] = []
    error = away.why(conn_id, index)
    if error is None:
        documents = [Document(one.id, one.version, one.source) for one in entries]
        hook = LagElasticsearchHook(elasticsearch_conn_id=conn_id, index=index)
        try:
            async with hook.session() as session:
                for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
                    fates += await _write(session, documents[start : start + DOCUMENTS_AT_ONCE])
        except StoreError as raised:
            error = raised
        if None in fates:
            await asyncio.to_thread(spool.mark_back, conn_id)
        if isinstance(error, ElasticsearchTimedOut):
            await asyncio.to_thread(spool.mark_away, conn_id)
    fates += [error] * (len(entries) - len(fates))
    for fate in fates:
        if fate and not isinstance(fate, DocumentRefused):
            away.add(conn_id, index, fate)
    return fates


async def _write(session: Session, documents: Sequence[Document]) -> Sequence[StoreError | None]:
    """Write documents; return what became of each, also of one alone that is refused."""
    try:
        return await session.write(*documents)
    except DocumentRefused as error:
        return [type(error)(error.message) for _ in documents]


@dataclass(slots=True)
class Flusher:
    """Sends what waits for one connection, detached from the tasks, until nothing does.

    :param gone: told the ids of the documents that don't wait any more.
    :param again: whether something came that the present attempt may have missed.
    :param tried: cleared by a success elsewhere, set by the attempt that follows.
    """

    spool: Spool
    conn_id: str
    gone: Callable[[Sequence[str]], None]
    looked_at: float = float("-inf")
    again: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.tried.set()

    def after_success(self) -> None:
        """Look whether something waits, now that Elasticsearch answers; not too often."""
        now = asyncio.get_running_loop().time()
        if now - self.looked_at >= LOOK_SECONDS:
            self.looked_at = now
            self.tried.clear()
            self.wake.set()
            self._start()

    def after_failure(self) -> None:
        """Try again later, since something waits here."""
        self.again = True
        self._start()

    def _start(self) -> None:
        if self.task is None:
            self.task = detached(self._work())

    async def _work(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                await self._pause(pause)
                self.again = False
                left = await self._attempt()
                self.tried.set()
                if not left and not self.again:
                    return
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self.tried.set()
            self.task = None

    async def _attempt(self) -> bool:
        """Send what waits; return whether some of it is left."""
        try:
            flushed = await flush(self.spool, conn_id=self.conn_id)
        except Exception as error:
            known = isinstance(error, SpoolUnusable)
            text = "What waits in the spool could not be sent; it stays there. %s"
            await told(log.warning, text, error, exc_info=None if known else error)
            return True
        self.gone([*flushed.sent, *flushed.refused])
        if flushed.sent:
            await told(log.info, "Documents that waited, written now: %d.", len(flushed.sent))
        if flushed.left:
            text = "Files of the spool in which documents wait on: %d. %s"
            await told(log.warning, text, flushed.left, "; ".join(flushed.reasons))
        return flushed.left > 0

    async def _pause(self, seconds: float) -> None:
        """Wait some time, or until Elasticsearch has answered somebody."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        self.wake.clear()
