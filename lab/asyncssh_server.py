"""The asyncssh server's own process: ``python -m lab.asyncssh_server SETTINGS.json``.

It does what sshd does for a command without a terminal: the user's shell runs it in a session of
its own with a login's environment, stdout and stderr apart, and goes on when the connection breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncssh


class _Events:
    """Writes one JSON line for each thing that happens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kind: str, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, text]) + "\n")


class _Server(asyncssh.SSHServer):
    def __init__(
        self,
        settings: Mapping[str, Any],
        events: _Events,
        connections: set[asyncssh.SSHServerConnection],
    ) -> None:
        self._settings = settings
        self._events = events
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def auth_completed(self) -> None:
        self._events.write("connection", "")

    def password_auth_supported(self) -> bool:
        return self._settings["password"] is not None

    def validate_password(self, username: str, password: str) -> bool:
        wanted = (self._settings["user"], self._settings["password"])
        return (username, password) == wanted


def _environment(account: pwd.struct_passwd) -> dict[str, str]:
    # PATH and JAVA_HOME are the caller's: on a developer's machine Java may be anywhere.
    inherited = ("PATH", "JAVA_HOME", "LANG", "LAG_LAB_ID")
    return {name: os.environ[name] for name in inherited if name in os.environ} | {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
    }


def _directory(account: pwd.struct_passwd) -> str:
    return account.pw_dir if Path(account.pw_dir).is_dir() else "/"


async def _feed(
    process: asyncssh.SSHServerProcess[bytes], sink: asyncio.StreamWriter | None
) -> None:
    if sink is None:
        return
    with contextlib.suppress(OSError, asyncssh.Error):
        while chunk := await process.stdin.read(65_536):
            sink.write(chunk)
            await sink.drain()
    sink.close()


async def _pump(
    source: asyncio.StreamReader | None,
    write: Callable[[bytes], None],
    drain: Callable[[], Awaitable[None]],
) -> None:
    connected = True
    while source and (chunk := await source.read(65_536)):
        # Without a connection it is read all the same, so that the command can end by itself.
        if connected:
            try:
                write(chunk)
                await drain()
            except (OSError, asyncssh.Error):
                connected = False


async def _run(process: asyncssh.SSHServerProcess[bytes], events: _Events) -> None:
    command = process.command
    if command is None:
        process.stderr.write(b"this server runs commands only\n")
        process.exit(1)
        return
    events.write("command", command)
    account = pwd.getpwuid(os.getuid())
    child = await asyncio.create_subprocess_exec(
        account.pw_shell or "/bin/sh",
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd=_directory(account),
        env=_environment(account),
    )
    # Not process.redirect: it ends the channel when the first of the two streams ends, and what
    # the other one still has is lost, with the exit code.
    feeding = asyncio.create_task(_feed(process, child.stdin))
    await asyncio.gather(
        _pump(child.stdout, process.stdout.write, process.stdout.drain),
        _pump(child.stderr, process.stderr.write, process.stderr.drain),
    )
    code = await child.wait()
    feeding.cancel()
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


async def serve(settings: Mapping[str, Any]) -> None:
    """Serve until SIGTERM; SIGUSR1 drops all connections.

    :param settings: as `lab.sshd.AsyncsshServer` writes them
    """
    events = _Events(Path(settings["events"]))
    connections: set[asyncssh.SSHServerConnection] = set()
    ended = asyncio.Event()

    def drop() -> None:
        for connection in list(connections):
            connection.abort()
        events.write("dropped", str(len(connections)))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, drop)
    server = await asyncssh.create_server(
        lambda: _Server(settings, events, connections),
        settings["host"],
        settings["port"],
        server_host_keys=[settings["host_key_file"]],
        authorized_client_keys=settings["authorized_keys"],
        process_factory=lambda process: _run(process, events),
        encoding=None,
        allow_scp=False,
        agent_forwarding=False,
    )
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
