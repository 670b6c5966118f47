"""The SSH connection that stays open: real sshd of both kinds, no Kafka."""

from __future__ import annotations

import asyncio
import shlex
import warnings
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider import collect as room
from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.command import TimeLimits
from airflow_lag_provider.errors import DescribeTimedOut, OutputCutOff, SSHUnreachable
from airflow_lag_provider.hooks import ssh
from airflow_lag_provider.hooks.ssh import LagSSHHook, Links, Target
from airflow_lag_provider.ssh_sessions import COMMANDS_AT_ONCE
from lab.laboratory import Laboratory
from lab.sshd import SshServer
from tests.integration.support import as_environment

pytestmark = pytest.mark.integration

ROWS = """
GROUP TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID HOST CLIENT-ID
g     orders 0          90              100             10   -           -    -
"""
QUICK = f"printf %s {shlex.quote(ROWS)}; printf '\\n%s %d\\n' __consumer_lag_end__ 0"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Laboratory]:
    with Laboratory(kafka=False, elasticsearch=False, openssh=True) as laboratory:
        yield laboratory


def connect(monkeypatch: pytest.MonkeyPatch, server: SshServer) -> None:
    """Let the connection ``mm`` lead to a server."""
    for name, value in as_environment({"mm": server.connection()}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["sshd", "openssh"])
def server(
    request: pytest.FixtureRequest, hosts: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> SshServer:
    """Each of the two servers; the connection ``mm`` leads to it."""
    server: SshServer = getattr(hosts, request.param)
    connect(monkeypatch, server)
    return server


_attempts = iter(range(1, 1_000_000))


async def describe(
    command: str = QUICK, *, broker: str = "b-1:9092", timeout: float = 10.0
) -> Collected:
    """Run a command that nothing else shares."""
    return await collect(
        ssh_conn_id="mm",
        command=command,
        bootstrap_servers=(broker,),
        group="g",
        timeout=timeout,
        occasion=datetime.now(UTC),
        attempt=next(_attempts),
    )


def counted(server: SshServer, story: Callable[[], Awaitable[Any]]) -> tuple[int, int]:
    """Run a story in an event loop; return how many connections and commands it made."""
    before = server.counts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(story())  # type: ignore[arg-type]
    after = server.counts()
    return after.connections - before.connections, after.commands - before.commands


def test_one_connection_carries_all_commands_and_ends_with_its_loop(server: SshServer) -> None:
    """Five describes, two of them at once, make one connection; ``asyncio.run`` leaves none."""
    links: list[Links] = []
    connections: list[Any] = []

    async def story() -> None:
        await asyncio.gather(describe(), describe(broker="b-2:9092"))
        for _ in range(3):
            assert (await describe()).description.topics == ("orders",)
        links.append(room._rooms.get().sessions.links)
        connections.extend(link.connection for link in links[0]._links.values())

    assert counted(server, story) == (1, 5)
    assert [one.is_closed() for one in connections] == [True]
    assert not links[0]._links


def test_a_connection_that_broke_comes_back_with_the_next_command(server: SshServer) -> None:
    """A dropped connection or a restarted server costs a new connection and no failure."""

    async def story() -> None:
        await describe()
        await asyncio.to_thread(server.drop_connections)
        await describe()
        await asyncio.to_thread(server.stop)
        with pytest.raises(SSHUnreachable):
            await describe()
        await asyncio.to_thread(server.start)
        await describe()

    assert counted(server, story) == (3, 3)


@pytest.mark.parametrize("waits", [True, False])
def test_a_connection_that_went_silent_is_noticed_and_replaced(
    hosts: Laboratory, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """As behind a firewall that forgot it: nobody closes it, and nothing is answered any more.

    Keep-alive finds out, whether or not a command already waits on it.
    """
    monkeypatch.setattr(ssh, "KEEPALIVE_SECONDS", 0.2)
    connect(monkeypatch, hosts.openssh)

    async def story() -> None:
        await describe()
        (link,) = room._rooms.get().sessions.links._links.values()
        await asyncio.to_thread(hosts.openssh.silence_connections)
        try:
            if waits:
                async with asyncio.timeout(60):
                    await link.connection.wait_closed()
            await describe(timeout=60.0)
            assert link.connection.is_closed()
        finally:
            await asyncio.to_thread(hosts.openssh.drop_connections)

    assert counted(hosts.openssh, story) == (2, 2)


def test_a_command_that_is_cut_off_fails_and_the_next_one_works(server: SshServer) -> None:
    """A connection that breaks under a command is an error, never a part of an output."""

    async def story() -> None:
        await describe()
        cut = asyncio.create_task(describe(f"sleep 3; {QUICK}", timeout=4.0))
        await asyncio.sleep(0.7)
        await asyncio.to_thread(server.drop_connections)
        with pytest.raises(OutputCutOff):
            await cut
        await describe()

    assert counted(server, story) == (2, 3)


def test_a_command_that_hangs_gives_up_its_connection(server: SshServer) -> None:
    """After a time-out the next describe doesn't trust that connection."""

    async def story() -> None:
        with pytest.raises(DescribeTimedOut):
            await describe("sleep 5", timeout=1.0)
        await describe()

    assert counted(server, story) == (2, 2)


@pytest.mark.parametrize("end", ["dropped", "cancelled", "timed out"])
def test_no_second_describe_begins_beside_one_that_was_left_running(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """What a lost session left there the host ends itself; the group's next one waits for that.

    Another group's doesn't wait.
    """
    file = tmp_path / "seen"
    # As long as a describe with this time limit may take that only SIGKILL ends.
    longest = TimeLimits.within(4.0).longest_s
    connect = LagSSHHook.open

    async def slowly(hook: LagSSHHook, target: Target) -> Any:
        # So that the time limit ends the wait before the host ends the command.
        await asyncio.sleep(2)
        return await connect(hook, target)

    async def story() -> None:
        with monkeypatch.context() as patch:
            if end == "timed out":
                patch.setattr(LagSSHHook, "open", slowly)
            command = f"echo begins >> {file}; timeout {longest} sleep 60; echo ends >> {file}"
            left = asyncio.create_task(describe(command, timeout=4.0))
            while not (file.exists() or left.done()):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.05)
            if end == "dropped":
                await asyncio.to_thread(server.drop_connections)
            elif end == "cancelled":
                left.cancel()
            with pytest.raises((OutputCutOff, DescribeTimedOut, asyncio.CancelledError)):
                await left
        await describe(f"echo other >> {file}; {QUICK}", broker="b-2:9092")
        await describe(f"echo next >> {file}; {QUICK}")

    counted(server, story)
    assert file.read_text().split() == ["begins", "other", "ends", "next"]


def test_a_host_that_never_got_the_command_holds_up_no_retry(
    hosts: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can run on a host that was silent before the command was sent."""
    monkeypatch.setattr(room, "patience_with", lambda _: 0.01)
    connect(monkeypatch, hosts.openssh)

    async def story() -> None:
        await describe()
        await asyncio.to_thread(hosts.openssh.silence_connections)
        try:
            with pytest.raises(DescribeTimedOut, match="did not end within"):
                await describe(timeout=2.0)
            await describe()
        finally:
            await asyncio.to_thread(hosts.openssh.drop_connections)

    assert counted(hosts.openssh, story) == (2, 2)


def test_a_changed_airflow_connection_is_used_at_once(
    server: SshServer, hosts: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who corrects host or key in Airflow need not restart the triggerer."""
    other = hosts.openssh if server is hosts.sshd else hosts.sshd

    async def story() -> None:
        await describe()
        connect(monkeypatch, other)
        await describe()

    before = other.counts().commands
    assert counted(server, story) == (1, 1)
    assert other.counts().commands == before + 1


def test_a_host_is_never_asked_for_more_than_four_things_at_once(
    server: SshServer, tmp_path: Path
) -> None:
    """Of ten groups on one host four are described at the same time, the others after them."""
    file = tmp_path / "seen"

    async def story() -> None:
        command = f"echo + >> {file}; sleep 0.3; echo - >> {file}; {QUICK}"
        # The same group of other brokers is another group.
        await asyncio.gather(*(describe(command, broker=broker) for broker in "abcdefghij"))

    assert counted(server, story) == (1, 10)
    running = most = 0
    for sign in file.read_text().split():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert 2 <= most <= COMMANDS_AT_ONCE
