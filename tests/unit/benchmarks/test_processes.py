"""What a process tree costs: also what has ended by the time one looks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import Watch, own_seconds

BURN = f"{sys.executable} -S -c 'while __import__(\"time\").process_time() < 0.2: pass'"


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[str]]:
    """A shell that carries out lines, and says ``done`` after each."""
    script = 'while read -r line; do eval "$line"; echo done; done; kill $(jobs -p)'
    process = subprocess.Popen(
        ["/bin/bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.communicate(timeout=20)


def tell(shell: subprocess.Popen[str], line: str) -> None:
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{line}\n")
    shell.stdin.flush()
    assert shell.stdout.readline() == "done\n"


def test_children_that_have_ended_are_in_the_cpu_time(shell: subprocess.Popen[str]) -> None:
    """And what was spent before the watch is not."""
    tell(shell, BURN)
    with Watch(shell.pid) as watch:
        tell(shell, BURN)
    assert 0.19 <= watch.cpu_seconds < 0.39


def test_jvms_started_under_the_watch_are_counted(
    shell: subprocess.Popen[str], tmp_path: Path
) -> None:
    """One that ran before is not, nor is another program."""
    java = shutil.copy("/bin/sleep", tmp_path / "java")
    tell(shell, f"{java} 60 & sleep 60 &")
    with Watch(shell.pid) as watch:
        tell(shell, f"{java} 60 & sleep 60 &")
        deadline = time.monotonic() + 20
        while not watch.jvms and time.monotonic() < deadline:
            time.sleep(0.05)
    assert watch.jvms == 1
    assert watch.peak_mb > 0


def test_own_cpu_time_is_that_of_the_process_clock() -> None:
    """The clock read from outside is the one that the process reads itself."""
    before = time.process_time()
    assert before <= own_seconds(os.getpid()) <= time.process_time()
