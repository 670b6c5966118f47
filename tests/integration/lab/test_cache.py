"""What is downloaded is fetched once, whole or not at all. A stand-in plays Maven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab import cache
from lab.errors import DownloadError, MissingToolError
from lab.workspace import REPOSITORY

pytestmark = pytest.mark.integration

_GOOD = """#!/bin/sh
echo run >> {count}
for word; do case $word in -DoutputDirectory=*) target=${{word#*=}};; esac; done
touch "$target/one.jar"; sleep 0.5; touch "$target/two.jar"
echo "Downloaded from somewhere: scheme://host/path/two.jar (3 kB at 1 MB/s)"
"""

_BAD = """#!/bin/sh
for word; do case $word in -DoutputDirectory=*) touch "${{word#*=}}/half.jar";; esac; done
echo "[ERROR] no route to the repository"; exit 1
"""


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAG_LAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    for name in ("mvn", "java"):
        (tmp_path / "bin" / name).write_text(_GOOD.format(count=tmp_path / "count"))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin" / "mvn"


def test_concurrent_starts_fetch_once_and_see_all(maven: Path, tmp_path: Path) -> None:
    """Two processes that need the jars at the same time share one download, and both get all."""
    code = "from lab.cache import *; print(len(list(kafka_libs(lambda _: None).glob('*.jar'))))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=20)[0] for process in processes] == ["2\n", "2\n"]
    assert (tmp_path / "count").read_text() == "run\n"


def test_progress_names_what_is_fetched(maven: Path) -> None:
    """The caller hears what is fetched before it waits, and each file that has arrived."""
    lines: list[str] = []
    cache.kafka_libs(lines.append)
    assert lines == ["fetching Kafka 3.9.1 (56 MB) through Maven", "  two.jar (3 kB at 1 MB/s)"]
    assert cache.kafka_libs(lines.append)
    assert len(lines) == 2


def test_a_failed_download_leaves_nothing_that_looks_whole(maven: Path, tmp_path: Path) -> None:
    """When Maven fails its last lines are in the error, and the next try starts afresh."""
    good = maven.read_text()
    maven.write_text(_BAD.format())
    with pytest.raises(DownloadError, match="no route to the repository"):
        cache.kafka_libs(lambda _: None)
    maven.write_text(good)
    libs = cache.kafka_libs(lambda _: None)
    assert sorted(path.name for path in libs.iterdir()) == ["one.jar", "two.jar"]


def test_a_missing_program_comes_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine without a program is told which Debian package has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="apt-get install maven"):
        cache.require("mvn-that-is-not-there", package="maven")
