"""Airflow connections, read without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, Connection
from asgiref.sync import sync_to_async

from airflow_lag_provider.errors import LagError


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


@asynccontextmanager
async def handed_out(kind: type[LagError], what: str, seconds: float) -> AsyncIterator[None]:
    """Limit how long Airflow may take to hand out a connection that is read in here.

    :param kind: the error where it did not.
    :param what: names the connection, such as ``SSH connection 'mm'``.
    :raises LagError: of that kind, with the reason.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except OSError as error:
        late = isinstance(error, TimeoutError)
        reason = f"not within {seconds:g} s" if late else str(error).strip().rstrip(".")
        raise kind(
            f"Airflow did not hand out the {what}: {reason or type(error).__name__}."
        ) from error
