"""The demo keeps what it promises, and Ctrl-C ends it without a trace."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab import reaper
from lab.mirrormaker import TOPICS
from lab.workspace import REPOSITORY
from tests.integration.support import run_whole

pytestmark = pytest.mark.integration

_CHECK_SECONDS = 800


@pytest.mark.timeout(_CHECK_SECONDS + 60)
def test_make_demo_with_check_sees_everything_and_ends_0() -> None:
    """Right snapshots each minute, a lag that rises without MirrorMaker, exit code 0."""
    # The environment in which this test runs must not be made anew under its feet.
    command = ["make", "--old-file=.venv/.ready", "demo", "CHECK=1"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    code, output = run_whole(command, seconds=_CHECK_SECONDS, environment=environment)
    assert code == 0
    assert "pool lag_oasis with 10 slots is made" in output
    for topic in TOPICS:
        assert f"{topic}: 3 successive snapshots" in output
        assert f"{topic}: the lag rises" in output


@pytest.mark.parametrize(("sight", "code"), [("Kafka broker source: up", 130), ("none yet", 0)])
def test_ctrl_c_in_a_terminal_leaves_nothing_behind(sight: str, code: int) -> None:
    """Ctrl-C, while it starts or when the table is there, ends every process and all files."""
    terminal, end = pty.openpty()
    # The terminal must be its own for Ctrl-C to become a signal.
    claim = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    become = "import sys; os.execv(sys.executable, [sys.executable, '-m', 'lab.demo'])"
    process = subprocess.Popen(
        [sys.executable, "-c", claim + become],
        cwd=REPOSITORY,
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(end)
    try:
        shown = _read(terminal, until=sight, seconds=200)
        assert sight in shown, shown
        lab_id, directory = _laboratory_of(process.pid)
        assert len(reaper.members(lab_id)) >= 2
        os.write(terminal, b"\x03")
        shown = _read(terminal, until=None, seconds=40)
        assert process.wait(timeout=5) == code
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert shown.splitlines()[-1].endswith("All of it is stopped.")
    assert "Traceback" not in shown
    assert not reaper.members(lab_id)
    assert not directory.exists()


def _laboratory_of(pid: int) -> tuple[str, Path]:
    """Return the id and the directory of the laboratory that a process holds."""
    for child in psutil.Process(pid).children():
        words = child.cmdline()
        if str(reaper.__file__) in words:
            return words[-3], Path(words[-2])
    raise AssertionError("the demo has no laboratory")


def _read(terminal: int, *, until: str | None, seconds: float) -> str:
    """Return what a terminal shows until a text comes, or its program ends, or time is up."""
    shown = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not (until and until.encode() in shown):
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:
                # What Linux says when nobody has the other end open any more.
                break
    return shown.decode(errors="replace")
