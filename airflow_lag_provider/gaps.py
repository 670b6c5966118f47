"""Which minutes of which topics have no snapshot, and what is known of why. Pure.

Documents carry the instant their run was due (``airflow.scheduled_at``), so a minute for which
Airflow made no run shows as an instant without a document. Runs that somebody started by hand,
backfills and tests don't count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Literal

MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What has one document at each instant."""

    mirror: str
    topic: str


@dataclass(slots=True)
class Seen:
    """What the documents of one series say.

    :param dag_id: the DAG that writes them; ``None`` when that isn't known.
    :param outcomes: by scheduled instant, ``None`` for a snapshot or the failure's ``error.type``.
    :param before: whether there are documents before the time that is looked at.
    :param every_minute: whether it is due at each instant; else nothing is a gap, since nobody
        knows when it is.
    """

    dag_id: str | None = None
    outcomes: dict[datetime, str | None] = field(default_factory=dict)
    before: bool = False
    every_minute: bool = True


@dataclass(frozen=True, slots=True)
class Runs:
    """What Airflow knows of the DAGs that write the documents.

    :param paused: by DAG, whether it is paused now; DAGs that Airflow doesn't know are missing.
    :param states: by DAG and instant, the state of its scheduled run.
    """

    paused: Mapping[str, bool]
    states: Mapping[tuple[str, datetime], str]


@dataclass(frozen=True, slots=True)
class Missing:
    """Instants in a row without a snapshot, for one reason.

    :param kind: ``gap``: there is no document; ``failure``: there is one that says why.
    :param first: the first of the instants.
    :param last: the last of them.
    :param instants: how many.
    :param reason: of a failure its ``error.type``; of a gap what is known.
    """

    mirror: str
    topic: str
    kind: Literal["gap", "failure"]
    first: datetime
    last: datetime
    instants: int
    reason: str


def instants(start: datetime, end: datetime, interval: timedelta = MINUTE) -> Iterator[datetime]:
    """Yield the instants that are due from `start` on and before `end`."""
    steps = -((_EPOCH - start) // interval)
    at = _EPOCH + steps * interval
    while at < end:
        yield at
        at += interval


def missing(
    seen: Mapping[Series, Seen],
    *,
    start: datetime,
    end: datetime,
    interval: timedelta = MINUTE,
    runs: Runs | None = None,
) -> tuple[Missing, ...]:
    """Return what has no snapshot from `start` on and before `end`.

    A series whose documents begin within this time is looked at from its first document on; one
    without any document, which the configuration names, all the time.

    :param seen: all series, those without documents too.
    :param interval: time between two instants.
    :param runs: what Airflow knows; ``None`` when it was not asked.
    :return: sorted by mirror, topic and time.
    """
    due = tuple(instants(start, end, interval))
    witnesses = _Witnesses(seen)
    found: list[Missing] = []
    for series, one in sorted(seen.items()):
        begin = min(one.outcomes) if one.outcomes and not one.before else start
        lacking = [
            (number, at, *_why(series, one, at, witnesses, runs))
            for number, at in enumerate(due if one.every_minute else sorted(one.outcomes))
            if at >= begin and one.outcomes.get(at, "") is not None
        ]
        # In a row: the number grows with the place in the list.
        for _, row in groupby(enumerate(lacking), key=lambda it: (it[1][0] - it[0], *it[1][2:])):
            rows = [item for _, item in row]
            (_, first, kind, reason), (_, last, *_) = rows[0], rows[-1]
            found.append(Missing(series.mirror, series.topic, kind, first, last, len(rows), reason))
    return tuple(found)


class _Witnesses:
    """Which instants other series have documents of."""

    def __init__(self, seen: Mapping[Series, Seen]) -> None:
        self.series = len(seen)
        self.everywhere: set[datetime] = set()
        self.by_mirror: dict[str, set[datetime]] = {}
        for series, one in seen.items():
            self.everywhere |= one.outcomes.keys()
            self.by_mirror.setdefault(series.mirror, set()).update(one.outcomes)

    def word(self, mirror: str, at: datetime) -> str | None:
        """Return what the other series' documents tell of an instant without one."""
        if self.series == 1:
            return None
        if at not in self.everywhere:
            return "no topic has a document: Airflow or Elasticsearch was away"
        if at not in self.by_mirror[mirror]:
            return "other mirrors have documents"
        return "other topics of the mirror have documents"


def _why(
    series: Series, one: Seen, at: datetime, witnesses: _Witnesses, runs: Runs | None
) -> tuple[Literal["gap", "failure"], str]:
    error = one.outcomes.get(at)
    if error is not None:
        return "failure", error
    words = (_airflows_word(one.dag_id, at, runs), witnesses.word(series.mirror, at))
    return "gap", "; ".join(word for word in words if word) or "no document"


def _airflows_word(dag_id: str | None, at: datetime, runs: Runs | None) -> str | None:
    if runs is None or dag_id is None:
        return None
    if state := runs.states.get((dag_id, at)):
        return f"its run is {state}, without a document"
    if dag_id not in runs.paused:
        return "no run, and Airflow no longer knows the DAG"
    return "no run, and the DAG is paused now" if runs.paused[dag_id] else "no run was made"
