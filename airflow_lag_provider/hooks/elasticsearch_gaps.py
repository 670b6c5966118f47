"""Asks Elasticsearch which scheduled instants of which topics have documents."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from elasticsearch import AsyncElasticsearch, NotFoundError

from airflow_lag_provider.gaps import Seen, Series
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import answers
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.run import index_name

# A series that is in no configuration, and without a document in so long, was not watched.
LOOK_BACK = timedelta(days=1)
# So much is asked for together: a page of buckets makes Elasticsearch look at all documents of it.
_CHUNK = timedelta(hours=6)
_PAGE = 10_000
# So many series in one request.
_SEARCHES = 50
_AT = "airflow.scheduled_at"
_EXACT = ("mirror", "topic", "airflow.dag_id", "airflow.run_type", "error.type")

_Fields = Mapping[str, str]
_Group = tuple[list[str], _Fields]


async def seen_series(
    *, elasticsearch_conn_id: str, index: str, start: datetime, end: datetime
) -> dict[Series, Seen]:
    """Return what the documents of scheduled runs say, by mirror and topic.

    :param index: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    :param start: the first instant, and `end`, before which the last one lies.
    :raises StoreError: Elasticsearch can't be asked.
    """
    series: defaultdict[Series, Seen] = defaultdict(Seen)
    async with LagElasticsearchHook(elasticsearch_conn_id=elasticsearch_conn_id).session() as it:
        async for bucket in _buckets(it, index, start - LOOK_BACK, start, by_instant=False):
            series[_of(bucket)].before = True
            series[_of(bucket)].dag_id = bucket["key"]["dag_id"]
        at = start
        while at < end:
            async for bucket in _buckets(it, index, at, min(at + _CHUNK, end), by_instant=True):
                _add(series[_of(bucket)], bucket["key"])
            at += _CHUNK
        # After a long time away the day before says nothing.
        late = [it for it, one in series.items() if not one.before and start not in one.outcomes]
        for old in await _with_documents(it, index, late, before=start):
            series[old].before = True
    return dict(series)


def _of(bucket: Mapping[str, Any]) -> Series:
    return Series(bucket["key"]["mirror"], bucket["key"]["topic"])


def _add(one: Seen, key: Mapping[str, Any]) -> None:
    at = datetime.fromtimestamp(key["at"] / 1000, UTC)
    one.dag_id = key["dag_id"]
    # A run that was cleared has a document beside the first one; a snapshot is what counts.
    if one.outcomes.get(at, "") is not None:
        one.outcomes[at] = key["error"]


async def _with_documents(
    session: Session, pattern: str, asked: Sequence[Series], *, before: datetime
) -> list[Series]:
    """Return those of some series that have a document before an instant, however old."""
    names = [re.sub("%.", "*", pattern)]
    found: list[Series] = []
    for indices, fields in await _grouped(session, names) if asked else ():
        for first in range(0, len(asked), _SEARCHES):
            some = asked[first : first + _SEARCHES]
            searches: list[Mapping[str, Any]] = []
            for one in some:
                searches += [{"index": indices}, _any_document(one, fields, before=before)]
            answer = await session.ask(partial(_searched, searches=searches))
            documents = answers(answer["responses"], index=pattern)
            found += [one for one, it in zip(some, documents, strict=True) if it is not None]
    return found


def _any_document(series: Series, fields: _Fields, *, before: datetime) -> dict[str, Any]:
    filters = [
        {"range": {_AT: {"lt": before.isoformat()}}},
        {"term": {fields["airflow.run_type"]: "scheduled"}},
        {"term": {fields["mirror"]: series.mirror}},
        {"term": {fields["topic"]: series.topic}},
    ]
    return {
        "size": 1,
        "terminate_after": 1,
        "track_total_hits": False,
        "_source": ["topic"],
        "query": {"bool": {"filter": filters}},
    }


async def _searched(client: AsyncElasticsearch, *, searches: list[Mapping[str, Any]]) -> Any:
    return await client.msearch(searches=searches, ignore_unavailable=True)


async def _buckets(
    session: Session, pattern: str, start: datetime, end: datetime, *, by_instant: bool
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield a bucket for each series, or for each of its instants and outcomes."""
    for indices, fields in await _grouped(session, _names(pattern, start, end)):
        sources = [_source(name, fields[name]) for name in ("mirror", "topic")]
        sources.append(_source("dag_id", fields["airflow.dag_id"]))
        if by_instant:
            sources.append(_source("at", _AT))
            sources.append(_source("error", fields["error.type"], missing_bucket=True))
        span = {"gte": start.isoformat(), "lt": end.isoformat()}
        filters: list[dict[str, Any]] = [
            {"range": {_AT: span}},
            {"term": {fields["airflow.run_type"]: "scheduled"}},
        ]
        composite: dict[str, Any] = {"size": _PAGE, "sources": sources}
        while True:
            answer = await session.ask(
                partial(_page, indices=indices, filters=filters, composite=composite)
            )
            for bucket in answer["buckets"]:
                yield bucket
            if "after_key" not in answer:
                break
            composite["after"] = answer["after_key"]


def _source(name: str, field: str, **options: Any) -> dict[str, Any]:
    return {name: {"terms": {"field": field, **options}}}


async def _page(
    client: AsyncElasticsearch,
    *,
    indices: list[str],
    filters: list[dict[str, Any]],
    composite: dict[str, Any],
) -> Any:
    answer = await client.search(
        index=indices,
        ignore_unavailable=True,
        size=0,
        query={"bool": {"filter": filters}},
        aggs={"page": {"composite": composite}},
    )
    return answer["aggregations"]["page"]


async def _grouped(session: Session, names: list[str]) -> list[_Group]:
    """Return the indices that are there, those with the same exact fields together.

    In an index of the old script `topic` is a text, and what is exact lies below it.
    """
    mappings = await session.ask(partial(_mappings, names=names))
    groups: dict[tuple[str, ...], _Group] = {}
    for name, one in mappings.items():
        fields = {field: _exact(one["mappings"], field) for field in _EXACT}
        groups.setdefault(tuple(fields.values()), ([], fields))[0].append(name)
    return list(groups.values())


async def _mappings(client: AsyncElasticsearch, *, names: list[str]) -> dict[str, Any]:
    try:
        answer = await client.indices.get_mapping(index=names, ignore_unavailable=True)
    except NotFoundError:
        return {}
    return dict(answer.body)


def _names(pattern: str, start: datetime, end: datetime) -> list[str]:
    """Return the names that the index has from `start` on and before `end`."""
    hours = int((end - start) / timedelta(hours=1)) + 1
    instants = [start + number * timedelta(hours=1) for number in range(hours)]
    instants.append(end - timedelta(microseconds=1))
    return sorted({index_name(pattern, scheduled_at=at) for at in instants if at < end})


def _exact(mappings: Mapping[str, Any], field: str) -> str:
    """Return the name under which a field has exact values."""
    found: Mapping[str, Any] = mappings
    for part in field.split("."):
        found = found.get("properties", {}).get(part, {})
    return f"{field}.keyword" if found.get("type") == "text" else field
