"""The place of one laboratory: its id, its directory, its logs, and the reaper that watches it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import reaper
from lab.errors import LabError, PartError

REPOSITORY = Path(__file__).resolve().parent.parent
"""The root of the repository, the working directory of everything that is started."""


class Workspace:
    """Holds what all parts of one laboratory share, and ends every process of it.

    A context manager. When the process that holds it dies, however it dies, the reaper ends all
    processes of the laboratory and removes the directory.

    :param logs: directory for the parts' logs; kept. By default a folder of the work directory,
        which goes with it.
    :raises LabError: when the reaper does not start
    """

    def __init__(self, *, logs: Path | None = None) -> None:
        self.lab_id = secrets.token_hex(8)
        self.path = Path(tempfile.mkdtemp(prefix="lag-lab-"))
        # Elasticsearch and sshd's commands may run as somebody else; secrets lie in secrets/.
        self.path.chmod(0o755)
        self.logs = logs or self.path / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.secrets = self.path / "secrets"
        self.secrets.mkdir(mode=0o700)
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._reaper = self._start_reaper()

    def __enter__(self) -> Self:
        """Return the workspace itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process and remove the directory."""
        self.close()

    def environment(self) -> dict[str, str]:
        """Return the environment for a part: this process's own, with the laboratory's id."""
        kept = {
            name: value
            for name, value in os.environ.items()
            # Left on, it makes every cold start of Airflow compile all of Airflow.
            if name not in {"PYTHONDONTWRITEBYTECODE", "CLASSPATH"}
            and not name.startswith(("KAFKA_", "AIRFLOW_", "ES_"))
        }
        # SPT_NOENV: Airflow's processes else overwrite their environment with their title, and
        # the laboratory's id with it.
        return kept | {reaper.ENV_VARIABLE: self.lab_id, "SPT_NOENV": "1"}

    def directory(self, name: str) -> Path:
        """Make and return a directory of the laboratory that anybody may enter."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def log_file(self, name: str) -> Path:
        """Return a log file for a part; a second part of the same name gets its own."""
        with self._lock:
            count = self._names[name] = self._names.get(name, 0) + 1
        return self.logs / (f"{name}.log" if count == 1 else f"{name}-{count}.log")

    @contextmanager
    def launching(self, part: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Hold the laboratory open while a process is started, and take it into its list.

        :param part: the part's name
        :return: the list of all processes that were started, to append to
        :raises PartError: the laboratory has been closed; a process would outlive it
        """
        with self._lock:
            if self._closed:
                raise PartError(part, "not started, the laboratory has been closed")
            yield self._children

    def close(self) -> None:
        """End all processes of the laboratory and remove its directory."""
        with self._lock:
            first = not self._closed
            self._closed = True
        if first:
            self._end()
        # The second time too: threads of a half-started laboratory may have gone on writing.
        shutil.rmtree(self.path, ignore_errors=True)

    def _end(self) -> None:
        reaper.end_laboratory(self.lab_id)
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)
        shutil.rmtree(self.path, ignore_errors=True)
        if self._reaper.stdin:
            self._reaper.stdin.close()
        self._reaper.wait(timeout=30)
        if self._reaper.stdout:
            self._reaper.stdout.close()

    def _start_reaper(self) -> subprocess.Popen[bytes]:
        # Its environment has no laboratory's id, or it would count itself among those to end.
        environment = {k: v for k, v in os.environ.items() if k != reaper.ENV_VARIABLE}
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, self.lab_id, self.path, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env=environment,
        )
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            process.kill()
            shutil.rmtree(self.path, ignore_errors=True)
            raise LabError("the reaper process did not start")
        return process
