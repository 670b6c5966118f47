"""The parts that are downloaded once: Kafka's jars and Elasticsearch, through Maven.

They lie in ``.lab/cache`` of the repository, or where LAG_LAB_CACHE says. A folder of the cache is
made under another name and then renamed, so what is there is whole, also after a crash.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import DownloadError, MissingToolError
from lab.workspace import REPOSITORY

KAFKA_VERSION = "3.9.1"
"""Version of the brokers, MirrorMaker and the tools; lab/pom.xml holds the same.

Some tests fetch further ones.
"""

ELASTICSEARCH_VERSION = "8.19.21"
"""Version of the server; lab/pom.xml holds the same."""

Progress = Callable[[str], None]
"""Takes one line for a person who waits."""

_POM = Path(__file__).with_name("pom.xml")
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
_ELASTICSEARCH = "org.elasticsearch.distribution.integ-test-zip:elasticsearch"


def cache_directory() -> Path:
    """Return the directory of the cache."""
    return Path(os.environ.get("LAG_LAB_CACHE") or REPOSITORY / ".lab" / "cache").resolve()


def kafka_libs(progress: Progress, version: str = KAFKA_VERSION) -> Path:
    """Return the folder that holds Kafka's jars, fetched if need be.

    :param version: of Kafka
    :raises MissingToolError: Java or Maven is not there
    :raises DownloadError: Maven could not fetch them
    """

    def fetch(target: Path) -> None:
        copy = [f"{PLUGIN}:copy-dependencies", f"-DoutputDirectory={target}"]
        maven(
            f"Kafka {version} (56 MB)",
            ["-f", str(_POM), *copy, f"-Dkafka.version={version}"],
            progress,
        )

    return cached(f"kafka-{version}", fetch)


def elasticsearch_home(progress: Progress) -> Path:
    """Return the folder of an unpacked Elasticsearch, fetched if need be.

    :raises MissingToolError: Java or Maven is not there
    :raises DownloadError: Maven could not fetch it
    """
    version = ELASTICSEARCH_VERSION

    def fetch(target: Path) -> None:
        artifact = f"-Dartifact={_ELASTICSEARCH}:{version}:zip"
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            maven(
                f"Elasticsearch {version} (107 MB)",
                [
                    f"{PLUGIN}:copy",
                    artifact,
                    f"-DoutputDirectory={folder}",
                    "-Dmdep.useBaseVersion",
                ],
                progress,
            )
            progress(f"unpacking Elasticsearch {version}")
            _unzip(next(Path(folder).glob("*.zip")), target)

    return cached(f"elasticsearch-{version}", fetch)


def fetch_all(progress: Progress) -> None:
    """Fetch everything that the laboratory downloads and that the cache lacks.

    :raises LabError: as the functions above
    """
    kafka_libs(progress)
    elasticsearch_home(progress)


def require(program: str, *, package: str) -> str:
    """Return the path of a program of this machine.

    :param program: its name
    :param package: the Debian package that has it
    :raises MissingToolError: it is not there
    """
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise MissingToolError(
            f"{program} is not on this machine; install it: apt-get install {package}"
        )
    return path


def cached(name: str, fetch: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, filled once by ``fetch``, also when many ask at once."""
    cache = cache_directory()
    target = cache / name
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    with _lock(cache / f".{name}.lock"):
        if not target.is_dir():
            unfinished = cache / f".{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            fetch(unfinished)
            unfinished.rename(target)
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def maven(what: str, arguments: list[str], progress: Progress) -> None:
    """Run Maven and tell what it fetches.

    :param what: what it is for, in words
    :raises MissingToolError: Java or Maven is not installed
    :raises DownloadError: Maven failed
    """
    require("java", package="openjdk-17-jre-headless")
    maven = require("mvn", package="maven")
    progress(f"fetching {what} through Maven")
    last: list[str] = []
    with subprocess.Popen(
        [maven, "-B", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last = [*last[-19:], line.rstrip()]
            if name := _fetched(line):
                progress(f"  {name}")
    if process.returncode:
        raise DownloadError("\n".join([f"Maven could not fetch {what}:", *last]))


def _fetched(line: str) -> str | None:
    # Maven's lines are "Downloaded from central: <address>/<name> (<size> at <speed>)".
    if not line.startswith("Downloaded from") or ".pom " in line:
        return None
    address, _, size = line.partition(": ")[2].partition(" (")
    return f"{address.rpartition('/')[2]} ({size.strip().rstrip(')')})"


def _unzip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            # All lies in one folder that is named after the version; the cache has its own name.
            inner = info.filename.partition("/")[2]
            if not inner:
                continue
            path = target / inner
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with content.open(info) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            # zipfile forgets the permissions, and Elasticsearch's scripts must be executable. For
            # its configuration it has some that shut out every other user of the cache.
            path.chmod((info.external_attr >> 16 & 0o777) | 0o644)
