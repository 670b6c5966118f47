"""The search for a topic's newest snapshot, and the answers to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_lag_provider.errors import DocumentUnreadable
from airflow_lag_provider.hooks.elasticsearch_history import Question, answers, searches

BEFORE = datetime(2026, 1, 2, 0, 30, tzinfo=UTC)


def question(topic: str = "orders") -> Question:
    return Question(mirror="oasis", group="g", topic=topic, before=BEFORE)


def response(*sources: dict[str, Any], failed: int = 0, timed_out: bool = False) -> dict[str, Any]:
    hits = [{"_source": one} for one in sources]
    return {"timed_out": timed_out, "_shards": {"failed": failed}, "hits": {"hits": hits}}


@pytest.mark.parametrize(
    ("pattern", "first", "last", "count"),
    [
        ("lag", "lag", "lag", 1),
        ("lag-%Y", "lag-2026", "lag-2025", 2),
        ("lag-%Y.%m.%d", "lag-2026.01.02", "lag-2025.12.26", 8),
        ("lag-%d-%H", "lag-02-00", "lag-26-00", 169),
    ],
)
def test_all_indices_of_the_last_week_are_searched(
    pattern: str, first: str, last: str, count: int
) -> None:
    """An index with a date in its name is followed back over its earlier names."""
    header, _, second, _ = searches([question(), question("clicks")], pattern=pattern)
    names = header["index"]
    assert (names[0], names[-1], len(set(names)), len(names)) == (first, last, count, count)
    assert second["index"] == names


def test_each_question_is_a_search_for_one_document() -> None:
    """The newest of one topic's scheduled snapshots before an instant, and only its shape."""
    _, search = searches([question()], pattern="lag")
    assert search["size"] == 1
    filters = search["query"]["bool"]["filter"]
    assert {"exists": {"field": "partitions.missing"}} in filters
    (span,) = [one["range"]["@timestamp"] for one in filters if "range" in one]
    assert span == {"gte": "2025-12-26T00:30:00+00:00", "lt": "2026-01-02T00:30:00+00:00"}
    for term in ("'topic': 'orders'", "'topic.keyword': 'orders'", "'scheduled'", "'success'"):
        assert term in str(filters)


def test_answers_are_documents_or_none() -> None:
    """No hit, and no index, is no document."""
    gone = {"error": {"type": "index_not_found_exception"}, "status": 404}
    found = answers([response({"a": 1}), response(), gone], index="lag")
    assert found == ({"a": 1}, None, None)


@pytest.mark.parametrize(
    "bad",
    [
        response(failed=1),
        response({"a": 1}, timed_out=True),
        {"error": {"type": "search_phase_execution_exception", "reason": "all shards failed"}},
    ],
)
def test_half_an_answer_is_none(bad: dict[str, Any]) -> None:
    """When a part of an index can't say, "no document" would be a guess."""
    with pytest.raises(DocumentUnreadable, match="lag"):
        answers([response({"a": 1}), bad], index="lag")
