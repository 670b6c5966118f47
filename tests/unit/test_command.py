"""The remote command line, run by a real shell with a tool that shows the words it was given."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_lag_provider.command import (
    DEFAULT_JVM_OPTS,
    END_MARKER,
    TimeLimits,
    describe_command,
    split_end_marker,
)
from airflow_lag_provider.errors import OutputCutOff

SERVERS = ("b-1.source:9092", "b-2.source:9092")
HOSTILE = [
    "orders; rm -rf /",
    "$(id)",
    "`id`",
    "a' b",
    'a" b',
    "a\nb",
    "a\\",
    "*",
    "~",
    "--all-groups",
    "x | tee /tmp/x",
    "a && b",
    "$HOME",
    "größe äöü",
    "",
]


@dataclass(frozen=True)
class Shown:
    """What the tool saw, and what came out of the shell."""

    words: list[str]
    environment: dict[str, str]
    stdout: str
    exit_code: int


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bin") / "a tool's name.sh"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "kafka = {k: v for k, v in os.environ.items() if k.startswith(('KAFKA', 'LC_ALL'))}\n"
        "print(json.dumps([sys.argv[1:], kafka]), end='')\n"
        "sys.exit(3)\n"
    )
    path.chmod(0o755)
    return path


def run(command: str) -> Shown:
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    stdout, exit_code = split_end_marker(done.stdout)
    words, environment = json.loads(stdout)
    return Shown(words, environment, stdout, exit_code)


def command(**changes: Any) -> str:
    arguments = {"bootstrap_servers": SERVERS, "group": "oasis-group", "timeout": 30.0}
    return describe_command(**{**arguments, **changes})


def test_the_command_describes_the_group_with_every_value_as_one_word(tool: Path) -> None:
    """The tool gets the brokers, the group and its own time-out, each as one word."""
    shown = run(command(tool=str(tool), command_config="/etc/kafka/a client.properties"))
    assert shown.words == [
        "--bootstrap-server",
        "b-1.source:9092,b-2.source:9092",
        "--describe",
        "--group",
        "oasis-group",
        "--timeout",
        "15600",
        "--command-config",
        "/etc/kafka/a client.properties",
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_reaches_the_tool_as_one_word(tool: Path, value: str) -> None:
    """No value adds a word, a command or an expansion to the shell, whichever argument it is."""
    changes = {"tool": str(tool), "group": value, "command_config": value or "x"}
    shown = run(command(**changes))
    assert run(command(**changes, class_data_archive=value or "x")) == shown
    assert shown.words[4] == value
    assert shown.words[-1] == (value or "x")
    assert len(shown.words) == 9


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_reaches_the_tool_as_one_word(tool: Path, value: str) -> None:
    """Whatever text a group's id is, the tool gets that text and nothing else."""
    assert run(command(tool=str(tool), group=value)).words[4] == value


def test_a_hostile_tool_is_looked_up_and_never_interpreted() -> None:
    """A tool with shell characters is a program that isn't there, not a command."""
    done = subprocess.run(
        ["sh", "-c", command(tool="/nowhere; echo pwned")], capture_output=True, text=True
    )
    assert split_end_marker(done.stdout) == ("", 127)
    assert "pwned" not in done.stdout


def test_the_jvm_is_light_unless_something_else_is_asked_for(tool: Path) -> None:
    """Heap options and the others go into the two variables that Kafka's scripts read."""
    light = run(command(tool=str(tool))).environment
    assert light == {
        "KAFKA_HEAP_OPTS": "-Xmx128M",
        "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData",
    }
    assert run(command(tool=str(tool), jvm_opts="")).environment == {}
    own = run(command(tool=str(tool), jvm_opts="-Xms1m -Xmx64m -Dx=$(id)")).environment
    assert own == {"KAFKA_HEAP_OPTS": "-Xms1m -Xmx64m", "KAFKA_JVM_PERFORMANCE_OPTS": "-Dx=$(id)"}
    assert "-Xmx128M" in DEFAULT_JVM_OPTS


def test_a_group_beyond_ascii_brings_a_locale_that_has_its_letters(tool: Path) -> None:
    """Java would read question marks in a session without a locale."""
    assert run(command(tool=str(tool), group="größe")).environment["LC_ALL"] == "C.UTF-8"


def test_the_exit_code_survives_an_output_without_a_last_newline(tool: Path) -> None:
    """The end marker stands on its own line and carries the tool's exit code."""
    shown = run(command(tool=str(tool)))
    assert shown.exit_code == 3
    assert END_MARKER not in shown.stdout
    assert not shown.stdout.endswith("\n")


def test_a_tool_that_hangs_is_ended_on_the_host(tmp_path: Path) -> None:
    """The host itself ends the tool, also one that ignores SIGTERM, and says so by exit code."""
    stubborn = tmp_path / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    stubborn.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", command(tool=str(stubborn), timeout=3)], capture_output=True, text=True
    )
    assert split_end_marker(done.stdout) == ("", 137)


@pytest.mark.parametrize("timeout", [10.0, 15.5, 20.0, 25.0, 30.0, 55.0])
def test_the_inner_time_limit_always_strikes_first(timeout: float) -> None:
    """The tool's request, then SIGTERM, then SIGKILL, then our own limit, with room between."""
    limits = TimeLimits.within(timeout)
    assert limits.request_ms / 1000 + 2 < limits.tool_s
    assert limits.tool_s + limits.kill_after_s < timeout


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "GROUP TOPIC\n",
        f"rows\n{END_MARKER}",
        f"rows\n{END_MARKER} \n",
        f"rows {END_MARKER} 0\n",
        f"rows\n{END_MARKER} 0\nmore rows\n",
    ],
)
def test_output_without_its_end_marker_is_an_error(stdout: str) -> None:
    """An output that was cut off is never taken for a short one."""
    with pytest.raises(OutputCutOff):
        split_end_marker(stdout)
