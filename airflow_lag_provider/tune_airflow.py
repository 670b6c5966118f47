"""Asks Airflow's own database for pools and triggerers, where it can be reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow_lag_provider.tune_report import Inventory


def inventory() -> Inventory:
    """Return what there is now.

    :raises sqlalchemy.exc.SQLAlchemyError: it can't be asked.
    """
    from airflow.configuration import conf
    from airflow.jobs.job import Job
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    # After so long another triggerer takes over what it had.
    patience = conf.getfloat("triggerer", "triggerer_health_check_threshold")
    lately = datetime.now(UTC) - timedelta(seconds=patience)
    alive = select(func.count()).where(
        Job.job_type == "TriggererJob", Job.state == "running", Job.latest_heartbeat > lately
    )
    with create_session() as session:
        pools = session.execute(select(Pool.pool, Pool.slots)).all()
        return Inventory({str(name): slots for name, slots in pools}, session.scalar(alive) or 0)
