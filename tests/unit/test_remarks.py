"""What the task's log warns of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_lag_provider import remarks
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.snapshot import GroupState, PartitionLag, TopicSnapshot

ROW = PartitionLag("orders", 0, 90, 100, 10)


def about(
    *rows: PartitionLag,
    state: GroupState = "active",
    unconfigured: tuple[str, ...] | None = None,
    **of_topic: Any,
) -> list[str]:
    now = datetime.now(UTC)
    one = TopicSnapshot("oasis", "g", "orders", now, state, rows or (ROW,), **of_topic)
    return list(remarks.about(GroupDescription("g", state, one.partitions), [one], unconfigured))


def test_nothing_odd_is_nothing_said() -> None:
    """A healthy snapshot leaves no warning."""
    assert about(unconfigured=(), missing=()) == []


@pytest.mark.parametrize(("state", "says"), [("empty", "no members"), ("rebalancing", "rebal")])
def test_a_group_that_is_not_active(state: GroupState, says: str) -> None:
    """A group without members, or rebalancing, is said."""
    (words,) = about(state=state)
    assert says in words


def test_topics_that_no_configuration_names_are_one_line_of_bounded_length() -> None:
    """Once for all topics of a task, and however many there are."""
    names = tuple(f"{number:03}" + "t" * 246 for number in range(500))
    (words,) = about(unconfigured=names)
    assert "(500)" in words
    assert words.endswith(" and 480 more.")
    assert names[0] in words
    assert len(words) < 6000


def test_what_became_of_partitions_is_said() -> None:
    """Missing ones are named, and so is what changed and where the tool's figures disagree."""
    shrank, missing, mismatch = about(
        PartitionLag("orders", 0, 90, 100, 11), missing=(3, 5), changed="shrank"
    )
    assert "lacks partitions" in shrank
    assert "missing (2): 3, 5." in missing
    assert "in partitions 0." in mismatch
    assert "made anew" in about(changed="recreated")[0]


def test_commits_beyond_the_end_are_said() -> None:
    """Messages may be skipped there, and the total doesn't show it."""
    rows = [PartitionLag("orders", number, 9, 5, -4) for number in range(30)]
    (words,) = about(ROW, *rows[1:])
    assert "beyond the end of partitions 1, 2, " in words
    assert words.endswith(" and 9 more.")
