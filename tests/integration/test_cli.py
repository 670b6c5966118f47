"""The commands as users type them, in an Airflow home of their own. They need no laboratory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.support import BINS

pytestmark = pytest.mark.integration

MIRRORS = """
mirrors:
  oasis: {bootstrap_servers: ["b:9092"], group: g, topics: {orders: , payments: }}
"""


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"AIRFLOW_HOME": str(home)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mirrors.yaml").write_text(MIRRORS)
    return tmp_path


@pytest.mark.parametrize("version", BINS)
def test_the_console_script_prints_nothing_but_the_lines(home: Path, version: str) -> None:
    """On both versions stdout can be kept as an environment file."""
    ended = run(home, f"{BINS[version]}/airflow-lag", "tune", "--env")
    assert ended.returncode == 0, ended.stderr
    for line in ended.stdout.splitlines():
        assert line == "" or line.startswith(("# ", "AIRFLOW__")), line
    assert str(home / "include" / "mirrors.yaml") in ended.stdout


@pytest.mark.parametrize("version", BINS)
def test_pools_and_triggerers_are_shown_as_they_are(home: Path, version: str) -> None:
    """Airflow's database is asked; where it can't be, the advice is printed all the same."""
    file = home / "include" / "mirrors.yaml"
    file.write_text(MIRRORS.replace("group: g", "group: g, deferrable: false"))
    before = run(home, f"{BINS[version]}/airflow-lag", "tune")
    assert before.returncode == 0, before.stderr
    unknown = "Now: not known, Airflow's database could not be asked (OperationalError)."
    assert unknown in before.stdout
    for words in (("db", "migrate"), ("pools", "set", "lag_oasis", "3", "Lag")):
        done = run(home, f"{BINS[version]}/airflow", *words)
        assert done.returncode == 0, done.stderr
    assert "Now: 3 slots." in run(home, f"{BINS[version]}/airflow-lag", "tune").stdout
    file.write_text(MIRRORS)
    assert "Running now: 0." in run(home, f"{BINS[version]}/airflow-lag", "tune").stdout


def test_airflows_own_command_has_it(home: Path) -> None:
    """On Airflow 3.3 `airflow lag tune` prints the same as `airflow-lag tune`."""
    by_airflow = run(home, f"{BINS['3.3']}/airflow", "lag", "tune")
    assert by_airflow.returncode == 0, by_airflow.stderr
    assert "(2 in the triggerer alone, 0 on workers)" in by_airflow.stdout
    assert by_airflow.stdout == run(home, f"{BINS['3.3']}/airflow-lag", "tune").stdout


@pytest.mark.parametrize(
    "words", [("3.3", "airflow", "lag"), ("3.3", "airflow-lag"), ("2.11", "airflow-lag")]
)
def test_mistakes_end_with_1_and_no_traceback(home: Path, words: tuple[str, ...]) -> None:
    """The configuration's mistakes stand on stderr, and only they."""
    (home / "include" / "mirrors.yaml").write_text(MIRRORS.replace("group: g", "gruop: g"))
    version, program, *rest = words
    ended = run(home, f"{BINS[version]}/{program}", *rest, "tune")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert (
        "mirrors.yaml:3: mirrors.oasis.gruop: is not a known key; did you mean group?"
        in ended.stderr
    )
    assert "Traceback" not in ended.stderr
