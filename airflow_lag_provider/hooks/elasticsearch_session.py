"""An open client and an index that was looked at: with it documents are written for a while."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from elastic_transport import TransportError
from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    AuthorizationException,
    BadRequestError,
    ConflictError,
    NotFoundError,
)

from airflow_lag_provider.errors import DocumentRefused, IndexUnusable, StoreError
from airflow_lag_provider.hooks.elasticsearch_errors import item_error, read_error, store_error
from airflow_lag_provider.hooks.elasticsearch_history import Question, answers, searches
from airflow_lag_provider.hooks.elasticsearch_index import missing_mapping
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")

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


class Session:
    """Writes to one index. The index is looked at before the first document only.

    An index that is deleted while a session is open is made anew by Elasticsearch itself, with
    types it guesses; so a session must not stay open for long.

    :param client: the client; whoever opened it closes it.
    :param index: index that documents are written to.
    :param mapping: path of the body new indices are created with; the package's own by default.
    :param where: connection and hosts, for messages.
    :param seconds: limit of each call.
    """

    def __init__(
        self,
        client: AsyncElasticsearch,
        *,
        index: str,
        mapping: Path | None,
        where: str,
        seconds: float,
    ) -> None:
        self._client = client
        self._index = index
        self._mapping = mapping
        self._where = where
        self._seconds = seconds
        self._index_is_ready = False

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        """Write documents; one that is there already, as good or better, counts as written.

        Their index is created from the mapping when it is missing; one that is there gets the
        fields that it lacks.

        :return: for each document ``None``, or why that one alone could not be written.
        :raises StoreError: none of them could be written.
        """
        if not self._index_is_ready:
            try:
                async with self._limited():
                    await self._ensure_index()
            except DocumentRefused as error:
                # No document was sent yet: somebody can mend this, and each of them fits then.
                raise IndexUnusable(error.message) from error
            self._index_is_ready = True
        if len(documents) > 1:
            return await self._write_many(documents)
        for document in documents:
            async with self._limited():
                await self._write_one(document)
        return (None,) * len(documents)

    async def outcomes(self, *ids: str) -> tuple[Mapping[str, Any] | StoreError | None, ...]:
        """Return of documents their fields ``event.outcome`` and ``error.type``.

        By its id Elasticsearch finds a document at once, not only when it can be searched.

        :return: for each id its document's two fields; ``None`` when there is no such document;
            or why Elasticsearch can't say of that one alone.
        :raises StoreError: it can't say anything.
        """
        async with self._limited():
            answer = await self._client.mget(
                index=self._index, ids=list(ids), source_includes=["event.outcome", "error.type"]
            )
        return tuple(
            read_error(item) or (item["_source"] if item.get("found") else None)
            for item in answer["docs"]
        )

    async def ask(
        self, work: Callable[[AsyncElasticsearch], Coroutine[Any, Any, AnswerT]]
    ) -> AnswerT:
        """Return what some work with the client brings.

        :raises StoreError: Elasticsearch didn't do it, or not in time.
        """
        async with self._limited():
            return await work(self._client)

    async def latest(self, *questions: Question) -> tuple[Mapping[str, Any] | None, ...]:
        """Return the newest scheduled snapshot of some topics, all in one request.

        :return: for each question what :data:`.DOCUMENT_FIELDS` names of a document, ``None``
            when there is no such document.
        :raises StoreError: of one of them Elasticsearch can't say.
        """
        async with self._limited():
            answer = await self._client.msearch(
                searches=searches(questions, pattern=self._index), ignore_unavailable=True
            )
        return answers(answer["responses"], index=self._index)

    async def health(self) -> str:
        """Return a sentence about the cluster.

        :raises StoreError: it doesn't answer.
        """
        async with self._limited():
            health = await self._client.cluster.health()
        return f"Cluster {health['cluster_name']} is {health['status']}."

    @asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        """Limit the time; raise whatever the client raises as an error of this package."""
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except (ApiError, TransportError, TimeoutError) as error:
            raise store_error(error, where=self._where) from error

    async def _write_many(self, documents: Sequence[Document]) -> tuple[StoreError | None, ...]:
        """Write documents with as few requests as their size allows; return each one's fate."""
        fates: list[StoreError | None] = []
        for start in range(0, len(documents), _BULK_DOCUMENTS):
            try:
                fates += await self._write_together(documents[start : start + _BULK_DOCUMENTS])
            except StoreError as error:
                if not fates:
                    raise
                # The documents of earlier requests are there.
                left = len(documents) - len(fates)
                return (*fates, *(type(error)(error.message) for _ in range(left)))
        return tuple(fates)

    async def _write_together(self, documents: Sequence[Document]) -> list[StoreError | None]:
        """Write documents with one request; one that is refused as a whole is sent in halves.

        It was too large (413), or one of the documents made it unreadable; the others are not
        refused for that.
        """
        lines: list[Mapping[str, Any]] = []
        for one in documents:
            action = {"_id": one.id, "version": one.version, "version_type": "external"}
            lines += [{"index": action}, one.source]
        try:
            async with self._limited():
                answer = await self._client.bulk(index=self._index, operations=lines)
        except DocumentRefused as error:
            if len(documents) == 1:
                return [error]
            half = len(documents) // 2
            halves = (documents[:half], documents[half:])
            return [fate for one in halves for fate in await self._write_together(one)]
        return [item_error(item["index"]) for item in answer["items"]]

    async def _write_one(self, document: Document) -> None:
        try:
            await self._client.index(
                index=self._index,
                id=document.id,
                document=document.source,
                version=document.version,
                version_type="external",
            )
        except ConflictError:
            await told(
                log.info,
                "Document %s/%s stays as it is: it is this one, or a better one of its run.",
                self._index,
                document.id,
            )

    async def _ensure_index(self) -> None:
        """Create the index, or add what it lacks; many tasks may do so at the same time."""
        wanted = await asyncio.to_thread(index_body, self._mapping)
        try:
            # Not `exists`: the answer to HEAD has no body to negotiate the version by.
            found = await self._client.indices.get_mapping(index=self._index)
        except NotFoundError:
            try:
                await self._client.indices.create(index=self._index, **wanted)
            except BadRequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
            else:
                await told(log.info, "Created the index %s.", self._index)
            return
        for name, one in found.items():
            if missing := missing_mapping(wanted["mappings"], one["mappings"]):
                await self._complete(name, missing)

    async def _complete(self, index: str, missing: dict[str, Any]) -> None:
        try:
            await self._client.indices.put_mapping(index=index, **missing)
            await told(log.info, "Added missing fields to the index %s.", index)
        except AuthorizationException as error:
            # The snapshot is worth more than the types of its fields.
            await told(
                log.warning,
                "The index %s lacks fields of the mapping, and the user may not add them (right "
                "`manage`). Elasticsearch guesses their types now: %s",
                index,
                error.error,
            )


def index_body(mapping: Path | None = None) -> dict[str, Any]:
    """Return settings and mappings of a new index, from a file of theirs or the package's own."""
    source = mapping or files("airflow_lag_provider") / "mapping.json"
    body: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return body
