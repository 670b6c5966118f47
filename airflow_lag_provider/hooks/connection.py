"""Airflow connections, read without blocking the event loop."""

from __future__ import annotations

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, Connection
from asgiref.sync import sync_to_async


async def airflow_connection(conn_id: str) -> Connection:
    """Return an Airflow connection.

    In ``airflow dags test`` Airflow 3.3.2 can't ask its own database asynchronously, and then says
    that a connection which is there isn't defined. So what isn't found is looked for once more, in
    a thread.

    :raises AirflowNotFoundException: there is none with this id.
    """
    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        return await sync_to_async(BaseHook.get_connection)(conn_id)
