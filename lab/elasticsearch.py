"""One Elasticsearch 8.19 node, the official distribution that Elastic uses for its own tests.

It lacks `GET /`, ES|QL, painless and some more; what the package needs is in it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.account import SYSTEM_USER, as_other_user, own
from lab.cache import Progress, elasticsearch_home, require
from lab.errors import PartError
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.workspace import Workspace

_START_SECONDS = 120.0


@dataclass(frozen=True)
class Credentials:
    """A user of Elasticsearch."""

    user: str
    password: str
    roles: tuple[str, ...] = ("superuser",)
    """Names of roles, built in or of the file that the server was given."""


class Elasticsearch(Part):
    """A single node on 127.0.0.1, plain HTTP, heap 512 MB.

    :param workspace: the laboratory it belongs to
    :param progress: told when something is fetched
    :param name: names its log and its directory
    :param users: where given, the server asks for a user and password, and these are its users; the
        first one is the laboratory's own and must be a superuser
    :param roles: text of its roles.yml
    :param settings: further lines of its elasticsearch.yml
    :raises LabError: it can't be fetched
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        progress: Progress = lambda _: None,
        name: str = "elasticsearch",
        users: tuple[Credentials, ...] = (),
        roles: str = "",
        settings: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.users = users
        self._directory = workspace.directory(name)
        self._home = self._readable_home(elasticsearch_home(progress))
        self._environment = {
            "ES_JAVA_HOME": _java_home(),
            "ES_PATH_CONF": str(self._directory / "config"),
            "ES_TMPDIR": str(self._directory / "tmp"),
            # Its launcher, too, would leave a folder in /tmp at every start.
            "CLI_JAVA_OPTS": f"-Djava.io.tmpdir={self._directory / 'tmp'}",
            "HOME": str(self._directory),
        }
        self._configure(roles, settings)
        self._as_user = as_other_user()
        self._process = Process(
            workspace=workspace,
            name=name,
            command=[*self._as_user, self._home / "bin" / "elasticsearch"],
            environment=self._environment,
            cwd=self._directory,
        )
        self._workspace = workspace
        self._has_users = False

    def connection(self, user: Credentials | None = None) -> dict[str, object]:
        """Return an Airflow connection to it, as ``AIRFLOW_CONN_*`` takes it as JSON.

        :param user: whom it logs in as; nobody by default
        """
        fields: dict[str, object] = {
            "conn_type": "elasticsearch",
            "schema": "http",
            "host": HOST,
            "port": self.port,
        }
        return fields | ({"login": user.user, "password": user.password} if user else {})

    def start(self) -> None:
        """Start it, or start it again on its port and data; return when it is healthy.

        :raises PartError: it does not come up
        """
        self._own_directory()
        if not self._has_users:
            for credentials in self.users:
                self._add_user(credentials)
            self._has_users = True
        self._process.start()
        self._process.wait_until(self._healthy, timeout=_START_SECONDS, what="healthy")

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 10) -> Any:
        """Send one request as the laboratory's own user and return the answer's JSON.

        :param path: from the slash on
        :param body: sent as JSON unless None
        :param timeout: seconds
        :raises PartError: it can't be reached, or answers with an error, which the message has
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always http, to ourselves
            self.url + path, data=data, method=method, headers=self._headers()
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
                content = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            raise PartError(self.name, f"{method} {path}: {error.code} {text}") from error
        except OSError as error:
            raise PartError(self.name, f"{method} {path}: {error}") from error
        return json.loads(content) if content else None

    def _healthy(self) -> bool:
        if not is_listening(self.port):
            return False
        try:
            health = self.request("GET", "/_cluster/health", timeout=2)
        except PartError:
            return False
        # Yellow is as well as it gets after a restart: an index's replica has no second node.
        return health["status"] in {"green", "yellow"}

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.users:
            pair = f"{self.users[0].user}:{self.users[0].password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _readable_home(self, cached: Path) -> Path:
        if os.getuid() != 0:
            return cached
        # The other user may not be able to enter the cache: /root, or somebody's home.
        home = self._directory / "home"
        shutil.copytree(cached, home)
        return home

    def _configure(self, roles: str, settings: tuple[str, ...]) -> None:
        directory = self._directory
        for part in ("data", "tmp", "logs"):
            (directory / part).mkdir()
        shutil.copytree(self._home / "config", directory / "config")
        options = directory / "config" / "jvm.options.d"
        options.mkdir(exist_ok=True)
        (options / "heap.options").write_text("-Xms512m\n-Xmx512m\n")
        if roles:
            (directory / "config" / "roles.yml").write_text(roles, encoding="utf-8")
        lines = [
            "node.name: lab",
            "discovery.type: single-node",
            f"http.host: {HOST}",
            f"transport.host: {HOST}",
            f"http.port: {self.port}",
            f"transport.port: {free_port()}",
            f"path.data: {directory / 'data'}",
            f"path.logs: {directory / 'logs'}",
            f"xpack.security.enabled: {str(bool(self.users)).lower()}",
            "xpack.security.autoconfiguration.enabled: false",
            "cluster.routing.allocation.disk.threshold_enabled: false",
            *settings,
        ]
        file = directory / "config" / "elasticsearch.yml"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _own_directory(self) -> None:
        # home/ stays root's: the server needs to read it only.
        own(*(self._directory / part for part in ("config", "data", "logs", "tmp")))
        if os.getuid() == 0:
            shutil.chown(self._directory, SYSTEM_USER, SYSTEM_USER)

    def _add_user(self, credentials: Credentials) -> None:
        process = Process(
            workspace=self._workspace,
            name=f"{self.name}-users",
            command=[
                *self._as_user,
                self._home / "bin" / "elasticsearch-users",
                *("useradd", credentials.user, "-p", credentials.password),
                *("-r", ",".join(credentials.roles)),
            ],
            environment=self._environment,
            cwd=self._directory,
        )
        process.run(timeout=60)


def _java_home() -> str:
    if home := os.environ.get("JAVA_HOME"):
        return home
    java = require("java", package="openjdk-17-jre-headless")
    return str(Path(java).resolve().parent.parent)
