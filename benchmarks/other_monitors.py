"""What else could read the same lag, with direct access to the broker, beside this package.

    python -m benchmarks.other_monitors

One group on one broker; a message a second on each partition, a commit every five seconds. One
program at a time. Each is started while the group stands still, so that its first reading has to be
right to the message; later readings have to lie between two independent ones.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airflow_lag_provider.command import describe_command
from benchmarks import agreement, processes, programs, report, wide_group
from benchmarks.monitors import PROGRAMS, Settings
from benchmarks.processes import Watch
from benchmarks.programs import KLAG, KlagExporter, Monitor, Program
from benchmarks.traffic import Running, Sweeps, Traffic
from lab.laboratory import Laboratory
from lab.process import Process

OURS = "ours"
_IMPORTS = (
    "import time, airflow.providers.ssh.hooks.ssh; print('ready', flush=True); time.sleep(99)"
)

NOTES = (
    "The others need what users of this package don't have: a way to every broker, and credentials "
    "there. Ours needs SSH to a host that has both, with Kafka's tools and Java.",
    "None of the others writes documents or keeps a history of its own. All leave out a partition "
    "without a commit; so does the tool where the group has no members.",
    "15 seconds are usual for them, a minute is ours: compare a reading with a reading too.",
    f"{KLAG}, where it is missing: cargo install {KLAG} --version 0.1.29 --locked (10 minutes; "
    "on Debian it needs libsasl2-dev liblz4-dev libzstd-dev libcurl4-openssl-dev). Its time lag is "
    "switched off here, and being asked for its metrics is counted.",
)


class Stage:
    """A broker with a group, traffic on it, and the host that the package's command runs on."""

    def __init__(self, lab: Laboratory, *, topics: int, partitions: int) -> None:
        self.lab = lab
        self.topics = wide_group.topic_names(topics)
        group = wide_group.group_name(topics)
        self.settings = Settings(bootstrap=lab.source.bootstrap, group=group, every=0)
        keys = [(topic, number) for topic in self.topics for number in range(partitions)]
        wide_group.make_group(lab, topics=topics, partitions=partitions)
        self.traffic = Traffic(lab.source.bootstrap, group, keys)
        self.traffic.fill()
        self.home = lab.workspace.secrets / "airflow-home"
        self.home.mkdir()
        self.environment = programs.our_environment(lab.openssh, self.home)

    def program(self, name: str, *, every: float) -> Program:
        """Return a program that is not started yet."""
        settings = replace(self.settings, every=every)
        workspace = self.lab.workspace
        if name == KLAG:
            return KlagExporter(settings, workspace=workspace)
        if name != OURS:
            return Monitor(name, settings, workspace=workspace)
        command = describe_command(
            bootstrap_servers=[settings.bootstrap],
            group=settings.group,
            timeout=30,
            tool=str(self.lab.tool),
        )
        settings = replace(settings, topics=tuple(self.topics), command=command)
        return Monitor(name, settings, workspace=workspace, environment=self.environment)


def measure(stage: Stage, name: str, *, every: float, seconds: float) -> dict[str, Any]:
    """Return the row of one program."""
    program = stage.program(name, every=every)
    sweeps = Sweeps(stage.settings.bootstrap, stage.settings.group, stage.topics)
    count = 1 + max(1, round(seconds / every))
    still = stage.traffic.lags()
    sweeps.found.append(sweeps.look())
    program.start()
    try:
        own = processes.own_seconds(program.pid)
        with Running(stage.traffic.run, sweeps.run), Watch(stage.lab.openssh.pid) as host:
            program.wait_for(count, seconds=seconds + 2 * every)
            own = processes.own_seconds(program.pid) - own
            peak = processes.own_peak_mb(program.pid)
        sweeps.found.append(sweeps.look())
    finally:
        program.stop()
    readings = program.readings[:count]
    moving = [agreement.bracketed(reading, sweeps.found) for reading in readings[1:]]
    took = [1000 * reading.took for reading in readings[1:]]
    remote = host.cpu_seconds if name == OURS else None
    # Not what the clock says: the first reading is longer than the others, it connects.
    minutes = len(took) * every / 60
    return {
        "program": _title(name),
        "every s": every,
        "CPU-s per minute": round(own / minutes, 4),
        "host CPU-s per minute": None if remote is None else round(remote / minutes, 2),
        "CPU-s per reading": round((own + (remote or 0)) / len(took), 4),
        "peak MB": round(peak),
        "host peak MB": None if remote is None else round(host.peak_mb),
        "reading ms": round(statistics.median(took)),
        "right, still": f"{agreement.exact(readings[0], still)} of {len(still)}",
        "right, moving": f"{sum(moving)} of {len(moving) * len(still)}",
    }


def _title(name: str) -> str:
    if name == OURS:
        return name
    if name != KLAG:
        return f"{name} {version(name)}"
    words = [programs.program() or KLAG, "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def imports_mb(lab: Laboratory, home: Path) -> int:
    """Return the memory of a process that has imported Airflow and its SSH hook, and waits."""
    process = Process(
        workspace=lab.workspace,
        name="imports",
        command=[sys.executable, "-c", _IMPORTS],
        environment={"AIRFLOW_HOME": str(home)},
    )
    process.start()
    process.wait_until(lambda: "ready" in process.log.read_text(), timeout=60, what="ready")
    try:
        return round(processes.own_peak_mb(process.pid))
    finally:
        process.stop()


def main(words: Sequence[str] | None = None) -> None:
    """Run the programs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default=",".join([*PROGRAMS, KLAG]), help="with commas")
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=18, help="of each topic")
    parser.add_argument("--every", type=float, default=15, help="seconds; ours: each minute")
    parser.add_argument("--seconds", type=float, default=60, help="how long each is measured")
    parser.add_argument("--short", action="store_true", help="shows that it runs, in a minute")
    parser.add_argument("--name", default="other_monitors", help="of the JSON file")
    chosen = parser.parse_args(words)
    minute = 60.0
    if chosen.short:
        chosen.topics, chosen.partitions = 2, 3
        chosen.every, chosen.seconds, minute = 2.0, 4.0, 4.0
    rows: list[dict[str, Any]] = []
    with Laboratory(
        progress=print, mirrormaker=False, producer=False, sshd=False, openssh=True,
        elasticsearch=False, topics=(),
    ) as lab:  # fmt: skip
        stage = Stage(lab, topics=chosen.topics, partitions=chosen.partitions)
        base = imports_mb(lab, stage.home)
        for name in chosen.programs.split(","):
            if name == KLAG and programs.program() is None:
                rows.append({"program": f"{KLAG}: not installed"})
                continue
            every = minute if name == OURS else chosen.every
            rows.append(measure(stage, name, every=every, seconds=chosen.seconds))
            print(rows[-1], flush=True)
    notes = [
        f"Of our memory, {base} MB are Airflow and its SSH provider, which the triggerer has too.",
        *NOTES,
    ]
    report.publish(chosen.name, rows, notes=notes, short=chosen.short)
    print(*notes, sep="\n")


if __name__ == "__main__":
    main()
