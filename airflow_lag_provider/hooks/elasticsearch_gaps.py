"""Asks Elasticsearch which scheduled instants of which topics have documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from elasticsearch import AsyncElasticsearch, NotFoundError

from airflow_lag_provider.gaps import Seen, Series
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_session import Session
from airflow_lag_provider.run import index_name

# A series without a document in so long was not watched.
LOOK_BACK = timedelta(days=1)
# So much is asked for together: a page of buckets makes Elasticsearch look at all documents of it.
_CHUNK = timedelta(hours=6)
_PAGE = 10_000
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
    return dict(series)


def _of(bucket: Mapping[str, Any]) -> Series:
    return Series(bucket["key"]["mirror"], bucket["key"]["topic"])


def _add(one: Seen, key: Mapping[str, Any]) -> None:
    at = datetime.fromtimestamp(key["at"] / 1000, UTC)
    one.dag_id = key["dag_id"]
    # A run that was cleared has a document beside the first one; a snapshot is what counts.
    if one.outcomes.get(at, "") is not None:
        one.outcomes[at] = key["error"]


async def _buckets(
    session: Session, pattern: str, start: datetime, end: datetime, *, by_instant: bool
) -> AsyncIterator[Mapping[str, Any]]:
    """Yield a bucket for each series, or for each of its instants and outcomes."""
    for indices, fields in await _indices(session, pattern, start, end):
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


async def _indices(session: Session, pattern: str, start: datetime, end: datetime) -> list[_Group]:
    """Return the indices of some time that are there, those with the same exact fields together.

    In an index of the old script `topic` is a text, and what is exact lies below it.
    """
    names = _names(pattern, start, end)
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
