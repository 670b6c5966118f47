"""An Elasticsearch 8.19 node, the official distribution that Elastic uses for its own tests.

It lacks `GET /`, ES|QL, painless and some more; what the package needs is in it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.account import SYSTEM_USER, as_other_user, own
from lab.cache import Progress, elasticsearch_home, require
from lab.certificates import Certificates, make_certificates
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
    """A node on 127.0.0.1, heap 512 MB.

    :param workspace: the laboratory it belongs to
    :param progress: told when something is fetched
    :param name: names its log and its directory
    :param users: where given, the server asks for a user and password, and these are its users; the
        first one is the laboratory's own and must be a superuser
    :param roles: text of its roles.yml
    :param settings: further lines of its elasticsearch.yml
    :param tls: whether it takes HTTPS only, with `certificates` of its own; it needs users then
    :param modules: folders of further modules
    :param members: the nodes of its cluster, itself among them, with their transport ports by name;
        by default it is alone
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
        tls: bool = False,
        modules: Sequence[Path] = (),
        members: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.scheme = "https" if tls else "http"
        self.url = f"{self.scheme}://{HOST}:{self.port}"
        self.users = users
        self.certificates: Certificates | None = None
        self._directory = workspace.directory(name)
        self._home = self._readable_home(elasticsearch_home(progress), workspace, modules)
        self._environment = {
            "ES_JAVA_HOME": _java_home(),
            "ES_PATH_CONF": str(self._directory / "config"),
            "ES_TMPDIR": str(self._directory / "tmp"),
            # Its launcher, too, would leave a folder in /tmp at every start.
            "CLI_JAVA_OPTS": f"-Djava.io.tmpdir={self._directory / 'tmp'}",
            "HOME": str(self._directory),
        }
        self._configure(roles, (*_cluster_settings(name, members), *settings), tls=tls)
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

        With TLS it lacks the CA, which only a file of `certificates` has.

        :param user: whom it logs in as; nobody by default
        """
        fields: dict[str, object] = {
            "conn_type": "elasticsearch",
            "schema": self.scheme,
            "host": HOST,
            "port": self.port,
        }
        return fields | ({"login": user.user, "password": user.password} if user else {})

    def start(self) -> None:
        """Start it, or start it again on its port and data; return when it is healthy.

        :raises PartError: it does not come up
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it and return at once; a cluster needs most of its nodes before one is healthy."""
        self._own_directory()
        if not self._has_users:
            for credentials in self.users:
                self._add_user(credentials)
            self._has_users = True
        self._process.start()

    def wait(self) -> None:
        """Return when it is healthy.

        :raises PartError: it does not come up
        """
        self._process.wait_until(self._healthy, timeout=_START_SECONDS, what="healthy")

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 10) -> Any:
        """Send one request as the laboratory's own user and return the answer's JSON.

        :param path: from the slash on
        :param body: sent as JSON unless None
        :param timeout: seconds
        :raises PartError: it can't be reached, or answers with an error, which the message has
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always http or https, to ourselves
            self.url + path, data=data, method=method, headers=self._headers()
        )
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=timeout, context=self._trust()
            ) as answer:
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

    def _trust(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        return ssl.create_default_context(cafile=self.certificates.authority)

    def _readable_home(self, cached: Path, workspace: Workspace, modules: Sequence[Path]) -> Path:
        if os.getuid() != 0 and not modules:
            return cached
        # The other user may not be able to enter the cache: /root, or somebody's home.
        home = self._directory / "home" if modules else workspace.path / "elasticsearch-home"
        if not home.exists():
            shutil.copytree(cached, home)
        for module in modules:
            shutil.copytree(module, home / "modules" / module.name)
        return home

    def _configure(self, roles: str, settings: tuple[str, ...], *, tls: bool) -> None:
        directory = self._directory
        for part in ("data", "tmp", "logs"):
            (directory / part).mkdir()
        shutil.copytree(self._home / "config", directory / "config")
        options = directory / "config" / "jvm.options.d"
        options.mkdir(exist_ok=True)
        (options / "heap.options").write_text("-Xms512m\n-Xmx512m\n")
        if roles:
            (directory / "config" / "roles.yml").write_text(roles, encoding="utf-8")
        if tls:
            self.certificates = made = make_certificates(directory / "config" / "certificates")
            settings = (
                "xpack.security.http.ssl.enabled: true",
                f"xpack.security.http.ssl.certificate: {made.certificate}",
                f"xpack.security.http.ssl.key: {made.key}",
                f"xpack.security.http.ssl.certificate_authorities: {made.authority}",
                *settings,
            )
        lines = [
            f"node.name: {self.name}",
            f"http.host: {HOST}",
            f"transport.host: {HOST}",
            f"http.port: {self.port}",
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


def _cluster_settings(name: str, members: Mapping[str, int] | None) -> tuple[str, ...]:
    if members is None:
        return ("discovery.type: single-node", f"transport.port: {free_port()}")
    hosts = [f"{HOST}:{port}" for port in members.values()]
    return (
        f"discovery.seed_hosts: {json.dumps(hosts)}",
        f"cluster.initial_master_nodes: {json.dumps(list(members))}",
        f"transport.port: {members[name]}",
    )


def _java_home() -> str:
    if home := os.environ.get("JAVA_HOME"):
        return home
    java = require("java", package="openjdk-17-jre-headless")
    return str(Path(java).resolve().parent.parent)
