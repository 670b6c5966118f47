"""Ways to get the lag of some topics of a group from the tool on the MirrorMaker host."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from airflow_lag_provider.command import describe_command, split_end_marker
from airflow_lag_provider.describe import parse
from airflow_lag_provider.errors import LagError
from benchmarks.monitors import Settings
from benchmarks.processes import Watch
from benchmarks.programs import Monitor, our_environment
from lab.laboratory import Laboratory
from lab.sshd import OpenSshServer

# sshd refuses logins at random from the tenth that is not through yet (MaxStartups).
AT_ONCE = 10
_TIMEOUT = 30.0
_ARCHIVE_SECONDS = 180.0

# A loop for each topic, as somebody without this package would leave it running on the host. A
# describe that fails prints no line.
_OLD_SCRIPT = """
loop() {{
  while sleep 1; do
    {tool} --bootstrap-server {bootstrap} --describe --group {group} 2>/dev/null |
      grep "$1 " | sort -n -k 3 |
      awk -v topic="$1" '{{ lags = lags " p" $3 "=" $6 }} END {{ if (NR) print topic lags }}'
  done
}}
for topic in {topics}; do loop "$topic" & done
wait
"""


@dataclass
class Outcome:
    """What a way brought and cost.

    :param watch: of the host's processes.
    :param minutes: what the figures are divided by.
    :param samples: how many each topic got.
    :param waits: how long each describe took, seconds, where that is known.
    """

    watch: Watch
    minutes: float
    samples: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """Where it happens.

    :param host: an SSH server that nobody else uses.
    :param topics: those of the group that are asked for.
    :param seconds: from one sample to the next where that is fixed, and what is measured.
    """

    lab: Laboratory
    host: OpenSshServer
    group: str
    topics: Sequence[str]
    seconds: float

    def command(self, archive: Path | None = None) -> str:
        """Return this package's remote command, with a directory for archives if it is to."""
        return describe_command(
            bootstrap_servers=[self.lab.source.bootstrap],
            group=self.group,
            timeout=_TIMEOUT,
            tool=str(self.lab.tool),
            class_data_archive=str(archive) if archive else None,
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """Open a connection of one's own to the host."""
        async with asyncssh.connect(
            self.host.host,
            self.host.port,
            username=self.host.user,
            client_keys=[str(self.host.keys.key_file)],
            known_hosts=str(self.host.keys.known_hosts),
        ) as connection:
            yield connection


def old_loops(stage: Stage) -> Outcome:
    """Leave a loop running for each topic; measured when they have been running for a while."""
    return asyncio.run(_old_loops(stage))


async def _old_loops(stage: Stage) -> Outcome:
    script = _OLD_SCRIPT.format(
        tool=shlex.quote(str(stage.lab.tool)),
        bootstrap=stage.lab.source.bootstrap,
        group=shlex.quote(stage.group),
        topics=shlex.join(stage.topics),
    )
    seen: list[str] = []
    async with stage.connection() as connection:
        process = await connection.create_process(script)

        async def listen() -> None:
            async for line in process.stdout:
                seen.append(line.split()[0])

        listening = asyncio.create_task(listen())
        # They all start in the same second; later they are spread.
        await asyncio.sleep(min(stage.seconds, 5 + len(stage.topics)))
        seen.clear()
        with Watch(stage.host.pid) as watch:
            await asyncio.sleep(stage.seconds)
            samples = Counter(seen)
        stage.host.stop()
        listening.cancel()
    return Outcome(watch, watch.seconds / 60, samples)


def one_each(stage: Stage) -> Outcome:
    """Describe the group for each topic, each with a connection of its own: the worker path."""
    return asyncio.run(_one_each(stage))


async def _one_each(stage: Stage) -> Outcome:
    slots = asyncio.Semaphore(AT_ONCE)
    command = stage.command()

    async def describe(topic: str) -> None:
        async with slots:
            began = time.monotonic()
            # One that fails is a sample that the topic didn't get.
            with suppress(LagError):
                async with stage.connection() as connection:
                    done = await connection.run(command)
                output, code = split_end_marker(str(done.stdout))
                parse(output, str(done.stderr), code, group=stage.group).topic(topic)
                samples[topic] += 1
                waits.append(time.monotonic() - began)

    samples: Counter[str] = Counter()
    waits: list[float] = []
    with Watch(stage.host.pid) as watch:
        due = time.monotonic() + stage.seconds
        await asyncio.gather(*(describe(topic) for topic in stage.topics))
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return Outcome(watch, watch.seconds / 60, samples, waits)


def shared(stage: Stage) -> Outcome:
    """Describe the group once for all topics, over a connection that stays open: the triggerer."""
    return _shared(stage, stage.command())


def shared_with_archive(stage: Stage) -> Outcome:
    """Do the same with a class data archive on the host, which is made before."""
    folder = stage.lab.workspace.directory("archive")
    command = stage.command(folder)
    asyncio.run(_make_archive(stage, command, folder))
    return _shared(stage, command)


async def _make_archive(stage: Stage, command: str, folder: Path) -> None:
    """Run a describe, which leaves an archive for the next ones, and wait until it is there."""
    async with stage.connection() as connection:
        await connection.run(command)
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            # Its list of files comes last.
            await connection.run(f"until ls {folder}/*.txt; do sleep 0.5; done")


def _shared(stage: Stage, command: str) -> Outcome:
    home = stage.lab.workspace.secrets / f"airflow-{stage.host.name}"
    home.mkdir()
    monitor = Monitor(
        "ours",
        Settings(
            bootstrap=stage.lab.source.bootstrap,
            group=stage.group,
            every=stage.seconds,
            topics=tuple(stage.topics),
            command=command,
        ),
        workspace=stage.lab.workspace,
        environment=our_environment(stage.host, home),
    )
    monitor.start()
    try:
        # From the end of one describe to the end of the next.
        with Watch(stage.host.pid) as watch:
            monitor.wait_for(2, seconds=stage.seconds + _TIMEOUT)
    finally:
        monitor.stop()
    reading = monitor.readings[1]
    samples = Counter({topic for topic, _ in reading.lags})
    # Not what the clock says: the first describe is longer than the second, it connects.
    return Outcome(watch, stage.seconds / 60, samples, [reading.took])
