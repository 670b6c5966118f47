"""A Redis server, through which Airflow's schedulers hand tasks to Celery workers."""

from __future__ import annotations

import secrets

from lab.cache import require
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.workspace import Workspace

_START_SECONDS = 20.0


class Redis(Part):
    """One server with a password, on 127.0.0.1 alone, that writes nothing to disk.

    :param workspace: the laboratory it belongs to
    :param name: names its log and its directory
    :raises MissingToolError: Redis is not installed
    """

    def __init__(self, *, workspace: Workspace, name: str = "redis") -> None:
        self.port = free_port()
        self._password = secrets.token_urlsafe(12)
        directory = workspace.secrets / name
        directory.mkdir()
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "requirepass": self._password,
            "dir": str(directory),
            "save": '""',
            "appendonly": "no",
            # It would overwrite its environment, and the laboratory's id with it.
            "set-proc-title": "no",
        }
        # In a file, because everybody may read a command line.
        file = directory / "redis.conf"
        file.touch(mode=0o600)
        file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self._process = Process(
            workspace=workspace,
            name=name,
            command=[require("redis-server", package="redis-server"), file],
            cwd=directory,
        )

    def url(self, database: int = 0) -> str:
        """Return the URL of a database of it, as Celery takes it."""
        return f"redis://:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, or start it again, empty, on its port; return when it takes connections.

        :raises PartError: it does not come up
        """
        self._process.start()
        self._process.wait_until(
            lambda: is_listening(self.port), timeout=_START_SECONDS, what="listening"
        )
