"""What the demo reads from the index of the lag documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.elasticsearch import Elasticsearch

INDEX = "consumer_lag"
"""The index of the demo's documents."""

# The index is made with the first document, and nobody is in a hurry before.
_SEARCH = f"/{INDEX}/_search?ignore_unavailable=true"
_SUCCESSES = {"term": {"event.outcome": "success"}}

Document = Mapping[str, Any]
"""The ``_source`` of a document."""


@dataclass(frozen=True)
class Newest:
    """The newest documents of one topic; None as long as there is none."""

    run: Document | None = None
    """Of the last run, whatever its outcome."""

    snapshot: Document | None = None
    """Of the last run that took its snapshot, which may be older."""


def newest(elasticsearch: Elasticsearch) -> dict[str, Newest]:
    """Return the newest documents by topic, without their lists of partitions.

    :raises PartError: Elasticsearch does not answer
    """
    runs = _newest_by_topic(elasticsearch, {"match_all": {}})
    snapshots = _newest_by_topic(elasticsearch, _SUCCESSES)
    return {topic: Newest(run, snapshots.get(topic)) for topic, run in runs.items()}


def scheduled(elasticsearch: Elasticsearch) -> list[Document]:
    """Return the documents of all scheduled runs, oldest first, up to 1,000.

    :raises PartError: Elasticsearch does not answer
    """
    body = {
        "query": {"term": {"airflow.run_type": "scheduled"}},
        "sort": [{"airflow.scheduled_at": {"order": "asc", "unmapped_type": "date"}}],
        "size": 1000,
    }
    return _sources(elasticsearch.request("POST", _SEARCH, body))


def _newest_by_topic(elasticsearch: Elasticsearch, query: object) -> dict[str, Document]:
    body = {
        "query": query,
        "collapse": {"field": "topic"},
        "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "date"}}],
        "size": 100,
        "_source": {"excludes": ["partition"]},
    }
    sources = _sources(elasticsearch.request("POST", _SEARCH, body))
    return {source["topic"]: source for source in sources}


def _sources(answer: Mapping[str, Any]) -> list[Document]:
    return [hit["_source"] for hit in answer["hits"]["hits"]]
