"""What the benchmarks read in the logs of Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.watching import blocked_at
from lab.errors import LabError

SAID = "Triggerer's async thread was blocked for 0.28 seconds, likely by a badly-written trigger."
OLD = f"[2026-11-29T09:32:14.007+0000] {{triggerer_job_runner.py:605}} INFO - {SAID}"
NEW = f"2026-11-29T12:59:03.730917Z [info     ] {SAID} [airflow.jobs] loc=runner.py:1046"


def test_each_line_on_a_loop_that_stood_still_is_found(tmp_path: Path) -> None:
    """Airflow 2.11 and 3.3 write its time in front, in forms of their own."""
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.write_text(f"something else\n{OLD}\n")
    new.write_text(f"{NEW}\n")
    assert blocked_at([old, new]) == [
        datetime(2026, 11, 29, 9, 32, 14, tzinfo=UTC),
        datetime(2026, 11, 29, 12, 59, 3, tzinfo=UTC),
    ]


def test_a_line_without_its_time_is_not_left_out(tmp_path: Path) -> None:
    """A log in another form would look like a loop that never stood still."""
    log = tmp_path / "triggerer.log"
    log.write_text(f"{NEW}\n{SAID}\n")
    with pytest.raises(LabError, match="has no time"):
        blocked_at([log])
