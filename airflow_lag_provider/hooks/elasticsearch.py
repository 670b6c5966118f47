"""Writes documents to Elasticsearch, asynchronously, so that worker and triggerer share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.connection import get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowException, BaseHook
from elasticsearch import AsyncElasticsearch

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    ElasticsearchConnectionInvalid,
    ElasticsearchConnectionNotRead,
    LagError,
    StoreError,
)
from airflow_lag_provider.hooks.connection import airflow_connection, handed_out
from airflow_lag_provider.hooks.elasticsearch_client import (
    ConnectionSettings,
    NegotiatingTransport,
    connection_settings,
    quiet_client,
)
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.task_log import told

__all__ = ["Document", "LagElasticsearchHook"]

DEFAULT_INDEX = "consumer_lag"
# How long Airflow may take to hand out the connection, seconds.
READ_SECONDS = 5.0


class LagElasticsearchHook(BaseHook):
    """Elasticsearch behind an Airflow connection of the type ``elasticsearch``.

    Uses the connection's host (several with commas, or ``hosts`` in the extra), port (9200),
    schema (``http`` or ``https``), login and password, and of the extra ``hosts``, ``api_key``,
    ``ca_certs``, ``verify_certs`` and ``request_timeout`` (seconds, 5).

    Clients of version 8 and 9 talk to servers of version 8 and 9, in every combination.

    :param elasticsearch_conn_id: id of the Airflow connection.
    :param index: index that documents are written to.
    :param mapping: path of the body new indices are created with; the package's own by default.
    """

    conn_name_attr = "elasticsearch_conn_id"
    default_conn_name = "elasticsearch_default"
    conn_type = "elasticsearch"
    hook_name = "Elasticsearch (consumer lag)"

    def __init__(
        self,
        *,
        elasticsearch_conn_id: str = default_conn_name,
        index: str = DEFAULT_INDEX,
        mapping: Path | None = None,
    ) -> None:
        super().__init__()
        self.elasticsearch_conn_id = elasticsearch_conn_id
        self.index = index
        self._mapping = mapping

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open a client for the connection as it is now, and close it in the end.

        The limit of each call is three times ``request_timeout``: a request and its two
        repetitions.

        :raises ElasticsearchConnectionInvalid: the connection is missing or not usable.
        :raises ElasticsearchConnectionNotRead: Airflow does not say what is in it.
        """
        quiet_client()
        settings = await self._settings()
        where = f"connection {self.elasticsearch_conn_id} ({', '.join(settings.hosts)})"
        try:
            # In a thread, because it reads the file of certificates.
            client = await asyncio.to_thread(
                partial(
                    AsyncElasticsearch,
                    **settings.client_arguments(),
                    transport_class=NegotiatingTransport,
                )
            )
        except (ValueError, OSError) as error:
            raise ElasticsearchConnectionInvalid(f"In {where}: {error}.") from error
        try:
            yield Session(
                client,
                index=self.index,
                mapping=self._mapping,
                where=where,
                seconds=3 * settings.request_timeout,
            )
        finally:
            await client.close()

    async def _settings(self) -> ConnectionSettings:
        """Read the Airflow connection."""
        conn_id = self.elasticsearch_conn_id
        what = f"Elasticsearch connection {conn_id!r}"
        try:
            async with handed_out(ElasticsearchConnectionNotRead, what, READ_SECONDS):
                connection = await airflow_connection(conn_id)
                extra = await get_async_extra_dejson(connection)
        except AirflowException as error:
            raise ElasticsearchConnectionInvalid(
                f"There is no connection {conn_id!r}: {error}."
            ) from error
        settings = connection_settings(
            conn_id=conn_id,
            host=connection.host,
            port=connection.port,
            scheme=connection.schema,
            login=connection.login,
            password=connection.password,
            extra=extra,
        )
        if settings.unused_extras:
            await told(
                self.log.warning,
                "Connection %s: extra %s is not used by %s.",
                conn_id,
                ", ".join(settings.unused_extras),
                type(self).__name__,
            )
        return settings

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        """Write documents in a session of their own, see :meth:`Session.write`."""
        async with self.session() as session:
            return await session.write(*documents)

    async def outcomes(self, *ids: str) -> tuple[Mapping[str, Any] | StoreError | None, ...]:
        """Ask for documents in a session of their own, see :meth:`Session.outcomes`."""
        async with self.session() as session:
            return await session.outcomes(*ids)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the cluster answers, and a sentence about it."""
        try:
            return True, asyncio.run(self._health())
        except LagError as error:
            return False, str(error)

    async def _health(self) -> str:
        async with self.session() as session:
            return await session.health()
