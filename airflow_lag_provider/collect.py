"""Brings the describe command to the MirrorMaker host over SSH, once for all who ask for it.

What is shared belongs to an event loop: the triggerer has one for all its tasks, a worker one for
each task, which shares nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncssh
from airflow.providers.common.compat.sdk import AirflowException

from airflow_lag_provider.cadence import Cadence
from airflow_lag_provider.command import split_end_marker
from airflow_lag_provider.describe import GroupDescription, Reading
from airflow_lag_provider.errors import (
    CommandNotRun,
    DescribeTimedOut,
    HostKeyNotTrusted,
    LagError,
    OutputCutOff,
    SSHAuthenticationFailed,
    SSHConnectionInvalid,
    SSHConnectionNotRead,
    SSHError,
    SSHUnreachable,
)
from airflow_lag_provider.hooks.ssh import LagSSHHook, Link, Links, Target
from airflow_lag_provider.shared_work import PerLoop, SharedWork, detached
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

# How long a description is kept for those of its minute that come later, seconds.
KEPT_SECONDS = 60.0
# sshd lets 10 sessions share a connection (MaxSessions); and each command is a JVM.
COMMANDS_AT_ONCE = 4
# How long a describe waits for its turn, seconds, before its own time limit begins: once for the
# last describe of its group, once for a slot on its host.
PATIENCE_SECONDS = 20.0
# All who waited for a describe go on when it ends: so many of them in one turn of the event loop,
# so that a thousand topics don't block it.
CALLERS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class DescribeOutput:
    """What the tool printed, whole: its end marker was there and is taken off.

    :param exit_code: the tool's own, which says little: see ``describe.parse``.
    :param ended_at: when the command ended, with time zone.
    :param began_at: when the command was sent; ``None``: not known.
    """

    stdout: str
    stderr: str
    exit_code: int
    ended_at: datetime
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """A group's description.

    :param ended_at: when the command that brought it ended, with time zone.
    :param began_at: when the command was sent; ``None``: not known.
    """

    description: GroupDescription
    ended_at: datetime
    began_at: datetime | None = None


def _slots() -> defaultdict[tuple[str, int], asyncio.Semaphore]:
    return defaultdict(lambda: asyncio.Semaphore(COMMANDS_AT_ONCE))


@dataclass(slots=True)
class _Room:
    """What the callers of one event loop share."""

    work: SharedWork[Collected] = field(default_factory=lambda: SharedWork(keep=KEPT_SECONDS))
    links: Links = field(default_factory=Links)
    slots: defaultdict[tuple[str, int], asyncio.Semaphore] = field(default_factory=_slots)
    cadence: Cadence = field(default_factory=Cadence)
    ahead: set[asyncio.Task[None]] = field(default_factory=set)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLERS_AT_ONCE))


_rooms = PerLoop(_Room)


async def collect(
    *,
    ssh_conn_id: str,
    command: str,
    group: str,
    timeout: float,
    occasion: Hashable,
    attempt: int,
) -> Collected:
    """Describe a group on the host of an SSH connection, once for all who ask for the same.

    Those who give the same connection, command, occasion and attempt get one answer, or each its
    own error of one failure. No two describes of a command that somebody waits for run at a time.
    What scheduled runs ask for minute after minute begins when its minute does, before they ask.

    :param command: see ``command.describe_command``.
    :param group: the group that the command describes.
    :param timeout: seconds for connecting and running together.
    :param occasion: see ``Run.occasion``.
    :param attempt: the caller's try number.
    :raises SSHError: no session, or one that ended before the output was whole.
    :raises DescribeError: the command did not end in time, or brought no description.
    """
    room = _rooms.get()
    lane = (ssh_conn_id, command)

    async def work() -> Collected:
        output = await _run(room, ssh_conn_id=ssh_conn_id, command=command, timeout=timeout)
        return Collected(await _parsed(output, group), output.ended_at, output.began_at)

    def result(
        occasion: Hashable, attempt: int, *, patience: float = PATIENCE_SECONDS
    ) -> Coroutine[Any, Any, Collected]:
        return room.work.result((*lane, occasion, attempt), lane=lane, patience=patience, work=work)

    if isinstance(occasion, datetime) and attempt == 1:
        due = room.cadence.next_due(lane, occasion)
        if due and due > datetime.now(UTC):
            task = detached(
                _ahead(due, lambda: result(due, 1, patience=PATIENCE_SECONDS + timeout))
            )
            room.ahead.add(task)
            task.add_done_callback(room.ahead.discard)
    try:
        collected = await result(occasion, attempt)
    except TimeoutError as error:
        raise DescribeTimedOut(
            "The describe of an earlier run did not end in time for this one to begin."
        ) from error
    except LagError as error:
        # One for each caller, who may add notes to it.
        raise type(error)(error.message) from error
    async with room.turns:
        await asyncio.sleep(0)
    return collected


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


async def _run(room: _Room, *, ssh_conn_id: str, command: str, timeout: float) -> DescribeOutput:
    """Run the command when its host has a slot for it, and return its output."""
    started = asyncio.get_running_loop().time()
    hook = LagSSHHook(ssh_conn_id=ssh_conn_id)
    target = await _target(hook, timeout=timeout)
    timeout -= asyncio.get_running_loop().time() - started
    slots = room.slots[target.host, target.port]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await slots.acquire()
    except TimeoutError as error:
        raise DescribeTimedOut(
            f"{COMMANDS_AT_ONCE} commands on {target.host} left no room for one more within "
            f"{PATIENCE_SECONDS:g} s."
        ) from error
    began_at = datetime.now(UTC)
    try:
        result = await _result(room.links, hook, target, command=command, timeout=timeout)
    finally:
        slots.release()
    stdout, stderr = _text(result.stdout), _text(result.stderr)
    try:
        stdout, exit_code = split_end_marker(stdout)
    except OutputCutOff as error:
        if result.exit_status is None or result.exit_status < 0:
            raise
        said = next(
            (line for line in f"{stderr}\n{stdout}".splitlines() if line.strip()), "nothing"
        )
        raise CommandNotRun(
            f"The shell on {target.host} ended with {result.exit_status} without running the "
            f"command, and said: {said.strip():.200}."
        ) from error
    return DescribeOutput(stdout, stderr, exit_code, datetime.now(UTC), began_at)


async def _target(hook: LagSSHHook, *, timeout: float) -> Target:
    """Read the Airflow connection."""
    with _connection_errors(hook.ssh_conn_id):
        try:
            async with asyncio.timeout(timeout):
                return await hook.target()
        except OSError as error:
            # A time-out too: of Airflow, since the host was not yet asked for anything.
            reason = (
                f"not within {timeout:g} s" if isinstance(error, TimeoutError) else _words(error)
            )
            raise SSHConnectionNotRead(
                f"Airflow did not hand out the SSH connection {hook.ssh_conn_id!r}: {reason}."
            ) from error


async def _result(
    links: Links, hook: LagSSHHook, target: Target, *, command: str, timeout: float
) -> asyncssh.SSHCompletedProcess:
    """Run the command on the open connection, or on a new one where that turns out broken."""
    deadline = asyncio.get_running_loop().time() + timeout
    where = f"{target.secrets[0]}@{target.host}:{target.port}"
    while True:
        async with _link(links, hook, target, deadline=deadline) as link:
            started = False
            try:
                async with asyncio.timeout_at(deadline):
                    # Bytes, because a client id need not be valid UTF-8.
                    process = await link.connection.create_process(command, encoding=None)
                    started = True
                    try:
                        return await process.wait(check=False)
                    finally:
                        # Also when nobody waits any more: its slot goes to another command.
                        process.close()
            except TimeoutError as error:
                link.retire()
                raise DescribeTimedOut(
                    f"The describe command on {where} did not end within {timeout:g} s."
                ) from error
            except (asyncssh.Error, OSError) as error:
                link.retire()
                if started or not link.used:
                    raise OutputCutOff(
                        f"The SSH session with {where} ended early: {_words(error)}."
                    ) from error


@asynccontextmanager
async def _link(
    links: Links, hook: LagSSHHook, target: Target, *, deadline: float
) -> AsyncIterator[Link]:
    async with AsyncExitStack() as stack:
        with _connection_errors(hook.ssh_conn_id):
            async with asyncio.timeout_at(deadline):
                link = await stack.enter_async_context(links.link(hook, target))
        yield link


@contextmanager
def _connection_errors(ssh_conn_id: str) -> Iterator[None]:
    """Give everything that can go wrong until a connection is open its own error."""
    try:
        yield
    except (asyncssh.Error, OSError, ValueError, AirflowException) as error:
        raise _connection_error(error, where=f"SSH connection {ssh_conn_id!r}") from error


def _connection_error(error: Exception, *, where: str) -> SSHError:
    """Return this package's error for what opening a connection may raise."""
    kinds: tuple[tuple[bool, type[SSHError]], ...] = (
        (isinstance(error, TimeoutError), SSHUnreachable),
        (isinstance(error, asyncssh.HostKeyNotVerifiable), HostKeyNotTrusted),
        (isinstance(error, asyncssh.PermissionDenied), SSHAuthenticationFailed),
        (isinstance(error, asyncssh.Error), SSHUnreachable),
        # A file that the connection names, such as key_file, fails as OSError too.
        (isinstance(error, OSError) and not error.filename, SSHUnreachable),
    )
    kind = next((kind for holds, kind in kinds if holds), SSHConnectionInvalid)
    reason = "no SSH session in time" if isinstance(error, TimeoutError) else _words(error)
    return kind(f"{where}: {reason}.")


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _text(output: bytes | str | None) -> str:
    if isinstance(output, bytes):
        return output.decode("utf-8", errors="backslashreplace")
    return output or ""
