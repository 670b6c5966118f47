"""Describe commands on the MirrorMaker hosts: each in an SSH session of its own, a few at a time.

What a session shares with others, the open connection and the slots of its host, belongs to an
event loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncssh
from airflow.providers.common.compat.sdk import AirflowException

from airflow_lag_provider.command import TimeLimits, split_end_marker
from airflow_lag_provider.describe_lines import clean
from airflow_lag_provider.errors import (
    CommandNotRun,
    DescribeTimedOut,
    HostKeyNotTrusted,
    OutputCutOff,
    SSHAuthenticationFailed,
    SSHConnectionInvalid,
    SSHConnectionNotRead,
    SSHError,
    SSHUnreachable,
)
from airflow_lag_provider.hooks.connection import handed_out
from airflow_lag_provider.hooks.ssh import LagSSHHook, Link, Links, Target

# sshd lets 10 sessions share a connection (MaxSessions); and each command is a JVM.
COMMANDS_AT_ONCE = 4
# How long a command waits for a slot on its host, seconds, before its own time limit begins.
SLOT_SECONDS = 20.0
# Time for the host's shell to begin with a command that the host has accepted, seconds. A guess: a
# host that takes longer over it may have a describe for as much longer than we take it to have.
_SHELL_SECONDS = 1.0
# From here on a shell's exit status may tell of a signal, or that an inner ssh lost its session.
_FIRST_SIGNAL_STATUS = 128
_SAID_CHARS = 200


@dataclass(frozen=True, slots=True)
class DescribeOutput:
    """What the tool printed, whole: its end marker was there and is taken off.

    :param exit_code: the tool's own, which says little: see ``describe.parse``.
    :param ended_at: when the command ended, with time zone.
    :param began_at: when the command was sent; ``None``: not known.
    """

    # What a host's own scripts print may hold passwords.
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    exit_code: int
    ended_at: datetime
    began_at: datetime | None = None


@dataclass(slots=True)
class _Command:
    """A command line, and how far it has come.

    :param timeout: what it was made for, see ``TimeLimits.within``.
    :param sent: whether the host may have it.
    :param accepted_at: when the host said that it has it, by the event loop's clock; ``None``: it
        did not say so.
    """

    line: str
    timeout: float
    sent: bool = False
    accepted_at: float | None = None

    async def run(self, connection: asyncssh.SSHClientConnection) -> asyncssh.SSHCompletedProcess:
        """Run it and wait for its end."""
        process = asyncssh.SSHClientProcess[bytes]()

        def session() -> asyncssh.SSHClientProcess[bytes]:
            # Called when the host has opened a channel, right before the command is sent there.
            self.sent = True
            return process

        try:
            # Bytes, because a client id need not be valid UTF-8.
            await connection.create_session(session, self.line, encoding=None)
            self.accepted_at = asyncio.get_running_loop().time()
            return await process.wait(check=False)
        except asyncssh.ChannelOpenError:
            if not connection.is_closed():
                # The host has refused it.
                self.sent = False
            raise
        finally:
            if self.sent:
                # Also when nobody waits any more: its slot goes to another command.
                process.close()

    def may_run_for(self) -> float:
        """Return how long it may run on, seconds, as long as nothing tells of its end."""
        if not self.sent:
            return 0.0
        now = asyncio.get_running_loop().time()
        begun_at = now if self.accepted_at is None else self.accepted_at
        return begun_at + _SHELL_SECONDS + TimeLimits.within(self.timeout).longest_s - now


def _slots() -> defaultdict[tuple[str, int], asyncio.Semaphore]:
    return defaultdict(lambda: asyncio.Semaphore(COMMANDS_AT_ONCE))


@dataclass(slots=True)
class Sessions:
    """The open connections of one event loop, and the slots of their hosts."""

    links: Links = field(default_factory=Links)
    slots: defaultdict[tuple[str, int], asyncio.Semaphore] = field(default_factory=_slots)

    async def run(
        self,
        *,
        ssh_conn_id: str,
        command: str,
        timeout: float,
        left_running: Callable[[float], object],
    ) -> DescribeOutput:
        """Run a describe command when its host has a slot for it, and return its output.

        :param timeout: seconds for connecting and running together.
        :param left_running: called before this raises, when the command may still run on the host:
            with the seconds until its own time limit has ended it.
        :raises SSHError: no session, or one that ended before the output was whole.
        :raises DescribeTimedOut: the command did not end in time, or had no slot.
        """
        started = asyncio.get_running_loop().time()
        hook = LagSSHHook(ssh_conn_id=ssh_conn_id)
        target = await _target(hook, timeout=timeout)
        left = timeout - (asyncio.get_running_loop().time() - started)
        slots = self.slots[target.host, target.port]
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await slots.acquire()
        except TimeoutError as error:
            raise DescribeTimedOut(
                f"{COMMANDS_AT_ONCE} commands on {target.host} left no room for one more within "
                f"{SLOT_SECONDS:g} s."
            ) from error
        began_at, describe = datetime.now(UTC), _Command(command, timeout)
        try:
            result = await _result(self.links, hook, target, describe, timeout=left)
            return _output(result, target, began_at)
        except CommandNotRun:
            raise
        except BaseException:
            if (seconds := describe.may_run_for()) > 0:
                left_running(seconds)
            raise
        finally:
            slots.release()


def _output(
    result: asyncssh.SSHCompletedProcess, target: Target, began_at: datetime
) -> DescribeOutput:
    stdout, stderr = _text(result.stdout), _text(result.stderr)
    try:
        stdout, exit_code = split_end_marker(stdout)
    except OutputCutOff as error:
        status = result.exit_status
        if status is None or not 0 <= status < _FIRST_SIGNAL_STATUS:
            raise
        said = next(
            (line for line in f"{stderr}\n{stdout}".splitlines() if line.strip()), "nothing"
        )
        raise CommandNotRun(
            f"The shell on {target.host} ended with {status} without running the "
            f"command, and said: {clean(said, _SAID_CHARS)}."
        ) from error
    return DescribeOutput(stdout, stderr, exit_code, datetime.now(UTC), began_at)


async def _target(hook: LagSSHHook, *, timeout: float) -> Target:
    """Read the Airflow connection."""
    what = f"SSH connection {hook.ssh_conn_id!r}"
    with _connection_errors(hook.ssh_conn_id):
        # A time-out too is Airflow's, since the host was not yet asked for anything.
        async with handed_out(SSHConnectionNotRead, what, timeout):
            return await hook.target()


async def _result(
    links: Links, hook: LagSSHHook, target: Target, command: _Command, *, timeout: float
) -> asyncssh.SSHCompletedProcess:
    """Run the command on the open connection, or on a new one where that turns out broken."""
    deadline = asyncio.get_running_loop().time() + timeout
    where = f"{target.secrets[0]}@{target.host}:{target.port}"
    while True:
        async with _link(links, hook, target, deadline=deadline) as link:
            try:
                async with asyncio.timeout_at(deadline):
                    return await command.run(link.connection)
            except TimeoutError as error:
                link.retire()
                raise DescribeTimedOut(
                    f"The describe command on {where} did not end within {timeout:g} s."
                ) from error
            except (asyncssh.Error, OSError) as error:
                link.retire()
                if command.sent or not link.used:
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
