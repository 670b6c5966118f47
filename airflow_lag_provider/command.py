"""The remote command line: the only place that quotes for a shell.

The command has three parts. The environment makes the JVM light. ``timeout`` ends the tool on
the host itself, so that no JVM stays behind when the SSH session is gone. The end marker, on a
line of its own because Kafka 3.8 and 3.9 print no last newline, carries the tool's exit code and
proves that the output is whole.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_lag_provider.command_archive import with_archive
from airflow_lag_provider.errors import OutputCutOff

DEFAULT_TOOL = "kafka-consumer-groups.sh"
# Measured on Kafka 2.6 to 4.3: two thirds of the CPU time of the script's own options. The last one
# keeps the JVM from writing a file of its own (hsperfdata) on the host.
DEFAULT_JVM_OPTS = "-Xmx128M -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
END_MARKER = "__consumer_lag_end__"

_END = re.compile(rf"\n{END_MARKER} (\d{{1,3}})\n?\Z")
_HEAP_OPTION = re.compile(r"-Xm[xsn]|-XX:(?:Max|Min|Initial)(?:Heap|RAM)")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How the time of one describe is shared out, so that the inner limit strikes first.

    :param request_ms: the tool's ``--timeout`` for one request to a broker, milliseconds. It
        leaves room for the JVM's start, so that the tool's own reason reaches us.
    :param tool_s: when ``timeout`` sends SIGTERM to the tool, seconds after its start.
    :param kill_after_s: how much later SIGKILL follows, seconds.
    """

    request_ms: int
    tool_s: int
    kill_after_s: int

    @classmethod
    def within(cls, timeout: float) -> TimeLimits:
        """Share out ``timeout`` seconds: connecting and both signals fit into them."""
        kill_after_s = 1 if timeout < 20 else 2
        tool_s = max(1, int(timeout) - kill_after_s - (1 if timeout < 20 else 2))
        return cls(request_ms=int(tool_s * 600), tool_s=tool_s, kill_after_s=kill_after_s)

    @property
    def longest_s(self) -> int:
        """How long the tool runs at most, seconds."""
        return self.tool_s + self.kill_after_s


def describe_command(
    *,
    bootstrap_servers: Sequence[str],
    group: str,
    timeout: float,
    tool: str = DEFAULT_TOOL,
    command_config: str | None = None,
    jvm_opts: str = DEFAULT_JVM_OPTS,
    class_data_archive: str | None = None,
) -> str:
    """Return the command line that describes a consumer group, for a POSIX shell.

    Every value becomes exactly one word of the shell, whatever it holds.

    :param bootstrap_servers: ``host:port`` of brokers.
    :param group: the consumer group's id.
    :param timeout: seconds the caller waits for connection and command together.
    :param tool: path or name of kafka-consumer-groups.sh on the host.
    :param command_config: path of a client properties file on the host.
    :param jvm_opts: options of the tool's JVM; an empty string leaves the script's own.
    :param class_data_archive: directory on the host where the tool's JVM finds its classes ready
        to use, see ``command_archive``; ``None``: nothing is written there.
    """
    limits = TimeLimits.within(timeout)
    words = [
        tool,
        *("--bootstrap-server", ",".join(bootstrap_servers)),
        "--describe",
        *("--group", group),
        *("--timeout", str(limits.request_ms)),
    ]
    if command_config:
        words += ["--command-config", command_config]
    if class_data_archive:
        words = with_archive(
            words, directory=class_data_archive, made_for=(tool, command_config, jvm_opts)
        )
    words = ["timeout", "-k", str(limits.kill_after_s), str(limits.tool_s), *words]
    environment = _environment(jvm_opts=jvm_opts, group=group)
    assignments = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return (
        f"{' '.join([*assignments, shlex.join(words)])} </dev/null; "
        f"printf '\\n%s %d\\n' {END_MARKER} \"$?\""
    )


def _environment(*, jvm_opts: str, group: str) -> dict[str, str]:
    """Return the variables for the tool: the scripts of Kafka take JVM options in two of them."""
    options = jvm_opts.split()
    heap = [option for option in options if _HEAP_OPTION.match(option)]
    others = [option for option in options if not _HEAP_OPTION.match(option)]
    environment = {}
    if heap:
        environment["KAFKA_HEAP_OPTS"] = " ".join(heap)
    if others:
        environment["KAFKA_JVM_PERFORMANCE_OPTS"] = " ".join(others)
    if not group.isascii():
        # A session without login has no locale; Java would then read and print `?`.
        environment["LC_ALL"] = "C.UTF-8"
    return environment


def split_end_marker(stdout: str) -> tuple[str, int]:
    """Return what the tool printed, without our end marker, and the tool's exit code.

    :raises OutputCutOff: the marker is missing, so the output is not known to be whole.
    """
    match = _END.search(stdout)
    if match is None:
        lines = stdout.count("\n")
        raise OutputCutOff(f"The output ended after {lines} lines without its end marker.")
    return stdout[: match.start()], int(match.group(1))
