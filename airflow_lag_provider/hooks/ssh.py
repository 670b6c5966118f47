"""SSH connections made without blocking the event loop, and kept open for the next command."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncssh
from airflow.providers.common.compat.connection import get_async_extra_dejson
from airflow.providers.ssh.hooks.ssh import SSHHookAsync

from airflow_lag_provider.hooks.connection import airflow_connection
from airflow_lag_provider.shared_work import detached

DEFAULT_PORT = 22
# asyncssh gives up after three that got no answer: a dead connection is known as such before the
# next minute needs it.
KEEPALIVE_SECONDS = 10
# An open connection that nobody used for so long belongs to a mirror that is no longer watched.
IDLE_SECONDS = 300.0
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """What an Airflow connection says now; two are equal when nothing in it was changed.

    :param host: name or address.
    :param secrets: login, password and extra.
    """

    host: str
    port: int
    secrets: tuple[str | None, str | None, str] = field(repr=False)


class LagSSHHook(SSHHookAsync):
    """The provider's asynchronous hook without what it does synchronously.

    The provider's hook reads the connection's extra with a call that may stop Airflow's event
    loop, and files and keys (which can take a second to decrypt) on it.

    :param ssh_conn_id: id of the Airflow connection.
    """

    def __init__(self, *, ssh_conn_id: str) -> None:
        super().__init__(ssh_conn_id=ssh_conn_id, keepalive_interval=KEEPALIVE_SECONDS)

    async def target(self) -> Target:
        """Read the Airflow connection.

        :raises AirflowException: there is none with this id.
        """
        connection = await airflow_connection(self.ssh_conn_id)
        extra = await get_async_extra_dejson(connection)
        return Target(
            host=connection.host or "",
            port=connection.port or DEFAULT_PORT,
            secrets=(connection.login, connection.password, json.dumps(extra, sort_keys=True)),
        )

    async def open(self, target: Target) -> asyncssh.SSHClientConnection:
        """Connect, by the rules of the provider's hook.

        :raises ValueError: the extra contradicts itself or holds a key that isn't one.
        :raises OSError: the host can't be reached, or a file can't be read.
        :raises asyncssh.Error: no session.
        """
        arguments = await asyncio.to_thread(self._arguments, target)
        return await asyncssh.connect(target.host, target.port, **arguments)

    def _arguments(self, target: Target) -> dict[str, Any]:
        """Return the arguments of ``asyncssh.connect``; reads files and decrypts keys."""
        login, password, extra = target.secrets
        self._parse_extras(SimpleNamespace(extra_dejson=json.loads(extra), host=target.host))
        arguments: dict[str, Any] = {
            "username": login,
            "password": password,
            "keepalive_interval": self.keepalive_interval,
        }
        if self.private_key:
            key = asyncssh.import_private_key(self.private_key, self.passphrase or None)
            arguments["client_keys"] = [key]
        elif self.key_file:
            # asyncssh reads this one itself, in a thread of its own.
            arguments["client_keys"] = self.key_file
        if self.passphrase:
            arguments["passphrase"] = self.passphrase
        known_hosts = self.known_hosts
        if isinstance(known_hosts, str) and known_hosts.lower() == "none":
            arguments["known_hosts"] = None
        elif isinstance(known_hosts, bytes):
            arguments["known_hosts"] = known_hosts
        elif known_hosts and self._should_use_known_hosts():
            arguments["known_hosts"] = asyncssh.read_known_hosts(known_hosts)
        else:
            arguments["known_hosts"] = _default_known_hosts(target)
        return arguments


def _default_known_hosts(target: Target) -> asyncssh.SSHKnownHosts | None:
    """Return what asyncssh trusts by default, which it would look for on the event loop.

    That is what the user's ``~/.ssh/config`` names for the host; else ``~/.ssh/known_hosts``, if
    there is one; ``None``: the former says that any key will do.
    """
    options = asyncssh.SSHClientConnectionOptions(
        config=(),
        host=target.host,
        port=target.port,
        username=target.secrets[0] or (),
        # Else it would read the keys that the file names, which the connection may not need.
        client_keys=None,
    )
    if options.known_hosts is None:
        return None
    default = Path(LagSSHHook.default_known_hosts).expanduser()
    # They are a list of names here, never one of the other things that an argument may be.
    files = cast("list[str]", options.known_hosts)
    if not files and default.is_file() and os.access(default, os.R_OK):
        files = [str(default)]
    return asyncssh.read_known_hosts(files) if files else asyncssh.import_known_hosts("")


@dataclass(eq=False, slots=True)
class Link:
    """An open connection and who uses it.

    :param used: whether a command ran on it before.
    :param retired: whether it is to be closed as soon as nobody uses it any more.
    """

    target: Target
    connection: asyncssh.SSHClientConnection
    users: int = 0
    used: bool = False
    used_at: float = 0.0
    retired: bool = False
    keeper: asyncio.Task[None] | None = None

    def retire(self) -> None:
        """Let nobody new use it, because it broke or hangs."""
        self.retired = True


class Links:
    """The open connections of one event loop, one for each Airflow connection.

    Each has a task that keeps it. The end of the loop cancels that task, as ``asyncio.run`` does
    with all tasks, and so closes the connection: none can leak into another loop.
    """

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def link(self, hook: LagSSHHook, target: Target) -> AsyncIterator[Link]:
        """Give the open connection of an Airflow connection, opened now where there is none.

        :raises Exception: what :meth:`LagSSHHook.open` raises.
        """
        link = await self._current(hook, target)
        link.users += 1
        try:
            yield link
        finally:
            link.users -= 1
            link.used = True
            link.used_at = asyncio.get_running_loop().time()
            if link.retired and not link.users and link.keeper:
                link.keeper.cancel()

    async def _current(self, hook: LagSSHHook, target: Target) -> Link:
        name = hook.ssh_conn_id
        # Two that arrive together wait for one connection instead of opening two.
        async with self._opening.setdefault(name, asyncio.Lock()):
            link = self._links.get(name)
            if link and link.target != target:
                link.retire()
                if not link.users and link.keeper:
                    link.keeper.cancel()
            if link is None or link.retired or link.connection.is_closed():
                link = Link(target, await hook.open(target))
                link.used_at = asyncio.get_running_loop().time()
                link.keeper = detached(self._keep(name, link))
                self._links[name] = link
            return link

    async def _keep(self, name: str, link: Link) -> None:
        """Hold a connection until it is closed, retired, unused for long, or the loop ends."""
        loop = asyncio.get_running_loop()
        try:
            while not link.connection.is_closed():
                await asyncio.sleep(IDLE_SECONDS / 10)
                if not link.users and loop.time() - link.used_at > IDLE_SECONDS:
                    return
        finally:
            if self._links.get(name) is link:
                del self._links[name]
            link.connection.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await link.connection.wait_closed()
            link.connection.abort()
