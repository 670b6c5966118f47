"""A PostgreSQL server, Airflow's database where sqlite is too slow or can't be shared."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from lab.account import as_other_user, own
from lab.cache import require
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.workspace import Workspace

USER = "lab"
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60.0


def rows(url: str, query: str, **values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query, over a connection of its own.

    :param url: SQLAlchemy URL of the database
    :param values: those of the names that the query has with a colon
    """
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


class PostgreSQL(Part):
    """One server with one user and a password, on 127.0.0.1 alone.

    Durable as it comes: what its commits cost is part of what Airflow costs.

    :param workspace: the laboratory it belongs to
    :param name: names its log and its directory
    :param settings: further settings, which win over those made here
    :raises MissingToolError: PostgreSQL is not installed
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        name: str = "postgresql",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self._password = secrets.token_urlsafe(12)
        self._workspace = workspace
        self._directory = workspace.directory(name)
        self._data = self._directory / "data"
        self._name = name
        chosen = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self._directory),
            "max_connections": "300",
            "shared_buffers": "256MB",
            **(settings or {}),
        }
        words = [word for key, value in chosen.items() for word in ("-c", f"{key}={value}")]
        self._process = Process(
            workspace=workspace,
            name=name,
            command=[*as_other_user(), _program("postgres"), "-D", self._data, *words],
            cwd=self._directory,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy URL of a database of it."""
        return f"postgresql+psycopg2://{USER}:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start it, or start it again on its port and data; return when it takes connections.

        :raises PartError: it does not come up
        """
        if not self._data.exists():
            self._initialize()
        self._process.start()
        self._process.wait_until(
            lambda: is_listening(self.port), timeout=_START_SECONDS, what="listening"
        )

    def _initialize(self) -> None:
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(f"{self._password}\n")
        own(self._directory)
        Process(
            workspace=self._workspace,
            name=f"{self._name}-initdb",
            command=[
                *as_other_user(),
                *(_program("initdb"), "-D", self._data, "-U", USER, "--encoding=UTF8"),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--no-locale"),
            ],
            cwd=self._directory,
        ).run(timeout=_START_SECONDS)
        password.unlink()


def _program(name: str) -> str:
    """Return the path of one of the server's programs; Debian keeps them off the PATH."""
    for folder in sorted(_DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name))[::-1]:
        if (folder / name).exists():
            return str(folder / name)
    return require(name, package="postgresql")
