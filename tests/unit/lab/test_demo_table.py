"""The demo's table says what the newest documents say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from lab.demo_index import Newest
from lab.demo_table import Row, render, rows, state

NOW = datetime(2026, 11, 22, 13, 36, 10, tzinfo=UTC)

SUCCESS: dict[str, Any] = {
    "@timestamp": "2026-11-22T13:35:04+00:00",
    "lag": {"total": 12_345, "max": 900, "max_partition": 5},
    "event": {"outcome": "success"},
    "airflow": {"run_id": "first", "scheduled_at": "2026-11-22T13:35:00+00:00"},
}
FAILURE: dict[str, Any] = {
    "@timestamp": "2026-11-22T13:36:07+00:00",
    "event": {"outcome": "failure"},
    "error": {"type": "SSHUnreachable", "message": "No."},
    "airflow": {"run_id": "second", "scheduled_at": "2026-11-22T13:36:00+00:00"},
}


def only(newest: Newest, now: datetime = NOW) -> Row:
    (row,) = rows(["orders"], {"orders": newest}, now)
    return row


def test_a_topic_without_documents_has_a_row() -> None:
    """Before its first run a topic is in the table, with nothing to say."""
    (row,) = rows(["orders"], {}, NOW)
    assert row == Row("orders", "–", "–", "–", "none yet")


def test_a_snapshot_shows_its_lag_worst_partition_and_age() -> None:
    """Lag, worst partition and age are the newest snapshot's."""
    assert only(Newest(SUCCESS, SUCCESS)) == Row(
        "orders", "12,345", "5: 900", "66 s", "13:35 success"
    )


def test_a_failure_leaves_the_last_snapshot_and_its_age() -> None:
    """After a failure the age is still that of the last snapshot, the outcome the last run's."""
    row = only(Newest(FAILURE, SUCCESS))
    assert (row.lag, row.age, row.outcome) == ("12,345", "66 s", "13:36 failure: SSHUnreachable")
    assert row.failed
    assert not row.late


def test_a_failure_before_the_first_snapshot_is_shown() -> None:
    """A topic whose runs all failed has an outcome, and no figures."""
    assert only(Newest(FAILURE)) == Row(
        "orders", "–", "–", "–", "13:36 failure: SSHUnreachable", failed=True
    )


def test_a_snapshot_that_is_older_than_its_minute_is_late() -> None:
    """A snapshot of more than a minute and a half ago stands out."""
    assert only(Newest(SUCCESS, SUCCESS), NOW.replace(minute=37)).late


def test_a_lag_that_nobody_knows_is_not_shown_as_zero() -> None:
    """A topic without any committed offset has a lag that isn't known."""
    unknown = SUCCESS | {"lag": {"total": None, "max": None, "max_partition": None}}
    row = only(Newest(unknown, unknown))
    assert (row.lag, row.worst) == ("not known", "–")


def test_the_state_changes_with_each_run_and_outcome() -> None:
    """A new run and a better outcome of the same run are changes, the mere time is not."""
    states = {
        state({}),
        state({"orders": Newest(SUCCESS, SUCCESS)}),
        state({"orders": Newest(FAILURE, SUCCESS)}),
        state({"orders": Newest(SUCCESS | {"airflow": FAILURE["airflow"]}, SUCCESS)}),
    }
    assert len(states) == 4


def test_the_table_is_readable_without_a_terminal() -> None:
    """Without a terminal each topic is a line of plain text."""
    console = Console(width=100, force_terminal=False, record=True, quiet=False)
    with console.capture() as capture:
        console.print(render([only(Newest(FAILURE, SUCCESS))]))
    line = next(line for line in capture.get().splitlines() if "orders" in line)
    assert line.split() == [
        *("orders", "12,345", "5:", "900", "66", "s", "13:36", "failure:", "SSHUnreachable")
    ]
