"""Describes a consumer group once for all who ask for it.

What is shared belongs to an event loop: the triggerer has one for all its tasks, a worker one for
each task, which shares nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_lag_provider.cadence import Cadence
from airflow_lag_provider.describe import GroupDescription, Reading
from airflow_lag_provider.describe_lines import quoted
from airflow_lag_provider.errors import DescribeTimedOut, LagError
from airflow_lag_provider.shared_work import LaneBusy, PerLoop, SharedWork, detached
from airflow_lag_provider.ssh_sessions import DescribeOutput, Sessions
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

# How long a description is kept for those of its minute that come later, seconds.
KEPT_SECONDS = 60.0
# How long a describe waits for the last one of its group, seconds, at least and at most, before it
# asks for a slot on its host and then its own time limit begins. Within these, until its time limit
# just ends before the minute does: else, while a broker hangs, each minute's commands would begin
# later than the last one's. A time limit of up to 30 seconds, as all have that leave room for a
# retry, is so outlasted when a session was lost and its describe may run on.
MIN_PATIENCE_SECONDS = 20.0
MAX_PATIENCE_SECONDS = 30.0
_MINUTE_SECONDS = 60.0
# All who waited for a describe go on when it ends: so many of them in one turn of the event loop,
# so that a thousand topics don't block it.
CALLERS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Collected:
    """A group's description.

    :param ended_at: when the command that brought it ended, with time zone.
    :param began_at: when the command was sent; ``None``: not known.
    """

    description: GroupDescription
    ended_at: datetime
    began_at: datetime | None = None


@dataclass(slots=True)
class _Room:
    """What the callers of one event loop share."""

    work: SharedWork[Collected] = field(default_factory=lambda: SharedWork(keep=KEPT_SECONDS))
    sessions: Sessions = field(default_factory=Sessions)
    cadence: Cadence = field(default_factory=Cadence)
    ahead: set[asyncio.Task[None]] = field(default_factory=set)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLERS_AT_ONCE))

    def begin(self, due: datetime, result: Callable[[], Coroutine[Any, Any, Collected]]) -> None:
        """Let work begin when it is due, whether or not anybody asks for it by then."""
        task = detached(_ahead(due, result))
        self.ahead.add(task)
        task.add_done_callback(self.ahead.discard)


_rooms = PerLoop(_Room)


async def collect(
    *,
    ssh_conn_id: str,
    command: str,
    bootstrap_servers: Collection[str],
    group: str,
    timeout: float,
    occasion: Hashable,
    attempt: int,
) -> Collected:
    """Describe a group on the host of an SSH connection, once for all who ask for the same.

    Those who give the same connection, command, occasion and attempt get one answer, or each its
    own error of one failure. Of one group no two describes run at a time, also where the commands
    differ, as with topics that have different time limits, and where nobody waits for the first
    one any more because its session was lost. What scheduled runs ask for minute after minute
    begins when its minute does, before they ask.

    :param command: see ``command.describe_command``.
    :param bootstrap_servers: the brokers that the command asks.
    :param group: the group that the command describes.
    :param timeout: seconds for connecting and running together.
    :param occasion: see ``Run.occasion``.
    :param attempt: the caller's try number.
    :raises SSHError: no session, or one that ended before the output was whole.
    :raises DescribeError: the command did not end in time, or brought no description.
    """
    room = _rooms.get()
    shared = (ssh_conn_id, command)
    lane = (ssh_conn_id, frozenset(bootstrap_servers), group)

    async def work() -> Collected:
        output = await room.sessions.run(
            ssh_conn_id=ssh_conn_id,
            command=command,
            timeout=timeout,
            left_running=lambda seconds: room.work.hold(lane, seconds),
        )
        return Collected(await _parsed(output, group), output.ended_at, output.began_at)

    def result(occasion: Hashable, attempt: int) -> Coroutine[Any, Any, Collected]:
        return room.work.result(
            (*shared, occasion, attempt), lane=lane, patience=patience_with(timeout), work=work
        )

    if isinstance(occasion, datetime) and attempt == 1:
        due = room.cadence.next_due(shared, occasion)
        if due and due > datetime.now(UTC):
            room.begin(due, lambda: result(due, 1))
    try:
        collected = await result(occasion, attempt)
    except LaneBusy as error:
        why = "may still run there, without a session" if error.held else "did not end in time"
        raise DescribeTimedOut(
            f"Another describe of group {quoted(group)}, which began at {error.since:%H:%M:%S} "
            f"UTC, {why}, so this one did not begin."
        ) from error
    except LagError as error:
        # One for each caller, who may add notes to it.
        raise type(error)(error.message) from error
    async with room.turns:
        await asyncio.sleep(0)
    return collected


def patience_with(timeout: float) -> float:
    """Return how long a describe with this time limit waits for the last one of its group."""
    return min(MAX_PATIENCE_SECONDS, max(MIN_PATIENCE_SECONDS, _MINUTE_SECONDS - timeout))


async def _ahead(due: datetime, result: Callable[[], Coroutine[Any, Any, Collected]]) -> None:
    """Begin the next minute's work when it is due; those who ask for it learn how it ended."""
    await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
    try:
        await result()
    except Exception as error:
        await told(log.debug, "The describe that began at %s failed: %s", due, error)


async def _parsed(output: DescribeOutput, group: str) -> GroupDescription:
    """Return what the output says.

    Not in a thread: until a thread that computes is through, the event loop loses five
    milliseconds to it each time that it looks at a file or socket.
    """
    reading = Reading(output.stdout, output.stderr, output.exit_code, group=group)
    for _ in reading.turns():
        await asyncio.sleep(0)
    return reading.description()
