"""What a load means beside settings, pools and triggerers: a few sentences each."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_lag_provider import tune_host
from airflow_lag_provider.tune_load import Load, Version

# What a triggerer of Airflow 3.3 keeps and computes for each task of the DAG of each trigger, since
# each gets a copy of its DAG: measured with 300 tasks in one DAG.
COPY_MB = 0.018
COPY_SECONDS = 0.00027
# Tasks of one DAG in the triggerer whose copies nobody notices.
FEW_COPIES = 50


def notes(load: Load, *, version: Version, socket_buffer: int | None) -> Iterator[str]:
    """Yield what else matters for a load.

    :param socket_buffer: see :func:`tune_host.socket_buffer`.
    """
    together = load.triggers_of_a_dag
    if version >= (3, 3) and together > FEW_COPIES:
        yield (
            f"Layout mirror: one DAG has {together:,} tasks in the triggerer, and Airflow gives "
            "each of their triggers a copy of the whole DAG: about "
            f"{together**2 * COPY_MB:,.0f} MB and {together**2 * COPY_SECONDS:,.0f} CPU-seconds a "
            "minute. Layouts topic and group have no such copies."
        )
    if host := tune_host.note(load, version=version, present=socket_buffer):
        yield host
    runs, tasks = load.dags * 24 * 60, load.tasks * 24 * 60
    yield (
        f"Airflow keeps every run: {runs:,} DAG runs and {tasks:,} task instances a day, each with "
        "its log file. Remove old ones, for instance each night, with `airflow db clean`."
    )
    if version < (3, 0) and load.triggerer_tasks:
        yield (
            "Each task that the triggerer ends leaves a row in the table callback_request, "
            f"{load.triggerer_tasks * 24 * 60:,} a day, which Airflow 2.11 neither reads nor "
            "removes. `airflow db clean --tables callback_request --skip-archive` does."
        )
