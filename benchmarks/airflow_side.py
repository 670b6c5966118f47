"""What Airflow costs: the real pipeline, minute by minute, with 20 to 1,400 topics.

    python -m benchmarks.airflow_side --topics 20,100,300 --layout topic --minutes 10

Everything is on this machine: a broker, the SSH server and its JVMs, Elasticsearch, PostgreSQL and
Airflow. Settings of Airflow are those that `airflow-lag tune` names for the load.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import floor, processes, report, wide_group
from benchmarks.watching import (
    Arrivals,
    blocked_at,
    quantiles,
    run_delays,
    task_delays,
    wait_for_runs,
)
from lab.airflow import Airflow
from lab.errors import LabError
from lab.laboratory import Laboratory
from lab.postgresql import PostgreSQL
from lab.sshd import AsyncsshServer
from lab.workspace import REPOSITORY

BINS = {"3.3": REPOSITORY / ".venv" / "bin", "2.11": REPOSITORY / ".venv-2.11" / "bin"}
MINUTE = timedelta(minutes=1)
_DRAIN_SECONDS = 100
_COMPONENTS = ("scheduler", "dag-processor", "triggerer", "api-server")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table.

    :param version: ``3.3`` or ``2.11``.
    :param layout: of mirrors.yaml.
    :param path: ``trigger``, ``worker``, or ``floor``: DAGs that do nothing in the triggerer.
    """

    version: str
    layout: str
    path: str
    topics: int
    partitions: int

    @property
    def index(self) -> str:
        """The index of its documents."""
        return f"lag-{self.version}-{self.layout}-{self.path}-{self.topics}"


# Beside what the package's own advice says: there is room for the worker path, and a pool of the
# default's name that limits nothing.
_SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "2000",
    "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "2000",
}


class Stage:
    """One Airflow with its own SSH server and PostgreSQL, beside a laboratory."""

    def __init__(self, case: Case, lab: Laboratory, folder: Path, extra: dict[str, str]) -> None:
        self.case = case
        self.lab = lab
        self.database = PostgreSQL(workspace=lab.workspace, name=f"postgresql-{case.index}")
        self.host = AsyncsshServer(workspace=lab.workspace, name=f"sshd-{case.index}")
        mirrors = wide_group.write_project(
            folder / "wide",
            lab,
            topics=case.topics,
            layout=case.layout,
            deferrable=case.path != "worker",
            index=case.index,
        )
        dags = folder / "wide" / "dags"
        if case.path == "floor":
            dags = floor.write_project(folder / "floor", count=case.topics)
        self.database.start()
        self.host.start()
        self.airflow = Airflow(
            workspace=lab.workspace,
            bin=BINS[case.version],
            dags_folder=dags,
            name=f"airflow-{case.index}",
            connections=wide_group.connections(lab, self.host),
            environment=_SETTINGS | {"PYTHONPATH": str(REPOSITORY)},
            database=self.database.url(),
        )
        self.airflow.environment.update(self.airflow.advice(mirrors) | extra)

    def heads(self) -> dict[str, list[int]]:
        """Return the process ids of each part whose CPU time is counted."""
        heads = {
            name: [process.pid]
            for name in _COMPONENTS
            if (process := self._component(name)) is not None
        }
        return {
            **heads,
            "postgresql": [self.database.pid],
            "elasticsearch": [self.lab.elasticsearch.pid],
            "remote": [self.host.pid],
        }

    def _component(self, name: str) -> Any:
        if self.case.version == "2.11" and name in {"dag-processor", "api-server"}:
            return None
        return self.airflow.component(name)

    def stop(self) -> None:
        """End its parts; the laboratory goes on."""
        self.airflow.stop()
        self.host.stop()
        self.database.stop()


def measure(case: Case, lab: Laboratory, *, minutes: int, warm_up: int, extra: dict[str, str],
            profile: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """Run Airflow for some minutes and return the row of the case."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(case, lab, Path(folder) / "project", extra)
        try:
            stage.airflow.start()
            return _watched(stage, minutes=minutes, warm_up=warm_up, profile=profile)
        finally:
            stage.stop()


def _watched(stage: Stage, *, minutes: int, warm_up: int, profile: Path | None) -> dict[str, Any]:
    case = stage.case
    arrivals = Arrivals(stage.lab.elasticsearch, case.index)
    url, old = stage.database.url(), case.version == "2.11"
    if case.path == "floor":
        wait_for_runs(url, case.topics, old=old, seconds=600)
    else:
        try:
            arrivals.wait_for(case.topics, seconds=300)
        except TimeoutError as error:
            # Too many topics for this machine; how many, the row will say.
            print(f"measured all the same: {error}", flush=True)
    begin = _next_minute() + warm_up * MINUTE
    _sleep_until(begin - timedelta(seconds=1), arrivals)
    heads = stage.heads()
    before = {name: processes.cpu_seconds(pids) for name, pids in heads.items()}
    commands = len(stage.host.commands())
    end = begin + minutes * MINUTE
    memory: Counter[str] = Counter()
    profilers = _start_profilers(heads, profile, seconds=minutes * 60) if profile else []
    while datetime.now(UTC) < end - timedelta(seconds=1):
        _sleep_until(min(end - timedelta(seconds=1), datetime.now(UTC) + timedelta(seconds=10)),
                     arrivals)  # fmt: skip
        for name in ("scheduler", "triggerer"):
            memory[name] = max(memory[name], int(processes.memory_mb(heads[name])))
    after = {name: processes.cpu_seconds(pids) for name, pids in heads.items()}
    described = len(stage.host.commands()) - commands
    instants = [begin + n * MINUTE for n in range(minutes)]
    _drain(stage, arrivals, instants)
    for one in profilers:
        one.wait()
    seen = arrivals.of(instants)
    if not seen and case.path != "floor":
        raise LabError("No document of the measured minutes became searchable.")
    spent = {name: after[name] - before[name] for name in heads}
    documents = case.topics * minutes
    ours = sum(spent[n] for n in spent if n not in {"elasticsearch", "remote"})
    blocked = blocked_at(stage.airflow.logs)
    return {
        "Airflow": case.version,
        "layout": case.layout,
        "path": case.path,
        "topics": case.topics,
        "partitions": case.partitions,
        "documents": f"{len(seen)} of {documents}" if case.path != "floor" else None,
        "run made p50/p95/p99/max s": quantiles(run_delays(url, "queued_at", instants, old=old)),
        "task deferred or started s": quantiles(task_delays(url, "start_date", instants, old=old)),
        "work begun p50/p95/p99/max s": quantiles(arrivals.beginnings(instants) if seen else ()),
        "searchable p50/p95/p99/max s": quantiles(seen),
        "run closed p50/p95/p99/max s": quantiles(run_delays(url, "end_date", instants, old=old)),
        "CPU-s per topic-minute": round(ours / documents, 4),
        **{f"{name} %": round(100 * spent[name] / minutes / 60) for name in spent},
        "triggerer MB": memory["triggerer"],
        "scheduler MB": memory["scheduler"],
        "describes per minute": round(described / minutes, 2),
        "async thread blocked earlier": sum(at < begin for at in blocked),
        "async thread blocked": sum(at >= begin for at in blocked),
    }


def _drain(stage: Stage, arrivals: Arrivals, instants: Sequence[datetime]) -> None:
    """Wait until what was due is there and closed, or is given up."""
    limit = instants[-1] + timedelta(seconds=60 + _DRAIN_SECONDS)
    due = stage.case.topics * len(instants)
    old = stage.case.version == "2.11"
    runs = due if stage.case.layout == "topic" else len(instants)
    while datetime.now(UTC) < limit:
        _sleep_until(datetime.now(UTC) + timedelta(seconds=3), arrivals)
        closed = run_delays(stage.database.url(), "end_date", instants, old=old)
        documents = due if stage.case.path != "floor" else 0
        if len(arrivals.of(instants)) >= documents and len(closed) >= runs:
            return


def _start_profilers(
    heads: dict[str, list[int]], folder: Path, *, seconds: int
) -> list[subprocess.Popen[bytes]]:
    """Let py-spy record the stacks of Airflow's processes; its own cost makes figures worse."""
    folder.mkdir(parents=True, exist_ok=True)
    program = str(BINS["3.3"] / "py-spy")
    options = ["--subprocesses", "--rate", "50", "--format", "raw", "--duration", str(seconds)]
    return [
        subprocess.Popen(
            [program, "record", *options, "--pid", str(pid), "--output", str(folder / name)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("scheduler", "dag-processor", "triggerer")
        for pid in heads.get(name, [])
    ]


def _next_minute() -> datetime:
    now = datetime.now(UTC)
    return now.replace(second=0, microsecond=0) + MINUTE


def _sleep_until(instant: datetime, arrivals: Arrivals) -> None:
    while datetime.now(UTC) < instant:
        arrivals.look()
        time.sleep(0.5)


def main(words: Sequence[str] | None = None) -> None:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow", default="3.3", help="3.3, 2.11 or both with a comma")
    parser.add_argument("--layout", default="topic", help="topic, mirror, group, with commas")
    parser.add_argument("--path", default="trigger", help="trigger, worker, floor, with commas")
    parser.add_argument("--topics", default="20,100,300,600,1000", help="numbers with commas")
    parser.add_argument("--partitions", type=int, default=3, help="of each topic")
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="minutes")
    parser.add_argument("--short", action="store_true", help="shows that it runs, in 4 minutes")
    parser.add_argument("--profile", type=Path, help="folder for py-spy's stacks")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE for Airflow")
    parser.add_argument("--logs", type=Path, help="folder that keeps all logs")
    parser.add_argument("--name", default="airflow_side", help="of the JSON file")
    chosen = parser.parse_args(words)
    if chosen.short:
        chosen.topics, chosen.minutes, chosen.warm_up = "10", 1, 0
    sizes = [int(size) for size in chosen.topics.split(",")]
    extra = dict(pair.split("=", 1) for pair in chosen.set)
    rows = []
    with Laboratory(
        logs=chosen.logs, progress=print, mirrormaker=False, producer=False, sshd=False, topics=(),
        source_heap=384 + sum(sizes) * chosen.partitions // 10,
    ) as lab:  # fmt: skip
        for case in _cases(chosen, sizes):
            wide_group.make_group(lab, topics=case.topics, partitions=case.partitions)
            rows.append(
                measure(case, lab, minutes=chosen.minutes, warm_up=chosen.warm_up, extra=extra,
                        profile=chosen.profile)
            )  # fmt: skip
            report.publish(
                chosen.name, rows, minutes=chosen.minutes, warm_up=chosen.warm_up, settings=extra
            )


def _cases(chosen: argparse.Namespace, sizes: Sequence[int]) -> Iterator[Case]:
    for size in sizes:
        for version in chosen.airflow.split(","):
            for layout in chosen.layout.split(","):
                for path in chosen.path.split(","):
                    yield Case(version=version, layout=layout, path=path, topics=size,
                               partitions=chosen.partitions)  # fmt: skip


if __name__ == "__main__":
    main()
