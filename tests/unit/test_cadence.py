"""When the next minute's work is known in advance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_lag_provider.cadence import MINUTE, Cadence

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)


def test_two_minutes_in_a_row_tell_the_third() -> None:
    """The first who asks in the second minute learns when the third is due, the others nothing."""
    cadence = Cadence()
    assert cadence.next_due("lane", DUE) is None
    assert cadence.next_due("lane", DUE + MINUTE) == DUE + 2 * MINUTE
    assert cadence.next_due("lane", DUE + MINUTE) is None
    assert cadence.next_due("lane", DUE + 2 * MINUTE) == DUE + 3 * MINUTE


def test_another_rhythm_is_not_followed() -> None:
    """A schedule of five minutes, or a gap, promises nothing for the next minute."""
    cadence = Cadence()
    for n in range(4):
        assert cadence.next_due("lane", DUE + 5 * n * MINUTE) is None


def test_a_late_caller_of_an_earlier_minute_changes_nothing() -> None:
    """It neither begins work again nor breaks the rhythm."""
    cadence = Cadence()
    cadence.next_due("lane", DUE)
    cadence.next_due("lane", DUE + MINUTE)
    assert cadence.next_due("lane", DUE) is None
    assert cadence.next_due("lane", DUE + 2 * MINUTE) == DUE + 3 * MINUTE


def test_lanes_have_rhythms_of_their_own_and_old_ones_are_forgotten() -> None:
    """A lane that nobody asks for any more takes no place after an hour."""
    cadence = Cadence()
    cadence.next_due("old", DUE)
    assert cadence.next_due("new", DUE + MINUTE) is None
    cadence.next_due("new", DUE + timedelta(hours=1))
    assert list(cadence._last) == ["new"]
