"""An open client and an index that was looked at: with it documents are written for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch, ConflictError

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import DocumentRefused, IndexUnusable, StoreError
from airflow_lag_provider.hooks.elasticsearch_errors import item_error, read_error, store_error
from airflow_lag_provider.hooks.elasticsearch_history import Question, answers, searches
from airflow_lag_provider.hooks.elasticsearch_index import fitting
from airflow_lag_provider.hooks.elasticsearch_prepare import prepare
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")

# A document of 1,000 partitions has some 150 kB, and a request may have 100 MB.
_BULK_DOCUMENTS = 200


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
        # How long the server may wait for a shard or a master: it says then what it waited for,
        # before the client gives up, which has a third of the time for each request.
        self._patience = f"{int(seconds / 4 * 1000)}ms"
        # Fields of the index that can't hold every lag; ``None``: it was not looked at yet.
        self._narrow: dict[str, range] | None = None

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        """Write documents; one that is there already, as good or better, counts as written.

        Their index is created from the mapping when it is missing; one that is there gets the
        fields that it lacks. A lag that a field there can't hold is left out, see
        :func:`.elasticsearch_index.fitting`. All of that has the time of one call.

        :return: for each document ``None``, or why that one alone could not be written.
        :raises StoreError: none of them could be written.
        """
        end = self._end()
        if self._narrow is None:
            try:
                async with self._limited(end):
                    self._narrow = await prepare(
                        self._client, self._index, mapping=self._mapping, patience=self._patience
                    )
            except DocumentRefused as error:
                # No document was sent yet: somebody can mend this, and each of them fits then.
                raise IndexUnusable(error.message) from error
        if self._narrow:
            documents = await self._fitting(documents, self._narrow)
        if len(documents) > 1:
            return await self._write_many(documents, end)
        for document in documents:
            async with self._limited(end):
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
            health = await self._client.cluster.health(master_timeout=self._patience)
        return f"Cluster {health['cluster_name']} is {health['status']}."

    def _end(self) -> float:
        """Return when a call that begins now has to end, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._seconds

    @asynccontextmanager
    async def _limited(self, end: float | None = None) -> AsyncIterator[None]:
        """Limit the time; raise whatever the client raises as an error of this package.

        :param end: of a call that has several parts.
        """
        try:
            async with asyncio.timeout_at(self._end() if end is None else end):
                yield
        except (ApiError, TransportError, TimeoutError) as error:
            raise store_error(error, where=self._where) from error

    async def _fitting(
        self, documents: tuple[Document, ...], narrow: Mapping[str, range]
    ) -> tuple[Document, ...]:
        """Return the documents as their index can hold them."""
        fit = tuple(replace(one, source=fitting(one.source, narrow)) for one in documents)
        count = sum(new.source is not old.source for new, old in zip(fit, documents, strict=True))
        if count:
            await told(
                log.warning,
                "A lag doesn't fit into a field p0, p1, … of the index %s, which was made with "
                "another type than long. It is left out of %d documents, and named in their "
                "`partitions.left_out`.",
                self._index,
                count,
            )
        return fit

    async def _write_many(
        self, documents: Sequence[Document], end: float
    ) -> tuple[StoreError | None, ...]:
        """Write documents with as few requests as their size allows; return each one's fate."""
        fates: list[StoreError | None] = []
        for start in range(0, len(documents), _BULK_DOCUMENTS):
            try:
                fates += await self._write_together(documents[start : start + _BULK_DOCUMENTS], end)
            except StoreError as error:
                if not fates:
                    raise
                # The documents of earlier requests are there.
                left = len(documents) - len(fates)
                return (*fates, *(type(error)(error.message) for _ in range(left)))
        return tuple(fates)

    async def _write_together(
        self, documents: Sequence[Document], end: float
    ) -> list[StoreError | None]:
        """Write documents with one request; one that is refused as a whole is sent in halves.

        It was too large (413), or one of the documents made it unreadable; the others are not
        refused for that.
        """
        lines: list[Mapping[str, Any]] = []
        for one in documents:
            action = {"_id": one.id, "version": one.version, "version_type": "external"}
            lines += [{"index": action}, one.source]
        try:
            async with self._limited(end):
                answer = await self._client.bulk(
                    index=self._index, operations=lines, timeout=self._patience
                )
        except DocumentRefused as error:
            if len(documents) == 1:
                return [error]
            half = len(documents) // 2
            halves = (documents[:half], documents[half:])
            return [fate for one in halves for fate in await self._write_together(one, end)]
        return [item_error(item["index"]) for item in answer["items"]]

    async def _write_one(self, document: Document) -> None:
        try:
            await self._client.index(
                index=self._index,
                id=document.id,
                document=document.source,
                version=document.version,
                version_type="external",
                timeout=self._patience,
            )
        except ConflictError:
            await told(
                log.info,
                "Document %s/%s stays as it is: it is this one, or a better one of its run.",
                self._index,
                document.id,
            )
