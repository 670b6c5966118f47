"""Work that is done once for all who ask for it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_lag_provider.shared_work import LaneBusy, PerLoop, SharedWork, detached

TASK = ContextVar[str]("TASK")


class Job:
    """Work that counts its starts and ends when it is let go."""

    def __init__(self, result: Any = "done") -> None:
        self.result = result
        self.starts = 0
        self.at_once = 0
        self.most_at_once = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> Any:
        self.starts += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def asked(
    shared: SharedWork[Any],
    job: Callable[[], Coroutine[Any, Any, Any]],
    key: str = "13:35",
    patience: float = 5.0,
) -> asyncio.Task[Any]:
    return asyncio.create_task(shared.result(key, lane="group", patience=patience, work=job))


async def a_moment() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_one_piece_of_work_answers_all_who_wait_and_who_come_later() -> None:
    """Callers before, during and after the work all get its one result."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        early = [asked(shared, job) for _ in range(3)]
        await a_moment()
        during = asked(shared, job)
        job.go.set()
        assert await asyncio.gather(*early, during) == ["done"] * 4
        assert await asked(shared, job) == "done"
        assert job.starts == 1

    asyncio.run(story())


def test_a_failure_is_shared_too_and_the_next_attempt_is_again_one_for_all() -> None:
    """A failure is not tried again for those of its key, and once for those of the next."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job(ValueError("no"))
        job.go.set()
        for key in ("attempt 1", "attempt 2"):
            results = await asyncio.gather(
                *(asked(shared, job, key) for _ in range(3)), return_exceptions=True
            )
            assert [str(one) for one in results] == ["no"] * 3
        assert job.starts == 2

    asyncio.run(story())


def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    """Even the first caller, whose call began the work, may go."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        first, second = asked(shared, job), asked(shared, job)
        await a_moment()
        first.cancel()
        await a_moment()
        job.go.set()
        assert await second == "done"
        assert first.cancelled()
        assert job.cancelled == 0

    asyncio.run(story())


def test_the_last_caller_takes_the_work_along_and_the_next_begins_anew() -> None:
    """Nobody's work is stopped, and its key can be asked for again."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        callers = [asked(shared, job) for _ in range(2)]
        await a_moment()
        for caller in callers:
            caller.cancel()
        await a_moment()
        assert job.cancelled == 1
        job.go.set()
        assert await asked(shared, job) == "done"
        assert job.starts == 2

    asyncio.run(story())


def test_nothing_is_kept_beyond_its_time() -> None:
    """After its time a result is gone, and a result that comes later isn't kept at all."""

    async def story() -> None:
        shared, quick, slow = SharedWork[str](keep=0.05), Job(), Job()
        quick.go.set()
        await asked(shared, quick)
        assert len(shared) == 1
        waiting = asked(shared, slow, "13:36")
        await asyncio.sleep(0.1)
        assert len(shared) == 1
        slow.go.set()
        await waiting
        await a_moment()
        assert len(shared) == 0

    asyncio.run(story())


def test_two_pieces_of_one_lane_never_run_at_the_same_time() -> None:
    """However many minutes and attempts wait, one describe of a group runs."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        waiting = [asked(shared, job, f"13:{minute}") for minute in range(35, 39)]
        await a_moment()
        assert job.starts == 1
        job.go.set()
        await asyncio.gather(*waiting)
        assert (job.starts, job.most_at_once) == (4, 1)

    asyncio.run(story())


def test_a_lane_that_stays_busy_ends_the_wait_with_a_timeout() -> None:
    """The second gives up in time and says since when the first runs, which is not touched."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        first = asked(shared, job)
        await a_moment()
        began = datetime.now(UTC)
        with pytest.raises(LaneBusy) as caught:
            await asked(shared, job, "13:36", patience=0.02)
        assert caught.value.since < began
        assert not caught.value.held
        job.go.set()
        assert await first == "done"

    asyncio.run(story())


def test_a_lane_that_is_held_stays_busy_after_its_work() -> None:
    """Work that left something behind fails its callers at once; the next work waits for the rest.

    Who waits in vain is told when the work began, not when it ended.
    """

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()
        job.go.set()

        clock = asyncio.get_running_loop().time
        began: list[datetime] = []
        free_at: list[float] = []

        async def lost() -> str:
            began.append(datetime.now(UTC))
            await asyncio.sleep(0.01)
            free_at.append(clock() + 1.0)
            shared.hold("group", 1.0)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await asked(shared, lost)
        with pytest.raises(LaneBusy) as caught:
            await asked(shared, job, "13:36", patience=0.02)
        assert caught.value.since <= began[0]
        assert caught.value.held
        assert job.starts == 0
        assert await asked(shared, job, "13:37") == "done"
        assert clock() >= free_at[0]

    asyncio.run(story())


def test_a_lane_whose_work_outlasts_its_hold_is_as_busy_as_any() -> None:
    """Work that goes on after its hold still has its lane to itself."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()

        async def holds() -> str:
            shared.hold("group", 0.0)
            return str(await job())

        first = asked(shared, holds)
        await asyncio.sleep(0.02)
        second = asked(shared, job, "13:36")
        await a_moment()
        assert job.starts == 1
        job.go.set()
        assert await asyncio.gather(first, second) == ["done", "done"]
        assert job.most_at_once == 1

    asyncio.run(story())


def test_a_loop_ends_without_waiting_for_what_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """A worker ends with its task, whatever it left on the host, and nothing is said of it."""

    async def story() -> None:
        shared, job = SharedWork[str](keep=60), Job()

        async def lost() -> str:
            try:
                return str(await job())
            finally:
                shared.hold("group", 60.0)

        asked(shared, lost)
        await a_moment()

    started = time.monotonic()
    asyncio.run(story())
    gc.collect()
    assert time.monotonic() - started < 30
    assert not caplog.records


def test_work_that_outlives_its_caller_is_in_nobodys_context() -> None:
    """It knows nothing of the task whose call began it, so that it can't open that one's log."""

    async def work() -> str | None:
        return TASK.get(None)

    async def story() -> None:
        TASK.set("consumer_lag.oasis.orders")
        assert await asyncio.create_task(work()) == "consumer_lag.oasis.orders"
        assert await detached(work()) is None

    asyncio.run(story())


def test_each_event_loop_has_its_own() -> None:
    """In one loop it is the same each time; of loops that ended only the last one is kept."""
    things = PerLoop[list[str]](list)
    seen = []

    async def story() -> None:
        assert things.get() is things.get()
        seen.append(things.get())

    for _ in range(3):
        asyncio.run(story())
    assert len({id(one) for one in seen}) == 3
    assert len(things) == 1
