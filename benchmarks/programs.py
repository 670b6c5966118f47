"""Starts the programs of `monitors`, and klag-exporter, and hears their readings."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.monitors import SSH_CONN_ID, Settings
from benchmarks.readings import Reading
from lab.network import HOST, free_port
from lab.process import Part, Process
from lab.sshd import SshServer
from lab.workspace import Workspace

KLAG = "klag-exporter"

_KLAG_SETTINGS = """
[exporter]
poll_interval = "{every:.0f}s"
http_host = "{host}"
http_port = {port}
granularity = "partition"

[exporter.timestamp_sampling]
enabled = false

[[clusters]]
name = "lab"
bootstrap_servers = "{bootstrap}"
group_whitelist = ["{group}"]
"""


class Program(Part, ABC):
    """A program that reads a group's lag."""

    @property
    @abstractmethod
    def readings(self) -> Sequence[Reading]:
        """All readings so far."""

    def start(self) -> None:
        """Start it; return when it has taken its first reading."""
        self._process.start()
        self.wait_for(1, seconds=60)

    def wait_for(self, count: int, *, seconds: float) -> None:
        """Wait until it has taken so many readings.

        :raises PartError: it ends, or has not after that many seconds.
        """
        self._process.wait_until(
            lambda: len(self.readings) >= count,
            timeout=seconds,
            what=f"at its reading number {count}",
        )


class Monitor(Program):
    """One of `monitors.PROGRAMS`, whose log holds its readings."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        workspace: Workspace,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = Process(
            workspace=workspace,
            name=f"monitor-{name}",
            command=[sys.executable, "-m", "benchmarks.monitors", name,
                     json.dumps(asdict(settings))],
            environment=environment,
        )  # fmt: skip

    @property
    def readings(self) -> Sequence[Reading]:
        """All readings so far."""
        if not self.log.exists():
            return ()
        # A last line without its end is still being written.
        lines = self.log.read_text(errors="replace").split("\n")[:-1]
        return [Reading.of_line(line) for line in lines if line.startswith('{"began"')]


class KlagExporter(Program):
    """klag-exporter without its time lag; asked as often as it reads, as Prometheus would."""

    def __init__(self, settings: Settings, *, workspace: Workspace) -> None:
        port = free_port()
        self._url = f"http://{HOST}:{port}/metrics"
        self._every = settings.every
        self._found: list[Reading] = []
        self._stopping = threading.Event()
        file = workspace.directory(KLAG) / "klag.toml"
        file.write_text(
            _KLAG_SETTINGS.format(
                every=settings.every,
                host=HOST,
                port=port,
                bootstrap=settings.bootstrap,
                group=settings.group,
            ),
            encoding="utf-8",
        )
        self._process = Process(
            workspace=workspace, name=KLAG, command=[program() or KLAG, "--config", file]
        )

    @property
    def readings(self) -> Sequence[Reading]:
        """All readings so far that were seen."""
        return self._found

    def start(self) -> None:
        """Start it; return when its first reading was seen."""
        threading.Thread(target=self._ask, name=KLAG, daemon=True).start()
        super().start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        super().stop()

    def _ask(self) -> None:
        while not self._stopping.wait(self._every if self._found else 0.5):
            with suppress(URLError, OSError), urlopen(self._url, timeout=5) as answer:
                reading = Reading.of_metrics(answer.read().decode())
                if reading and reading not in self._found:
                    self._found.append(reading)


def program() -> str | None:
    """Return the path of klag-exporter, ``None`` where it is not installed."""
    return shutil.which(KLAG)


def our_environment(host: SshServer, home: Path) -> dict[str, str]:
    """Return what the program `ours` needs: Airflow's home, and the connection to the host."""
    return {
        "AIRFLOW_HOME": str(home),
        f"AIRFLOW_CONN_{SSH_CONN_ID.upper()}": json.dumps(host.connection()),
    }
