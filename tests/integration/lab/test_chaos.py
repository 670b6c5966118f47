"""Three minutes of the chaos run, as `make chaos` does fifteen."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lab.chaos_plan import PARTS, plan
from tests.integration.support import run_whole

pytestmark = pytest.mark.integration

MINUTES = 3
# When a minute begins the broker hangs, the triggerer is killed, Elasticsearch is killed; sshd and
# MirrorMaker have their turns in between. `make chaos` draws other ones each time.
SEED = 12435
_SECONDS = 1200


@pytest.mark.timeout(_SECONDS + 60)
def test_three_minutes_of_chaos_leave_nothing_wrong_and_nothing_unexplained(tmp_path: Path) -> None:
    """Each part is hit once; each run has its document, each offset its place, each gap its cause.

    The command ends with 0 only then.
    """
    command = [sys.executable, "-m", "lab", "chaos", "--minutes", str(MINUTES)]
    logs = ("--logs", str(tmp_path / "logs"))
    code, output = run_whole([*command, "--seed", str(SEED), *logs], seconds=_SECONDS)
    assert code == 0, f"seed {SEED}, {MINUTES} minutes:\n{output}"
    assert f"seed {SEED}: passed" in output
    faults = plan(SEED, seconds=60 * MINUTES)
    for part in PARTS:
        wanted = sum(fault.part == part for fault in faults)
        assert wanted >= 1
        assert len(re.findall(rf"  {part}: well again after", output)) == wanted
    (compared,) = re.findall(r"2\. (\d+) snapshots compared", output)
    # Thirty topics; in three minutes not all is lost.
    assert int(compared) >= 30
