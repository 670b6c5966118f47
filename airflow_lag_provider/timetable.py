"""The schedule of every DAG on Airflow 3: each minute, as cron ``* * * * *`` in UTC has it.

Airflow reads a DAG's timetable about a dozen times while it stores the DAG. That of a cron
expression is made anew each time, with its description in words, and for hundreds of DAGs that is
nearly half of storing them; so here all DAGs of a process share one object.

Airflow accepts a timetable only from a plugin: the entry point ``airflow.plugins`` names it. (It
reads the plugins that ``get_provider_info`` could name only without ``lazy_load_providers``.)
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.trigger import CronTriggerTimetable

if TYPE_CHECKING:
    from pendulum import DateTime

_MINUTE = timedelta(minutes=1)


class EveryMinute(CronTriggerTimetable):
    """A run at the start of each minute, which is its logical date and both ends of its interval.

    It answers what :class:`airflow.timetables.trigger.CronTriggerTimetable` does, also where
    Airflow is set to ``create_cron_data_intervals``.
    """

    def __init__(self) -> None:
        super().__init__("* * * * *", timezone="UTC")

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> EveryMinute:
        """Return the process's own timetable; there is nothing to read."""
        return every_minute()

    def serialize(self) -> dict[str, Any]:
        """Return nothing: every one is the same."""
        return {}

    # A minute needs no cron expression to be worked out. As there, an instant that starts one stays
    # as it is, whatever its time zone, and all others are UTC.
    def _align_to_prev(self, current: DateTime) -> DateTime:
        start = _minute_of(current)
        return current if start == current else start

    def _align_to_next(self, current: DateTime) -> DateTime:
        start = _minute_of(current)
        return current if start == current else start + _MINUTE

    def _get_next(self, current: DateTime) -> DateTime:
        return _minute_of(current) + _MINUTE

    def _get_prev(self, current: DateTime) -> DateTime:
        start = _minute_of(current)
        return start - _MINUTE if start == current else start


def _minute_of(current: DateTime) -> DateTime:
    """Return the start of the minute that an instant is in, in UTC."""
    return current.in_timezone("UTC").replace(second=0, microsecond=0)


@cache
def every_minute() -> EveryMinute:
    """Return the timetable that all DAGs of this process share."""
    return EveryMinute()


class TimetablePlugin(AirflowPlugin):
    """What makes Airflow accept the timetable."""

    name = "airflow-lag-provider"
    timetables: list[Any] = [EveryMinute]  # noqa: RUF012  # as Airflow declares it
