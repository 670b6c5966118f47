"""Appends to the spool for the callers of one event loop: plain asyncio, nothing of Airflow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_lag_provider.errors import SpoolFull, StoreError
from airflow_lag_provider.shared_work import detached
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry, Kind


@dataclass(slots=True)
class Keeper:
    """Appends what callers give at the same time with one write and one fsync.

    :param kind: of the entries.
    :param waiting: what comes while an append is under way.
    """

    spool: Spool
    kind: Kind
    waiting: list[tuple[Sequence[Entry], asyncio.Future[int]]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def keep(self, entries: Sequence[Entry]) -> int:
        """Add entries; return how many bytes the spool holds then.

        :raises StoreError: they could not be added.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((entries, future))
        if self.task is None:
            self.task = detached(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self.waiting:
                taken, self.waiting = self.waiting, []
                many = [entries for entries, _ in taken]
                results = await asyncio.to_thread(append_each, self.spool, self.kind, many)
                for (_, future), result in zip(taken, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self.task = None


def append_each(
    spool: Spool, kind: Kind, many: Sequence[Sequence[Entry]]
) -> Sequence[int | Exception]:
    """Append the entries of some callers; return each one's error, or the bytes used. Blocking.

    When there is no room for all of them, there may be for some. The others are counted.
    """
    entries = [one for some in many for one in some]
    try:
        return [spool.append(entries, kind=kind)] * len(many)
    except SpoolFull as error:
        if len(many) > 1:
            return [append_each(spool, kind, [some])[0] for some in many]
        return [_counted(spool, error, len(entries))]
    except StoreError as error:
        # A caller may add notes to its error, so no two share one.
        return [type(error)(error.message) for _ in many]
    except Exception as error:
        return [error] * len(many)


def _counted(spool: Spool, error: SpoolFull, documents: int) -> StoreError:
    """Count documents that found no room, and return the error that says how many they are."""
    try:
        dropped = spool.count_dropped(documents)
    except StoreError as uncounted:
        return uncounted
    return SpoolFull(
        f"{error.message} Documents that found no room since {dropped.first}: {dropped.documents}."
    )
