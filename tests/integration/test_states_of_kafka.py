"""States of host, installation and brokers of which the tools of three versions only complain.

What they print, by whichever stream and exit code, becomes the right error from SSH to document.
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from airflow_lag_provider.errors import LagError
from lab import reaper
from lab.account import as_other_user
from lab.cache import KAFKA_VERSION
from lab.laboratory import Laboratory
from lab.network import HOST
from tests.integration.halved import (
    COMMITTED,
    GROUP,
    MESSAGES,
    STRAY_GROUP,
    Halved,
    coordinated,
    halved_cluster,
)
from tests.integration.support import TOOLS, Bench, context, fails, script

pytestmark = pytest.mark.integration

# Enough for the tool to give up a request before it is ended.
GIVES_UP = 12
TOPICS_COMMAND = {"2.6.2": "kafka.admin.TopicCommand"}
COMMAND = "org/apache/kafka/tools/consumer/group/ConsumerGroupCommand.class"


@pytest.fixture(scope="module")
def halved(lab: Laboratory, homes: dict[str, Path]) -> Iterator[Halved]:
    """A cluster of Kafka 4.3.1 that has lost one of its two brokers."""
    with halved_cluster(lab, name="halved", home=homes["4.3.1"]) as cluster:
        yield cluster


@pytest.fixture(params=TOOLS)
def version(request: pytest.FixtureRequest) -> str:
    """The version of the tool."""
    wanted: str = request.param
    return wanted


@pytest.fixture
def tool(homes: dict[str, Path], version: str) -> str:
    """The tool of that version."""
    return str(homes[version] / "bin" / "kafka-consumer-groups.sh")


@pytest.fixture
def installation(bench: Bench, tmp_path: Path) -> Path:
    """A Kafka distribution of one's own, to break; its jars are links."""
    home = tmp_path / "kafka"
    shutil.copytree(bench.lab.kafka_home / "bin", home / "bin")
    shutil.copytree(bench.lab.kafka_home / "config", home / "config")
    (home / "libs").mkdir()
    for jar in (bench.lab.kafka_home / "libs").iterdir():
        (home / "libs" / jar.name).symlink_to(jar.resolve())
    return home


class TestBrokers:
    """What a cluster that isn't whole makes the tools print."""

    def test_a_partition_without_leader(
        self, bench: Bench, halved: Halved, tool: str, version: str
    ) -> None:
        """Up to Kafka 4.1 it spoils the whole describe; newer tools leave its end open."""
        cluster: dict[str, Any] = {
            "bootstrap_servers": halved.bootstrap,
            "group": GROUP,
            "timeout": GIVES_UP,
        }
        if version != "4.3.1":
            fails(
                bench, "partition without leader", kind="BrokerTimedOut", retried=True,
                tool=tool, **cluster,
            )  # fmt: skip
            return
        bench.operator(tool=tool, **cluster).execute(context("run"))
        (document,) = bench.documents()
        assert document["event"]["outcome"] == "success"
        assert (document["p0"], document["p1"]) == (MESSAGES - COMMITTED, None)
        assert document["lag"]["total"] == MESSAGES - COMMITTED
        assert document["lag"]["reported_mismatch"] is False
        assert [(row["committed"], row["end"]) for row in document["partition"]] == [
            (COMMITTED, MESSAGES),
            (COMMITTED, None),
        ]

    def test_a_group_without_coordinator(
        self, bench: Bench, halved: Halved, tool: str, version: str
    ) -> None:
        """Its tries tell it from brokers that are away; a newer tool may not print them."""
        with pytest.raises(LagError):
            bench.operator(
                tool=tool, bootstrap_servers=halved.bootstrap, group=STRAY_GROUP, timeout=GIVES_UP
            ).execute(context("run"))
        (document,) = bench.documents()
        assert document["event"]["outcome"] == "failure"
        assert "p0" not in document
        error = document["error"]
        assert "__consumer_offsets" in error["message"]
        # What stands last in the newer client's hot loop when the time is over is chance.
        unsure = set() if version == "2.6.2" else {"BrokerUnreachable"}
        assert error["type"] in {"CoordinatorNotAvailable"} | unsure, error

    def test_a_broker_that_sends_the_tool_elsewhere(
        self, bench: Bench, halved: Halved, tool: str
    ) -> None:
        """The address at which nobody answers is the advertised one, and the message names it."""
        fails(
            bench, halved.nowhere, kind="BrokerUnreachable", retried=True, tool=tool,
            bootstrap_servers=halved.lost, group=GROUP, timeout=GIVES_UP,
        )  # fmt: skip

    def test_a_listener_with_tls_and_a_tool_without(
        self, bench: Bench, halved: Halved, tool: str
    ) -> None:
        """What looks like brokers that don't answer is a setting that command_config lacks."""
        fails(
            bench, "TLS", "command_config", kind="ClientConfigInvalid", retried=False, tool=tool,
            bootstrap_servers=halved.tls, group=GROUP, timeout=GIVES_UP,
        )  # fmt: skip

    def test_a_listener_whose_certificate_the_tool_does_not_trust(
        self, bench: Bench, halved: Halved, tool: str, tmp_path: Path
    ) -> None:
        """A certificate of a CA that the host's Java doesn't know is a matter of trust."""
        config = tmp_path / "tls.properties"
        config.write_text("security.protocol=SSL\n")
        fails(
            bench, "trust store", kind="AuthenticationFailed", retried=False, tool=tool,
            bootstrap_servers=halved.tls, group=GROUP, command_config=str(config),
        )  # fmt: skip

    def test_a_listener_whose_certificate_the_tool_trusts(
        self, bench: Bench, halved: Halved, homes: dict[str, Path], tmp_path: Path
    ) -> None:
        """With the CA in command_config the same listener gives the lag."""
        config = tmp_path / "tls.properties"
        config.write_text(
            "security.protocol=SSL\nssl.truststore.type=PEM\n"
            f"ssl.truststore.location={halved.certificates.authority}\n"
        )
        bench.operator(
            tool=str(homes["4.3.1"] / "bin" / "kafka-consumer-groups.sh"),
            bootstrap_servers=halved.tls, group=GROUP, command_config=str(config),
        ).execute(context("run"))  # fmt: skip
        assert bench.documents()[0]["p0"] == MESSAGES - COMMITTED

    @pytest.mark.parametrize("broker", ["3.9.1", "4.3.1"])
    def test_a_group_that_is_not_one_of_consumers(
        self, bench: Bench, halved: Halved, tool: str, version: str, broker: str
    ) -> None:
        """A group of Kafka Connect's workers has no lag, and is no missing group."""
        bootstrap = halved.bootstrap if broker == "4.3.1" else bench.lab.source.bootstrap
        group = coordinated(f"workers-{version}-")
        with worker_of_connect(bootstrap, group):
            fails(
                bench, group, "connect", kind="NotAConsumerGroup", retried=False, tool=tool,
                bootstrap_servers=bootstrap, group=group,
            )  # fmt: skip


class TestSettings:
    """What the tools say of settings that they can't use."""

    @pytest.mark.parametrize(
        ("settings", "word"),
        [
            ("security.protocol=NO_SUCH", "NO_SUCH"),
            ("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN", "JAAS"),
            (
                "security.protocol=SSL\nssl.truststore.location=/nowhere/trust.jks\n"
                "ssl.truststore.password=hush-trust",
                "/nowhere/trust.jks",
            ),
            ("default.api.timeout.ms=1000", "default.api.timeout.ms"),
        ],
        ids=["no such protocol", "no login", "no trust store", "no room for a request"],
    )
    def test_settings_of_which_no_client_can_be_made(
        self, bench: Bench, tmp_path: Path, tool: str, settings: str, word: str
    ) -> None:
        """The setting is named as one of command_config, and a password in it doesn't show."""
        config = tmp_path / "client.properties"
        config.write_text(f"{settings}\n")
        document = fails(
            bench, word, "`command_config`", kind="ClientConfigInvalid", retried=False,
            tool=tool, command_config=str(config),
        )  # fmt: skip
        assert "hush-trust" not in document["error"]["message"]

    def test_settings_in_a_directory(self, bench: Bench, tmp_path: Path, tool: str) -> None:
        """A path that is no file is told from one where nothing is."""
        fails(
            bench, "SSH user", kind="CommandConfigNotReadable", retried=False,
            tool=tool, command_config=str(tmp_path),
        )  # fmt: skip

    def test_settings_of_somebody_else(self, bench: Bench, tmp_path: Path, tool: str) -> None:
        """A file that the user on the host may not read is told from one that isn't there."""
        config = bench.lab.workspace.directory("foreign") / "client.properties"
        config.touch()
        config.chmod(0)
        # Nothing is forbidden to root.
        words = " ".join(as_other_user())
        fails(
            bench, "SSH user", kind="CommandConfigNotReadable", retried=False,
            tool=script(tmp_path / "tool.sh", f'exec {words} "{tool}" "$@"'),
            command_config=str(config),
        )  # fmt: skip

    def test_another_tool_of_kafka(
        self, bench: Bench, homes: dict[str, Path], tmp_path: Path, version: str
    ) -> None:
        """kafka-topics.sh in its place refuses an option, which points to `tool`."""
        command = TOPICS_COMMAND.get(version, "org.apache.kafka.tools.TopicCommand")
        starter = homes[version] / "bin" / "kafka-run-class.sh"
        other = script(tmp_path / "kafka-topics.sh", f'exec "{starter}" {command} "$@"')
        fails(
            bench, "group is not a recognized option", "`tool`",
            kind="OptionRefused", retried=False, tool=other,
        )  # fmt: skip

    def test_a_program_that_is_not_one_of_kafka(self, bench: Bench) -> None:
        """What nobody knows is reported with the exit code and the program's own words."""
        fails(
            bench, "exit code 2", "--bootstrap-server", kind="DescribeFailed", retried=True,
            tool=str(shutil.which("ls")),
        )  # fmt: skip


class TestJava:
    """What becomes of a tool whose Java is missing, fails or is ended."""

    @pytest.mark.parametrize("shell", ["sh", "bash"])
    @pytest.mark.parametrize("where", ["JAVA_HOME", "PATH"])
    def test_a_host_without_java(
        self, bench: Bench, installation: Path, tmp_path: Path, shell: str, where: str
    ) -> None:
        """Both shells, each in words of its own, say that there is no Java, not that no tool."""
        starter = installation / "bin" / "kafka-run-class.sh"
        starter.write_text(starter.read_text().replace("#!/bin/sh", f"#!{shutil.which(shell)}"))
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "dirname").symlink_to(str(shutil.which("dirname")))
        environment = {
            "JAVA_HOME": "JAVA_HOME=/nowhere; export JAVA_HOME",
            "PATH": f"unset JAVA_HOME; PATH={programs}",
        }
        tool = installation / "bin" / "kafka-consumer-groups.sh"
        fails(
            bench, "JAVA_HOME or PATH", kind="JavaNotFound", retried=False,
            tool=script(tmp_path / "tool.sh", f'{environment[where]}; exec "{tool}" "$@"'),
        )  # fmt: skip

    @pytest.mark.parametrize(
        "missing",
        ["bin/kafka-run-class.sh", "libs/*", "libs/kafka-clients-*", "libs/jopt-simple-*"],
    )
    def test_an_installation_that_lacks_a_part(
        self, bench: Bench, installation: Path, missing: str
    ) -> None:
        """Without a script or a jar that belongs to it the tool is broken, not absent."""
        for part in list(installation.glob(missing)):
            part.unlink()
        fails(
            bench, "libs/", kind="ToolBroken", retried=False,
            tool=str(installation / "bin" / "kafka-consumer-groups.sh"),
        )  # fmt: skip

    def test_a_tool_made_for_a_newer_java(self, bench: Bench, tmp_path: Path) -> None:
        """A class that this Java is too old for points to the version of Java."""
        jar = bench.lab.kafka_home / "libs" / f"kafka-tools-{KAFKA_VERSION}.jar"
        with zipfile.ZipFile(jar) as content:
            compiled = bytearray(content.read(COMMAND))
        # Bytes 6 and 7 of a class are the version that it was compiled for.
        compiled[6:8] = struct.pack(">H", 99)
        file = tmp_path / COMMAND
        file.parent.mkdir(parents=True)
        file.write_bytes(compiled)
        tool = script(
            tmp_path / "tool.sh",
            f'CLASSPATH="{tmp_path}"; export CLASSPATH; exec "{bench.lab.tool}" "$@"',
        )
        fails(bench, "LinkageError", "Java 17", kind="ToolBroken", retried=False, tool=tool)

    def test_a_host_without_memory(self, bench: Bench, tmp_path: Path) -> None:
        """A JVM that the host has no memory for is a matter of memory and jvm_opts."""
        tool = script(tmp_path / "tool.sh", f'ulimit -v 1000000; exec "{bench.lab.tool}" "$@"')
        fails(bench, "free memory", kind="JavaFailed", retried=False, tool=tool)

    def test_a_heap_that_is_full_in_the_middle(self, bench: Bench, tool: str) -> None:
        """A JVM that starts and then runs out of heap is a matter of jvm_opts too."""
        fails(
            bench, "`jvm_opts`", kind="JavaFailed", retried=False, tool=tool,
            jvm_opts="-Xmx3M -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError",
        )  # fmt: skip

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda one: one.name)
    def test_a_tool_that_somebody_ends(self, bench: Bench, number: signal.Signals) -> None:
        """A signal that isn't ours, as from the out-of-memory killer, is named."""
        with socket.create_server((HOST, 0)) as silent:
            bootstrap = f"{HOST}:{silent.getsockname()[1]}"
            ending = Thread(target=end_jvm, args=(bench.lab, bootstrap, number))
            ending.start()
            fails(
                bench, f"signal {number.value}", number.name,
                kind="DescribeKilled", retried=True, bootstrap_servers=bootstrap,
            )  # fmt: skip
            ending.join()


def end_jvm(lab: Laboratory, argument: str, number: signal.Signals) -> None:
    """Send a signal to the JVM that has an argument, as soon as it is there."""

    def is_it(process: reaper.ProcessKey) -> bool:
        folder = Path(f"/proc/{process.pid}")
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            return (folder / "comm").read_text() == "java\n" and argument.encode() in words
        except OSError:
            return False

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [process for process in reaper.members(lab.workspace.lab_id) if is_it(process)]
        if found:
            # A JVM that has begun to run leaves its exit code to its own handlers.
            time.sleep(1)
            reaper.send(found, number)
            return
        time.sleep(0.1)


@contextmanager
def worker_of_connect(bootstrap: str, group: str) -> Iterator[None]:
    """A member that joins a group as Kafka Connect's workers do: with a protocol of its own."""

    def text(value: str) -> bytes:
        return struct.pack(">h", len(value)) + value.encode()

    # Kafka's request JoinGroup, version 2: number 11 of its protocol.
    head = struct.pack(">hhi", 11, 2, 1) + text("connect-1")
    times = struct.pack(">ii", 30_000, 30_000)
    protocols = struct.pack(">i", 1) + text("sessioned") + struct.pack(">i", 0)
    request = head + text(group) + times + text("") + text("connect") + protocols
    host, _, port = bootstrap.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        # Size, number and throttle time, four bytes each, come before the error's code.
        answer = connection.recv(14, socket.MSG_WAITALL)
        assert struct.unpack(">iiih", answer)[3] == 0
        yield
