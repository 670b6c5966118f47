"""Each way in which a run can't take its snapshot, on the real parts.

Each leaves a failure document, without figures, and fails the task with words that say what to do.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from lab import client, reaper
from lab.laboratory import Laboratory
from lab.network import HOST, free_port
from tests.integration.guarded import Guarded, guarded_broker
from tests.integration.support import Bench, context, fails, script

pytestmark = pytest.mark.integration

GUARDED_GROUP = "guarded-group"


class TestSsh:
    """What can go wrong on the way to the host and back."""

    @pytest.fixture
    def connect(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Return a function that changes the SSH connection of the next runs."""

        def change(connection: dict[str, Any]) -> None:
            monkeypatch.setenv("AIRFLOW_CONN_MIRRORMAKER", json.dumps(connection))

        return change

    @pytest.mark.parametrize("server", ["sshd", "openssh"])
    def test_a_key_that_may_not_log_in(self, bench: Bench, connect: Any, server: str) -> None:
        """A wrong key is named as a matter of login and keys, and not tried again."""
        host = getattr(bench.lab, server)
        extra = {"key_file": str(host.keys.stranger_key_file), "host_key": host.keys.host_key}
        connect(host.connection(extra=extra))
        fails(
            bench, "mirrormaker", "authorized_keys", kind="SSHAuthenticationFailed", retried=False
        )

    def test_a_wrong_password(self, bench: Bench, connect: Any) -> None:
        """A wrong password is refused and doesn't show."""
        extra = {"host_key": bench.lab.sshd.keys.host_key}
        connect(bench.lab.sshd.connection(password="hush-wrong", extra=extra))
        document = fails(bench, kind="SSHAuthenticationFailed", retried=False)
        assert "hush-wrong" not in json.dumps(document)

    @pytest.mark.parametrize("server", ["sshd", "openssh"])
    def test_a_host_key_that_nobody_trusts(
        self, bench: Bench, connect: Any, tmp_path: Path, server: str
    ) -> None:
        """An unknown host key is refused, with words that say what to put where."""
        host = getattr(bench.lab, server)
        empty = tmp_path / "known_hosts"
        empty.touch()
        extra = {"key_file": str(host.keys.key_file), "known_hosts": str(empty)}
        connect(host.connection(extra=extra))
        fails(bench, '"host_key"', '"known_hosts"', kind="HostKeyNotTrusted", retried=False)

    def test_a_host_with_another_key_than_before(self, bench: Bench, connect: Any) -> None:
        """A host that isn't the one it was is refused too."""
        extra = {
            "key_file": str(bench.lab.sshd.keys.key_file),
            "host_key": bench.lab.openssh.keys.host_key,
        }
        connect(bench.lab.sshd.connection(extra=extra))
        fails(bench, "host_key", kind="HostKeyNotTrusted", retried=False)

    @pytest.mark.parametrize(
        "extra",
        [
            {"key_file": "/nowhere/key"},
            {"private_key": "no key at all"},
            {"key_file": "protected", "private_key_passphrase": "wrong"},
        ],
    )
    def test_a_key_that_can_not_be_read(
        self, bench: Bench, connect: Any, extra: dict[str, str]
    ) -> None:
        """A missing, broken or locked key is a mistake of the connection."""
        keys = bench.lab.sshd.keys
        files = {"key_file": str(keys.protected_key_file)} if "private_key" not in extra else {}
        if extra.get("key_file") != "protected":
            files = {}
        connect(bench.lab.sshd.connection(extra={**extra, **files, "host_key": keys.host_key}))
        fails(bench, "mirrormaker", kind="SSHConnectionInvalid", retried=False)

    @pytest.mark.parametrize(
        "login",
        ["key text", "key with passphrase", "password", "known hosts"],
    )
    def test_every_way_to_log_in_works(self, bench: Bench, connect: Any, login: str) -> None:
        """Key text, passphrase, password and known hosts are taken from the connection."""
        sshd, keys = bench.lab.sshd, bench.lab.sshd.keys
        extras = {
            "key text": {"private_key": keys.key_text},
            "key with passphrase": {
                "private_key": keys.protected_key_file.read_text(),
                "private_key_passphrase": keys.passphrase,
            },
            "password": {},
            "known hosts": {"key_file": str(keys.key_file), "known_hosts": str(keys.known_hosts)},
        }
        trust = {} if login == "known hosts" else {"host_key": keys.host_key}
        password = sshd.password if login == "password" else None
        connect(sshd.connection(password=password, extra={**extras[login], **trust}))
        bench.operator().execute(context("run"))
        assert bench.documents()[0]["event"]["outcome"] == "success"

    def test_a_host_that_refuses_or_is_not_there(self, bench: Bench, connect: Any) -> None:
        """No sshd on the port is worth a retry, and the message says where it looked."""
        connect({**bench.lab.sshd.connection(), "port": free_port()})
        fails(bench, "mirrormaker", "sshd", kind="SSHUnreachable", retried=True)

    def test_a_name_that_no_server_knows(self, bench: Bench, connect: Any) -> None:
        """A host name that can't be resolved is an unreachable host."""
        connect({**bench.lab.sshd.connection(), "host": "no-such-host.invalid"})
        fails(bench, "mirrormaker", kind="SSHUnreachable", retried=True)

    def test_a_host_that_hangs(self, bench: Bench) -> None:
        """A host that accepts and then says nothing costs no more than the time limit."""
        bench.lab.sshd.pause()
        try:
            fails(bench, "in time", kind="SSHUnreachable", retried=True, timeout=3)
        finally:
            bench.lab.sshd.resume()

    @pytest.mark.parametrize("server", ["sshd", "openssh"])
    def test_a_connection_that_drops_in_the_middle(
        self, bench: Bench, tmp_path: Path, server: str
    ) -> None:
        """Rows that came before the connection broke are never taken for a snapshot."""
        host = getattr(bench.lab, server)
        # The real tool, which then takes its time to end, as it does on a busy host.
        slow = script(tmp_path / "slow.sh", f'"{bench.lab.tool}" "$@"; sleep 6')
        cut = Timer(4, host.drop_connections)
        cut.start()
        connection = "mirrormaker" if server == "sshd" else "openssh"
        fails(bench, kind="OutputCutOff", retried=True, tool=slow, ssh_conn_id=connection)
        cut.join()

    def test_a_shell_that_does_not_run_the_command(self, bench: Bench) -> None:
        """An account that may not run commands is told from a connection that dropped."""
        keys = bench.lab.openssh.keys.authorized_keys
        before = keys.read_text()
        keys.write_text(f'command="echo This account is closed; exit 1" {before.splitlines()[0]}\n')
        try:
            fails(
                bench, "This account is closed", "POSIX shell",
                kind="CommandNotRun", retried=False, ssh_conn_id="openssh",
            )  # fmt: skip
        finally:
            keys.write_text(before)

    def test_a_connection_that_airflow_does_not_have(self, bench: Bench) -> None:
        """A missing connection is named."""
        fails(
            bench, "no_such_conn", kind="SSHConnectionInvalid", retried=False,
            ssh_conn_id="no_such_conn",
        )  # fmt: skip


class TestTool:
    """What can go wrong on the host."""

    def test_a_tool_that_is_not_there(self, bench: Bench) -> None:
        """A wrong path names the path and the key to set."""
        fails(
            bench, "/nowhere/kafka-consumer-groups.sh", "`tool`",
            kind="ToolNotFound", retried=False, tool="/nowhere/kafka-consumer-groups.sh",
        )  # fmt: skip

    def test_a_tool_that_may_not_be_run(self, bench: Bench, tmp_path: Path) -> None:
        """A file without the right to run it is told from one that isn't there."""
        tool = Path(script(tmp_path / "tool.sh", "exit 0"))
        tool.chmod(stat.S_IRUSR)
        fails(bench, str(tool), kind="ToolNotExecutable", retried=False, tool=str(tool))

    def test_a_client_configuration_that_is_not_there(self, bench: Bench) -> None:
        """A wrong path of the client's properties names that path."""
        fails(
            bench, "/nowhere/client.properties", "`command_config`",
            kind="CommandConfigNotFound", retried=False,
            command_config="/nowhere/client.properties",
        )  # fmt: skip

    def test_a_jvm_that_can_not_start(self, bench: Bench) -> None:
        """Options that this Java doesn't know are a matter of jvm_opts."""
        fails(bench, "`jvm_opts`", kind="JavaFailed", retried=False, jvm_opts="-XX:+NoSuchFlag")

    @pytest.mark.parametrize(
        ("trap", "kind"), [("", "DescribeTimedOut"), ("trap '' TERM;", "DescribeKilled")]
    )
    def test_a_tool_that_does_not_end(
        self, bench: Bench, tmp_path: Path, trap: str, kind: str
    ) -> None:
        """The host ends a tool that takes too long, also one that ignores SIGTERM."""
        tool = script(tmp_path / "hangs.sh", f"{trap} while :; do sleep 1; done")
        fails(bench, "time limit", kind=kind, retried=True, tool=tool, timeout=4)
        running = reaper.members(bench.lab.workspace.lab_id)
        commands = [Path(f"/proc/{process.pid}/cmdline") for process in running]
        assert not any(b"hangs.sh" in path.read_bytes() for path in commands if path.exists())

    def test_output_that_nobody_knows(self, bench: Bench, tmp_path: Path) -> None:
        """A line that no version of the tool prints is an error, not a skipped row."""
        tool = script(tmp_path / "odd.sh", f'"{bench.lab.tool}" "$@"; echo; echo "orders 3 oops"')
        fails(bench, "orders 3 oops", kind="OutputNotUnderstood", retried=False, tool=tool)


class TestBroker:
    """What can go wrong between the tool and the brokers."""

    def test_a_group_that_is_not_there(self, bench: Bench) -> None:
        """A group that the brokers don't know is named."""
        fails(bench, "no-such-group", kind="GroupNotFound", retried=False, group="no-such-group")

    def test_a_topic_that_is_not_in_the_group(self, bench: Bench) -> None:
        """A topic without a row is an error of its own, never a lag of nothing."""
        fails(
            bench, "not-mirrored", bench.lab.group,
            kind="TopicNotInGroup", retried=False, topic="not-mirrored",
        )  # fmt: skip

    def test_a_broker_that_is_down(self, bench: Bench) -> None:
        """Nobody listening: the tool's own reason reaches the document within the time limit."""
        fails(
            bench, "bootstrap_servers", kind="BrokerUnreachable", retried=True,
            bootstrap_servers=f"{HOST}:{free_port()}", timeout=10,
        )  # fmt: skip

    def test_a_broker_that_hangs(self, bench: Bench) -> None:
        """A broker that takes connections and answers nothing is unreachable too."""
        bench.lab.source.pause()
        try:
            fails(bench, kind="BrokerUnreachable", retried=True, timeout=10)
        finally:
            bench.lab.source.resume()


@pytest.fixture(scope="module")
def guarded(lab: Laboratory) -> Iterator[Guarded]:
    """A broker on which `reader` may describe the group and nothing else."""
    with guarded_broker(lab, name="guarded", home=lab.kafka_home) as broker:
        broker.plain.create_topic("orders", 2)
        client.commit_offsets(broker.plain.bootstrap, GUARDED_GROUP, {("orders", 0): 0})
        broker.allow_describe("reader", GUARDED_GROUP)
        yield broker


class TestRights:
    """What a broker with passwords and rights makes the tool print."""

    def test_a_user_who_may_not_see_the_topics(self, bench: Bench, guarded: Guarded) -> None:
        """The tool prints nothing at all and ends well; that is no lag of nothing."""
        fails(
            bench, "DESCRIBE", kind="NothingPrinted", retried=True,
            bootstrap_servers=guarded.bootstrap, group=GUARDED_GROUP,
            command_config=guarded.command_config("reader", "r-pass"),
        )  # fmt: skip

    def test_a_user_who_may_not_see_the_group(self, bench: Bench, guarded: Guarded) -> None:
        """A missing right on the group is named as one."""
        fails(
            bench, GUARDED_GROUP, "DESCRIBE", kind="AuthorizationDenied", retried=False,
            bootstrap_servers=guarded.bootstrap, group=GUARDED_GROUP,
            command_config=guarded.command_config("stranger", "s-pass"),
        )  # fmt: skip

    def test_a_user_with_a_wrong_password(self, bench: Bench, guarded: Guarded) -> None:
        """Wrong credentials of the Kafka client are told from missing rights, and don't show."""
        document = fails(
            bench, "`command_config`", kind="AuthenticationFailed", retried=False,
            bootstrap_servers=guarded.bootstrap, group=GUARDED_GROUP,
            command_config=guarded.command_config("reader", "hush-wrong"),
        )  # fmt: skip
        assert "hush-wrong" not in json.dumps(document)
