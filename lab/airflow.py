"""A real Airflow, 3.x or 2.11, in a home of its own.

`Airflow` is an installation with its configuration; it runs commands. `start` brings up the
processes that a scheduler needs, `start_standalone` the one that a person would start.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from lab.airflow_settings import Login, Place, settings
from lab.errors import LabError, MissingToolError
from lab.network import HOST, free_port
from lab.process import Process
from lab.workspace import Workspace

_START_SECONDS = 240.0
_MIGRATE_SECONDS = 180.0
_NO_LOG_SERVER = "--skip-serve-logs"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


class Airflow:
    """An installation of Airflow with an AIRFLOW_HOME of its own.

    :param workspace: the laboratory it belongs to
    :param bin: the ``bin`` folder of the virtual environment that Airflow is installed in
    :param dags_folder: the DAG files
    :param connections: connections by id, each a dict as ``AIRFLOW_CONN_*`` takes it as JSON
    :param environment: further variables; they win over those made here
    :param database: SQLAlchemy URL of its database; a sqlite file of its own by default
    :param broker: URL of a broker; tasks then go to a Celery worker (3.x, not with sqlite)
    :param name: names its logs and its home
    :raises MissingToolError: there is no Airflow in `bin`
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        bin: Path,
        dags_folder: Path,
        connections: Mapping[str, Mapping[str, object]] | None = None,
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        broker: str | None = None,
        name: str = "airflow",
    ) -> None:
        self.name = name
        # Not resolved: the folder of a virtual environment must not become that of its Python.
        self.bin = bin.absolute()
        self.version = _installed_version(self.bin)
        self.home = workspace.secrets / name
        self.home.mkdir()
        self.log_folder = workspace.logs / f"{name}-tasks"
        self._workspace = workspace
        self._processes: list[Process] = []
        self._login = Login(f"http://{HOST}:{free_port()}", "admin", secrets.token_urlsafe(9))
        self._with_celery = broker is not None
        self._migrated = False
        place = Place(
            home=self.home,
            bin=self.bin,
            version=self.version,
            login=self._login,
            dags_folder=dags_folder,
            log_folder=self.log_folder,
            database=database,
            broker=broker,
        )
        self.environment: dict[str, str] = {
            **workspace.environment(),
            **settings(place),
            **{
                f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields)
                for name, fields in (connections or {}).items()
            },
            **(environment or {}),
        }

    @property
    def login(self) -> Login:
        """Address, user and password of the user interface; 3.x only."""
        return self._login

    @property
    def running(self) -> bool:
        """Whether it was started and all its processes are there."""
        return bool(self._processes) and all(process.running for process in self._processes)

    @property
    def logs(self) -> tuple[Path, ...]:
        """The log files of its processes; the tasks' own are below `log_folder`."""
        return tuple(process.log for process in self._processes)

    def run(self, *words: str, timeout: float = 120) -> Done:
        """Run an ``airflow`` command to its end, whatever its exit code.

        :param words: the command line after ``airflow``
        :param timeout: seconds
        :raises LabError: it did not end in time
        """
        return self.execute(str(self.bin / "airflow"), *words, timeout=timeout)

    def execute(self, *command: str, timeout: float = 120) -> Done:
        """Run any command in Airflow's environment to its end, whatever its exit code.

        :param timeout: seconds
        :raises LabError: it did not end in time
        """
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"not done within {timeout:g} s: {' '.join(command)}") from error
        return Done(done.returncode, done.stdout, done.stderr)

    def migrate(self) -> None:
        """Make the database; does nothing twice.

        :raises PartError: Airflow could not
        """
        if not self._migrated:
            self._process("db-migrate", "db", "migrate").run(timeout=_MIGRATE_SECONDS)
            self._migrated = True

    def start(self, *, schedulers: int = 1, triggerers: int = 1) -> None:
        """Start what schedules and runs DAGs, each process by itself.

        3.x: api-server, then dag-processor, schedulers, triggerers; 2.11: scheduler, triggerer.
        With a broker a Celery worker too.

        :param schedulers: how many; the second is called ``scheduler-2``; not with sqlite
        :param triggerers: how many; the second is called ``triggerer-2``
        :raises PartError: one of them does not come up
        """
        self.migrate()
        if self.version >= (3, 0):
            # Earlier than the scheduler: a task that finds no api-server fails for good.
            self._start("api-server", ready=lambda: self._health() is not None)
            self._start("dag-processor")
        if self._with_celery:
            self._start("worker", "celery", "worker", _NO_LOG_SERVER)
        for component, count in (("scheduler", schedulers), ("triggerer", triggerers)):
            for number in range(1, count + 1):
                name = component if number == 1 else f"{component}-{number}"
                self._start(name, component, _NO_LOG_SERVER)

    def start_standalone(self, progress: Callable[[str], None] = lambda _: None) -> Login:
        """Start ``airflow standalone`` (3.x) and return where its user interface is.

        :param progress: told what it waits for
        :raises PartError: it does not come up
        """
        progress("Airflow: making its database")
        self.migrate()
        progress("Airflow: starting its scheduler, triggerer, DAG processor and API server")
        path = f"{self._shim()}{os.pathsep}{self.environment['PATH']}"
        self._start("standalone", ready=self._all_are_healthy, path=path)
        return self._login

    def stop(self) -> None:
        """End all its processes at the same time; what they were running ends too."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda process: process.stop(grace=8), self._processes))
        self._processes.clear()

    def advice(self, mirrors: Path) -> dict[str, str]:
        """Return the settings, as variables, that ``airflow-lag tune`` names for a configuration.

        :param mirrors: path of its mirrors.yaml
        :raises LabError: it does not end well
        """
        done = self.execute(str(self.bin / "airflow-lag"), "tune", "--env", "--file", str(mirrors))
        if done.code:
            raise LabError(f"airflow-lag tune: {done.stderr}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("AIRFLOW__")]
        return dict(line.split("=", 1) for line in lines)

    def heartbeat(self, component: str) -> datetime | None:
        """Return when a scheduler or triggerer last gave a sign of life; 3.x only.

        :param component: ``scheduler`` or ``triggerer``
        :return: None before the first one, or when the api-server doesn't say
        """
        found = (self._health() or {}).get(component, {}).get(f"latest_{component}_heartbeat")
        return datetime.fromisoformat(found) if found else None

    def component(self, name: str) -> Process:
        """Return one process, to stop, pause or start it alone.

        :param name: ``scheduler``, ``triggerer``, ``api-server``, ``dag-processor``, ``worker``
        :raises LabError: there is none
        """
        for process in self._processes:
            if process.name == f"{self.name}-{name}":
                return process
        raise LabError(f"{self.name} has no process {name}")

    def _start(
        self,
        name: str,
        *words: str,
        ready: Callable[[], bool] | None = None,
        path: str | None = None,
    ) -> None:
        environment = {"PATH": path} if path else None
        process = self._process(name, *(words or (name,)), environment=environment)
        self._processes.append(process)
        process.start()
        if ready:
            process.wait_until(ready, timeout=_START_SECONDS, what="healthy")

    def _process(
        self, name: str, *words: str, environment: Mapping[str, str] | None = None
    ) -> Process:
        return Process(
            workspace=self._workspace,
            name=f"{self.name}-{name}",
            command=[self.bin / "airflow", *words],
            environment={**self.environment, **(environment or {})},
            cwd=self.home,
        )

    def _shim(self) -> Path:
        """Write an ``airflow`` for standalone to find, and return its folder.

        The scheduler and the triggerer serve their logs on every address of the machine, and
        standalone has no option against it; it runs whatever ``airflow`` comes first on the path.
        """
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        real = shlex.quote(str(self.bin / "airflow"))
        lines = (
            "#!/bin/sh",
            'case "$1" in',
            f'scheduler|triggerer) exec {real} "$@" {_NO_LOG_SERVER} ;;',
            f'*) exec {real} "$@" ;;',
            "esac",
        )
        (folder / "airflow").write_text("".join(f"{line}\n" for line in lines))
        (folder / "airflow").chmod(0o755)
        return folder

    def _all_are_healthy(self) -> bool:
        health = self._health() or {}
        wanted = ("scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in wanted)

    def _health(self) -> dict[str, dict[str, str | None]] | None:
        try:
            with urlopen(f"{self._login.url}/api/v2/monitor/health", timeout=3) as answer:  # noqa: S310
                health: dict[str, dict[str, str | None]] = json.loads(answer.read())
                return health
        except (URLError, OSError, ValueError):
            return None


def _installed_version(bin: Path) -> tuple[int, ...]:
    # Asking Airflow itself takes seconds.
    if not (bin / "airflow").exists():
        raise MissingToolError(f"no Airflow in {bin}; make the virtual environment first")
    for folder in bin.parent.glob("lib/python*/site-packages/apache_airflow-*.dist-info"):
        version = folder.name.removeprefix("apache_airflow-").removesuffix(".dist-info")
        return tuple(int(part) for part in version.split(".") if part.isdigit())
    raise MissingToolError(f"no installed apache-airflow beside {bin}")
