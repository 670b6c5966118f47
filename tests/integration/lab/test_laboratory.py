"""The parts of the laboratory come up together and do their work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import asyncssh
import psutil
import pytest

from lab import client, reaper
from lab.errors import PartError
from lab.laboratory import Laboratory
from lab.sshd import SshServer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    """Hold one laboratory with everything in it for all tests of this file."""
    with Laboratory(openssh=True, sshd_password=True) as laboratory:
        yield laboratory


def _run(server: SshServer, command: str) -> tuple[int | None, str, str]:
    async def run() -> tuple[int | None, str, str]:
        known = f"{server.host} {server.keys.host_key}".encode()
        async with asyncssh.connect(
            server.host,
            server.port,
            username=server.user,
            client_keys=[str(server.keys.key_file)],
            known_hosts=known,
        ) as connection:
            done = await connection.run(command)
            return done.exit_status, str(done.stdout), str(done.stderr)

    return asyncio.run(run())


def _describe(lab: Laboratory, server: SshServer) -> tuple[int | None, str, str]:
    tool = f"{lab.tool} --bootstrap-server {lab.source.bootstrap}"
    return _run(server, f"{tool} --describe --group {lab.group}")


def _eventually(check: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def _lag(lab: Laboratory, topic: str) -> int:
    return sum(p.lag or 0 for p in lab.source.read_offsets(lab.group, topic).values())


@pytest.mark.parametrize("kind", ["sshd", "openssh"])
def test_describe_over_ssh_prints_a_row_for_every_partition(lab: Laboratory, kind: str) -> None:
    """A describe over either SSH server prints the header and 54 rows of MirrorMaker's group."""
    code, out, _ = _describe(lab, getattr(lab, kind))
    lines = out.split("\n")
    assert code == 0
    assert lines[1].split()[:3] == ["GROUP", "TOPIC", "PARTITION"]
    assert len([line for line in lines if line.startswith(f"{lab.group} ")]) == 54


def test_stdout_stderr_and_exit_code_arrive_apart(lab: Laboratory) -> None:
    """Both SSH servers keep stdout, stderr and the exit code of a command apart."""
    for server in (lab.sshd, lab.openssh):
        assert _run(server, "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


def test_commands_are_counted(lab: Laboratory) -> None:
    """Both SSH servers count what they run, and asyncssh's keeps the words."""
    for server in (lab.sshd, lab.openssh):
        before = server.counts()
        _run(server, "echo 'as it came'")
        assert server.counts().connections == before.connections + 1
        assert server.counts().commands == before.commands + 1
    assert lab.sshd.commands()[-1] == "echo 'as it came'"


def test_mirrormaker_commits_and_writes_to_the_target(lab: Laboratory) -> None:
    """MirrorMaker's commits move, and the target gets the messages."""

    def moved() -> bool:
        offsets = lab.source.read_offsets(lab.group, "orders").values()
        copied = client.end_offsets(lab.target.bootstrap, "orders")
        return all((p.committed or 0) > 0 for p in offsets) and sum(copied.values()) > 0

    assert _eventually(moved, seconds=20)


def test_lag_rises_while_mirrormaker_is_stopped_and_falls_again(lab: Laboratory) -> None:
    """Without MirrorMaker the lag grows with the producer, and with it the lag is worked off."""
    lab.mirrormaker.stop()
    first = _lag(lab, "clicks")
    assert _eventually(lambda: _lag(lab, "clicks") > first + 300, seconds=15)
    high = _lag(lab, "clicks")
    lab.mirrormaker.start()
    assert _eventually(lambda: _lag(lab, "clicks") < high / 2, seconds=20)


def test_partitions_have_rates_of_their_own(lab: Laboratory) -> None:
    """Partition 5 gets about six times what partition 0 gets."""
    ends = client.end_offsets(lab.source.bootstrap, "orders")
    assert ends[5] > 4 * ends[0] > 0


def test_commits_are_read_back_as_they_were_made(lab: Laboratory) -> None:
    """A commit beyond the end gives a negative lag, and a partition without one gives None."""
    client.commit_offsets(lab.source.bootstrap, "a group", {("orders", 0): 10**7})
    offsets = lab.source.read_offsets("a group", "orders")
    assert (offsets[0].lag or 0) < -9_000_000
    assert offsets[1].committed is None
    client.delete_group(lab.source.bootstrap, "a group")
    assert client.committed_offsets(lab.source.bootstrap, "a group", "orders") == {}


def test_a_deleted_topic_stays_deleted(lab: Laboratory) -> None:
    """A topic can be made, written to and deleted, and then it is gone."""
    lab.source.create_topic("short.lived", 2)
    lab.source.produce("short.lived", 1, 25)
    assert client.end_offsets(lab.source.bootstrap, "short.lived") == {0: 0, 1: 25}
    client.delete_topic(lab.source.bootstrap, "short.lived")
    assert "short.lived" not in client.admin(lab.source.bootstrap).list_topics(timeout=5).topics


def test_elasticsearch_stores_and_can_be_paused(lab: Laboratory) -> None:
    """Elasticsearch takes a document, answers nothing in a pause, and has the document after it."""
    lab.elasticsearch.request("PUT", "/probe/_doc/1?refresh=true", {"topic": "orders"})
    lab.elasticsearch.pause()
    try:
        with pytest.raises(PartError, match="timed out"):
            lab.elasticsearch.request("GET", "/probe/_count", timeout=1)
    finally:
        lab.elasticsearch.resume()
    assert lab.elasticsearch.request("GET", "/probe/_count")["count"] == 1


@pytest.mark.parametrize("kind", ["sshd", "openssh"])
def test_dropped_connections_break_a_command_in_the_middle(lab: Laboratory, kind: str) -> None:
    """A dropped connection leaves the client with a part of the output and no exit code."""
    server: SshServer = getattr(lab, kind)

    async def cut() -> tuple[int | None, str]:
        known = str(server.keys.known_hosts)
        keys = [str(server.keys.key_file)]
        async with asyncssh.connect(
            server.host, server.port, username=server.user, client_keys=keys, known_hosts=known
        ) as connection:
            process = await connection.create_process("echo part; sleep 20; echo rest")
            assert await process.stdout.readline() == "part\n"
            await asyncio.to_thread(server.drop_connections)
            done = await process.wait()
            return done.exit_status, str(done.stdout)

    assert asyncio.run(cut()) == (None, "")
    assert _run(server, "echo again")[1] == "again\n"


def test_a_password_logs_in_where_the_laboratory_asked_for_one(lab: Laboratory) -> None:
    """The asyncssh server takes its password, and no other."""

    async def connect(password: str | None) -> None:
        known = str(lab.sshd.keys.known_hosts)
        async with asyncssh.connect(
            lab.sshd.host,
            lab.sshd.port,
            username=lab.sshd.user,
            password=password,
            client_keys=None,
            known_hosts=known,
        ):
            pass

    asyncio.run(connect(lab.sshd.password))
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(connect("another"))


def test_everything_listens_on_loopback_only(lab: Laboratory) -> None:
    """No process of the laboratory listens on an address that another machine could reach."""
    pids = {key.pid for key in reaper.members(lab.workspace.lab_id)}
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in pids
    }
    assert len(listening) >= 8
    assert {ip.removeprefix("::ffff:") for ip, _ in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("kind", ["sshd", "openssh"])
def test_no_stream_is_cut_when_the_other_one_ends(lab: Laboratory, kind: str) -> None:
    """Whichever of stdout and stderr ends first, the other one and the exit code arrive whole."""
    late = "exec 1>&-; sleep 0.2; head -c 300000 /dev/zero | tr '\\0' e >&2; exit 3"
    code, out, err = _run(getattr(lab, kind), f"echo first; {late}")
    assert (code, out, len(err)) == (3, "first\n", 300_000)
