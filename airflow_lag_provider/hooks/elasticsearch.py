"""Documents in Elasticsearch, asynchronously, so that worker and triggerer share it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.connection import get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowException, BaseHook
from elastic_transport import TransportError
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    AuthorizationException,
    BadRequestError,
    ConflictError,
    NotFoundError,
)

from airflow_lag_provider.errors import ElasticsearchConnectionInvalid, LagError, StoreError
from airflow_lag_provider.hooks.connection import airflow_connection
from airflow_lag_provider.hooks.elasticsearch_client import (
    ConnectionSettings,
    NegotiatingTransport,
    connection_settings,
    item_error,
    read_error,
    store_error,
)
from airflow_lag_provider.hooks.elasticsearch_index import missing_mapping

DEFAULT_INDEX = "consumer_lag"
# A document of 1,000 partitions has some 150 kB, and a request may have 100 MB.
_BULK_DOCUMENTS = 200


@dataclass(frozen=True, slots=True)
class Document:
    """One document, ready to be written.

    :param id: its ``_id``, the same for every try of a run.
    :param version: its external version: of two with one id, the higher stays.
    :param source: its fields.
    """

    id: str
    version: int
    source: Mapping[str, Any]


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
    async def client(self) -> AsyncIterator[AsyncElasticsearch]:
        """Give a client for the connection, for a limited time, and close it in the end.

        The limit is three times ``request_timeout``: a request and its two repetitions.

        :raises ElasticsearchConnectionInvalid: the connection is missing or not usable.
        :raises StoreError: whatever the client raises inside, as an error of this package.
        """
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
            async with asyncio.timeout(3 * settings.request_timeout):
                yield client
        except (ApiError, TransportError, TimeoutError) as error:
            raise store_error(error, where=where) from error
        finally:
            await client.close()

    async def _settings(self) -> ConnectionSettings:
        """Read the Airflow connection."""
        try:
            connection = await airflow_connection(self.elasticsearch_conn_id)
        except AirflowException as error:
            raise ElasticsearchConnectionInvalid(
                f"There is no connection {self.elasticsearch_conn_id!r}: {error}."
            ) from error
        settings = connection_settings(
            conn_id=self.elasticsearch_conn_id,
            host=connection.host,
            port=connection.port,
            scheme=connection.schema,
            login=connection.login,
            password=connection.password,
            extra=await get_async_extra_dejson(connection),
        )
        if settings.unused_extras:
            self.log.warning(
                "Connection %s: extra %s is not used by %s.",
                self.elasticsearch_conn_id,
                ", ".join(settings.unused_extras),
                type(self).__name__,
            )
        return settings

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        """Write documents; one that is there already, as good or better, counts as written.

        Their indices are created from the mapping when they are missing; an index that is there
        gets the fields that it lacks.

        :return: for each document ``None``, or why that one alone could not be written.
        :raises StoreError: none of them could be written.
        """
        async with self.client() as client:
            await self._ensure_index(client)
            if len(documents) > 1:
                return await self._write_many(client, documents)
            for document in documents:
                await self._write_one(client, document)
        return (None,) * len(documents)

    async def _write_many(
        self, client: AsyncElasticsearch, documents: Sequence[Document]
    ) -> tuple[StoreError | None, ...]:
        """Write documents with as few requests as their size allows; return each one's fate."""
        fates: list[StoreError | None] = []
        for start in range(0, len(documents), _BULK_DOCUMENTS):
            lines: list[Mapping[str, Any]] = []
            for one in documents[start : start + _BULK_DOCUMENTS]:
                action = {"_id": one.id, "version": one.version, "version_type": "external"}
                lines += [{"index": action}, one.source]
            answer = await client.bulk(index=self.index, operations=lines)
            fates += [item_error(item["index"]) for item in answer["items"]]
        return tuple(fates)

    async def _write_one(self, client: AsyncElasticsearch, document: Document) -> None:
        try:
            await client.index(
                index=self.index,
                id=document.id,
                document=document.source,
                version=document.version,
                version_type="external",
            )
        except ConflictError:
            self.log.info(
                "Document %s/%s stays as it is: it is this one, or a better one of its run.",
                self.index,
                document.id,
            )

    async def outcomes(self, *ids: str) -> tuple[Mapping[str, Any] | None, ...]:
        """Return of documents their fields ``event.outcome`` and ``error.type``.

        By its id Elasticsearch finds a document at once, not only when it can be searched.

        :return: for each id its document's two fields, ``None`` when there is no such document.
        :raises StoreError: of one of them Elasticsearch can't say whether it is there.
        """
        async with self.client() as client:
            answer = await client.mget(
                index=self.index, ids=list(ids), source_includes=["event.outcome", "error.type"]
            )
        for item in answer["docs"]:
            if error := read_error(item):
                raise error
        return tuple(item["_source"] if item.get("found") else None for item in answer["docs"])

    async def _ensure_index(self, client: AsyncElasticsearch) -> None:
        """Create the index, or add what it lacks; many tasks may do so at the same time."""
        wanted = await asyncio.to_thread(self._index_body)
        try:
            # Not `exists`: the answer to HEAD has no body to negotiate the version by.
            found = await client.indices.get_mapping(index=self.index)
        except NotFoundError:
            try:
                await client.indices.create(index=self.index, **wanted)
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
            else:
                self.log.info("Created the index %s.", self.index)
            return
        for name, one in found.items():
            if missing := missing_mapping(wanted["mappings"], one["mappings"]):
                await self._complete(client, name, missing)

    async def _complete(
        self, client: AsyncElasticsearch, index: str, missing: dict[str, Any]
    ) -> None:
        try:
            await client.indices.put_mapping(index=index, **missing)
            self.log.info("Added missing fields to the index %s.", index)
        except AuthorizationException as error:
            # The snapshot is worth more than the types of its fields.
            self.log.warning(
                "The index %s lacks fields of the mapping, and the user may not add them (right "
                "`manage`). Elasticsearch guesses their types now: %s",
                index,
                error.error,
            )

    def _index_body(self) -> dict[str, Any]:
        """Return settings and mappings of a new index."""
        source = self._mapping or files("airflow_lag_provider") / "mapping.json"
        body: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
        return body

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the cluster answers, and a sentence about it."""
        try:
            return True, asyncio.run(self._health())
        except LagError as error:
            return False, str(error)

    async def _health(self) -> str:
        async with self.client() as client:
            health = await client.cluster.health()
        return f"Cluster {health['cluster_name']} is {health['status']}."
