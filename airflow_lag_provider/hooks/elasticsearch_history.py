"""The question for a topic's newest snapshot: its search, and what the answer says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_lag_provider.errors import DocumentUnreadable
from airflow_lag_provider.history import DOCUMENT_FIELDS
from airflow_lag_provider.hooks.elasticsearch_errors import read_error
from airflow_lag_provider.run import index_name

HORIZON = timedelta(days=7)
"""How old a snapshot may be that a new one is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which topic's newest snapshot of a scheduled run is asked for.

    Only those whose own earlier snapshots were known count (``partitions.missing`` is there).

    :param before: the snapshot was taken before this instant, with time zone.
    """

    mirror: str
    group: str
    topic: str
    before: datetime


def searches(questions: Sequence[Question], *, pattern: str) -> list[Mapping[str, Any]]:
    """Return the body of a request with one search for each question.

    :param pattern: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    """
    names: dict[datetime, list[str]] = {}
    lines: list[Mapping[str, Any]] = []
    for one in questions:
        # Topics of a describe have one instant.
        if one.before not in names:
            names[one.before] = _index_names(pattern, one.before)
        lines += [{"index": names[one.before]}, _search(one)]
    return lines


def answers(
    responses: Sequence[Mapping[str, Any]], *, index: str
) -> tuple[Mapping[str, Any] | None, ...]:
    """Return the document that each search found, ``None`` where there is none.

    :raises DocumentUnreadable: a search failed, or a part of the index did not answer.
    """
    return tuple(_answer(one, index) for one in responses)


def _answer(response: Mapping[str, Any], index: str) -> Mapping[str, Any] | None:
    if error := read_error({"_index": index, **response}):
        raise error
    if response.get("error"):
        return None
    if response["timed_out"] or response["_shards"]["failed"]:
        raise DocumentUnreadable(f"Elasticsearch could not search all of the index {index}.")
    hits = response["hits"]["hits"]
    found: Mapping[str, Any] | None = hits[0]["_source"] if hits else None
    return found


def _index_names(pattern: str, before: datetime) -> list[str]:
    hours = range(int(HORIZON / timedelta(hours=1)) + 1) if "%" in pattern else range(1)
    names = (index_name(pattern, scheduled_at=before - timedelta(hours=back)) for back in hours)
    return list(dict.fromkeys(names))


def _search(question: Question) -> dict[str, Any]:
    instants = {
        "gte": (question.before - HORIZON).isoformat(),
        "lt": question.before.isoformat(),
    }
    exact = {
        "mirror": question.mirror,
        "group": question.group,
        "topic": question.topic,
        "airflow.run_type": "scheduled",
        "event.outcome": "success",
    }
    filters: Iterable[Mapping[str, Any]] = (
        {"range": {"@timestamp": instants}},
        {"exists": {"field": "partitions.missing"}},
        *(_is_exactly(field, value) for field, value in exact.items()),
    )
    return {
        "size": 1,
        "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "date"}}],
        "track_total_hits": False,
        "_source": list(DOCUMENT_FIELDS),
        "query": {"bool": {"filter": list(filters)}},
    }


def _is_exactly(field: str, value: str) -> dict[str, Any]:
    """Return a filter for a field that is a keyword, or in a foreign index a text with one."""
    return {
        "bool": {
            "minimum_should_match": 1,
            "should": [
                {"term": {f"{field}.keyword": value}},
                {
                    "bool": {
                        "filter": [{"term": {field: value}}],
                        "must_not": [{"exists": {"field": f"{field}.keyword"}}],
                    }
                },
            ],
        }
    }
