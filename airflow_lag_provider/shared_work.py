"""What callers on one event loop share: plain asyncio, nothing of Airflow or SSH."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")
SharedT = TypeVar("SharedT")


def detached(work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
    """Start work that goes on when its caller has ended; the caller keeps the task.

    It has a context of its own. In that of the caller Airflow 2.11 would open the log of a task
    that has ended again, for each line that the work logs, and never close it.
    """
    return asyncio.create_task(work, context=Context())


class PerLoop(Generic[SharedT]):
    """Something that each event loop has one of; those of loops that ended are forgotten.

    :param make: makes it for a loop that has none yet.
    """

    def __init__(self, make: Callable[[], SharedT]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, SharedT] = {}

    def __len__(self) -> int:
        return len(self._made)

    def get(self) -> SharedT:
        """Return the running loop's."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            for other in [other for other in list(self._made) if other.is_closed()]:
                self._made.pop(other, None)
            self._made[loop] = self._make()
        return self._made[loop]


@dataclass(slots=True)
class _Piece(Generic[ResultT]):
    """One piece of work and how many callers wait for it."""

    task: asyncio.Task[ResultT]
    waiting: int = 0


class LaneBusy(TimeoutError):
    """A lane was not free in time.

    :param since: when the work began that has it.
    :param held: whether that work has ended, but the lane is held for what it left.
    """

    def __init__(self, since: datetime, *, held: bool) -> None:
        super().__init__(f"busy since {since}")
        self.since = since
        self.held = held


class SharedWork(Generic[ResultT]):
    """Gives all callers that name the same key one result, or the same exception.

    It belongs to the event loop it is first used in.

    :param keep: seconds from the start of a piece of work to its being forgotten. Work that takes
        longer is forgotten when it ends.
    """

    def __init__(self, *, keep: float) -> None:
        self._keep = keep
        self._pieces: dict[Hashable, _Piece[ResultT]] = {}
        # By lane: what has it until it is done, and since when.
        self._lanes: dict[Hashable, tuple[asyncio.Future[Any], datetime]] = {}
        # By lane, by the loop's clock.
        self._held_until: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    async def result(
        self,
        key: Hashable,
        *,
        lane: Hashable,
        patience: float,
        work: Callable[[], Coroutine[Any, Any, ResultT]],
    ) -> ResultT:
        """Return the result of the work of a key; the first caller's ``work`` does it.

        A cancelled caller leaves the others alone; with the last one the work is cancelled too.

        :param lane: of two pieces of work in one lane the second waits for the end of the first.
        :param patience: how long it waits, seconds.
        :raises LaneBusy: the lane was not free in time.
        """
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = self._begin(key, lane, patience, work)
        piece.waiting += 1
        try:
            return await asyncio.shield(piece.task)
        finally:
            piece.waiting -= 1
            if not piece.waiting and not piece.task.done():
                piece.task.cancel()
                self._forget(key, piece)

    def _begin(
        self,
        key: Hashable,
        lane: Hashable,
        patience: float,
        work: Callable[[], Coroutine[Any, Any, ResultT]],
    ) -> _Piece[ResultT]:
        task = detached(self._in_lane(lane, patience, work))
        piece = _Piece(task)
        asyncio.get_running_loop().call_later(self._keep, self._expire, key, piece)
        return piece

    async def _in_lane(
        self, lane: Hashable, patience: float, work: Callable[[], Coroutine[Any, Any, ResultT]]
    ) -> ResultT:
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience
        # Again and again: of several that wait, another one may have been faster.
        while busy := self._lanes.get(lane):
            other, since = busy
            ended, _ = await asyncio.wait([other], timeout=deadline - clock())
            if not ended:
                raise LaneBusy(since, held=not isinstance(other, asyncio.Task))
        task = asyncio.current_task()
        # It is the one made in _begin.
        self._lanes[lane] = task, datetime.now(UTC)  # type: ignore[assignment]
        try:
            return await work()
        finally:
            self._leave(lane)

    def hold(self, lane: Hashable, seconds: float) -> None:
        """Let nothing begin in a lane for so long, also when the work that has it ends earlier.

        For work that leaves something running elsewhere; it calls this itself.
        """
        self._held_until[lane] = asyncio.get_running_loop().time() + seconds

    def _leave(self, lane: Hashable) -> None:
        loop = asyncio.get_running_loop()
        _, since = self._lanes.pop(lane)
        until = self._held_until.pop(lane, 0.0)
        if until > loop.time():
            # Not a task, which a loop that is about to end would complain of.
            self._lanes[lane] = loop.create_future(), since
            loop.call_at(until, self._free, lane)

    def _free(self, lane: Hashable) -> None:
        rest, _ = self._lanes.pop(lane)
        rest.set_result(None)

    def _expire(self, key: Hashable, piece: _Piece[ResultT]) -> None:
        if piece.task.done():
            self._forget(key, piece)
        else:
            piece.task.add_done_callback(lambda _: self._forget(key, piece))

    def _forget(self, key: Hashable, piece: _Piece[ResultT]) -> None:
        # By then the key may stand for newer work.
        if self._pieces.get(key) is piece:
            del self._pieces[key]
