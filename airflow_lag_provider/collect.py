"""Brings the describe command to the MirrorMaker host over SSH, and its output back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncssh
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.ssh.hooks.ssh import SSHHookAsync

from airflow_lag_provider.command import split_end_marker
from airflow_lag_provider.errors import (
    DescribeTimedOut,
    HostKeyNotTrusted,
    OutputCutOff,
    SSHAuthenticationFailed,
    SSHConnectionInvalid,
    SSHError,
    SSHUnreachable,
)


@dataclass(frozen=True, slots=True)
class DescribeOutput:
    """What the tool printed, whole: its end marker was there and is taken off.

    :param exit_code: the tool's own, which says little: see ``describe.parse``.
    :param ended_at: when the command ended, with time zone.
    """

    stdout: str
    stderr: str
    exit_code: int
    ended_at: datetime


async def collect(*, ssh_conn_id: str, command: str, timeout: float) -> DescribeOutput:
    """Run the describe command on the host of an SSH connection.

    :param command: see ``command.describe_command``.
    :param timeout: seconds for connecting and running together.
    :raises SSHError: no session, or one that ended before the output was whole.
    :raises DescribeTimedOut: the command did not end in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    connection = await _connect(ssh_conn_id, deadline=deadline)
    async with connection:
        host = f"{connection.get_extra_info('username')}@{_address(connection)}"
        try:
            async with asyncio.timeout_at(deadline):
                # Bytes, because a client id need not be valid UTF-8.
                result = await connection.run(command, check=False, encoding=None)
        except TimeoutError as error:
            raise DescribeTimedOut(
                f"The describe command on {host} did not end within {timeout:g} s."
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise OutputCutOff(
                f"The SSH session with {host} ended early: {_words(error)}."
            ) from error
    stdout, exit_code = split_end_marker(_text(result.stdout))
    return DescribeOutput(stdout, _text(result.stderr), exit_code, datetime.now(UTC))


async def _connect(ssh_conn_id: str, *, deadline: float) -> asyncssh.SSHClientConnection:
    """Open the connection; everything that can go wrong until then gets its own error."""
    try:
        async with asyncio.timeout_at(deadline):
            hook: Any = SSHHookAsync(ssh_conn_id=ssh_conn_id)
            connection: asyncssh.SSHClientConnection = await hook.get_conn()
    except (asyncssh.Error, OSError, ValueError, AirflowException) as error:
        raise _connection_error(error, where=f"SSH connection {ssh_conn_id!r}") from error
    return connection


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


def _address(connection: asyncssh.SSHClientConnection) -> str:
    host, port = connection.get_extra_info("peername")[:2]
    return f"{host}:{port}"


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _text(output: bytes | str | None) -> str:
    if isinstance(output, bytes):
        return output.decode("utf-8", errors="backslashreplace")
    return output or ""
