"""The timetable of every DAG on Airflow 3, beside Airflow's own for the same cron expression."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pendulum
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable
from hypothesis import given
from hypothesis import strategies as st

from airflow_lag_provider.timetable import EveryMinute, TimetablePlugin, every_minute

CRON = CronTriggerTimetable("* * * * *", timezone="UTC")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu")
# Half of them on the second, a part of those on the minute, where answers change.
instants = st.builds(
    lambda at, zone: pendulum.instance(at, tz="UTC").in_timezone(zone),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).flatmap(
        lambda at: st.sampled_from(
            [at, at.replace(microsecond=0), at.replace(second=0, microsecond=0)]
        )
    ),
    st.sampled_from(ZONES),
)
since = st.none() | instants


def text(interval: DataInterval) -> tuple[str, str]:
    """Return an interval as a run's id shows it, with the offset of its time zone."""
    return interval.start.isoformat(), interval.end.isoformat()


@given(now=instants, last=since, earliest=since, latest=since, catchup=st.booleans())
def test_it_names_the_runs_that_airflows_cron_timetable_names(
    now: pendulum.DateTime,
    last: pendulum.DateTime | None,
    earliest: pendulum.DateTime | None,
    latest: pendulum.DateTime | None,
    catchup: bool,
) -> None:
    """Whatever ran last and whatever the DAG's dates are, the next run is the same."""
    interval = None if last is None else DataInterval.exact(last)
    restriction = TimeRestriction(earliest, latest, catchup)
    with patch("airflow.timetables.trigger.utcnow", return_value=now):
        ours, airflows = (
            one.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
            for one in (every_minute(), CRON)
        )
    assert ours == airflows
    if ours and airflows:
        assert text(ours.data_interval) == text(airflows.data_interval)
        assert ours.run_after.isoformat() == airflows.run_after.isoformat()


@given(at=instants)
def test_a_run_by_hand_has_the_interval_that_airflows_cron_timetable_gives_it(
    at: pendulum.DateTime,
) -> None:
    """A run by hand at any instant belongs to the same interval."""
    ours = every_minute().infer_manual_data_interval(run_after=at)
    assert text(ours) == text(CRON.infer_manual_data_interval(run_after=at))


@given(at=instants)
def test_the_minutes_around_an_instant_are_those_of_airflows_cron_timetable(
    at: pendulum.DateTime,
) -> None:
    """Also where a person gives a local time, as for a backfill."""
    for step in ("_align_to_prev", "_align_to_next", "_get_next", "_get_prev"):
        ours, airflows = (getattr(one, step)(at) for one in (every_minute(), CRON))
        assert (step, ours.isoformat()) == (step, airflows.isoformat())


def test_the_ui_shows_it_as_a_cron_expression() -> None:
    """Summary and description are those of the expression."""
    assert every_minute().summary == CRON.summary == "* * * * *"
    assert every_minute().description == CRON.description == "Every minute"


def test_what_is_read_back_is_the_one_object_of_the_process() -> None:
    """Reading a DAG's timetable makes nothing anew."""
    assert EveryMinute.deserialize(every_minute().serialize()) is every_minute()


def test_airflow_finds_it_by_the_entry_point_of_plugins() -> None:
    """The installed distribution names the plugin, and the plugin the timetable."""
    (found,) = (
        one
        for one in entry_points(group="airflow.plugins")
        if one.value.startswith("airflow_lag_provider")
    )
    assert found.load() is TimetablePlugin
    assert TimetablePlugin.timetables == [EveryMinute]


def stored_and_read(dag: Any) -> Any:
    """Return a DAG as the scheduler gets it."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG

        return LazyDeserializedDAG(data=DagSerialization.to_dict(dag))
    from airflow.serialization.serialized_objects import SerializedDAG

    return SerializedDAG.from_dict(SerializedDAG.to_dict(dag))


@pytest.mark.parametrize("intervals", ["True", "False"])
def test_airflow_stores_and_reads_a_dag_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, intervals: str
) -> None:
    """A DAG of the factory has it after Airflow's own way, also with cron data intervals.

    On 2.11 it has Airflow's own timetable of the same expression.
    """
    from airflow_lag_provider.dag_factory import build_dags

    monkeypatch.setenv("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS", intervals)
    file = tmp_path / "mirrors.yaml"
    file.write_text(
        "mirrors:\n  oasis:\n    ssh_conn_id: mirrormaker\n    bootstrap_servers: [source:9092]\n"
        "    group: oasis-group\n    topics: {orders: }\n"
    )
    (dag,) = build_dags(file).values()
    stored = stored_and_read(dag)
    assert stored.timetable.summary == "* * * * *"
    if not AIRFLOW_V_3_0_PLUS:
        assert not isinstance(stored.timetable, EveryMinute)
        return
    assert stored.timetable is every_minute()
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert stored.timetable.next_dagrun_info(
        last_automated_data_interval=DataInterval.exact(pendulum.instance(at)),
        restriction=TimeRestriction(None, None, True),
    ).logical_date == at.replace(minute=1)
