"""Asks Airflow's own database which runs were made, where it can be reached."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from airflow_lag_provider.gaps import Runs

# So many DAGs in one query.
_AT_ONCE = 500


def runs_of(dag_ids: Collection[str], *, start: datetime, end: datetime) -> Runs:
    """Return what Airflow knows of DAGs and of their scheduled runs.

    :param start: the first instant, and `end`, before which the last one lies.
    :raises sqlalchemy.exc.SQLAlchemyError: the database can't be asked.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    paused: dict[str, bool] = {}
    states: dict[tuple[str, datetime], str] = {}
    ids = sorted(dag_ids)
    with create_session() as session:
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            known = select(DagModel.dag_id, DagModel.is_paused).where(DagModel.dag_id.in_(some))
            paused.update((dag_id, is_paused) for dag_id, is_paused in session.execute(known))
            due: Any = DagRun.data_interval_end
            runs = select(DagRun.dag_id, due, DagRun.state).where(
                DagRun.dag_id.in_(some), DagRun.run_type == "scheduled", due >= start, due < end
            )
            for dag_id, at, state in session.execute(runs):
                states[dag_id, at.astimezone(UTC)] = str(getattr(state, "value", state))
    return Runs(paused, states)
