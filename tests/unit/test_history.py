"""A topic's partitions from snapshot to snapshot: missing, grown, shrunk, made anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lag_provider.history import DOCUMENT_FIELDS, Shape, compared, shape_after
from airflow_lag_provider.snapshot import GroupState, PartitionLag, TopicSnapshot

FIRST = datetime(2026, 11, 22, 13, 35, 4, tzinfo=UTC)
Ends = dict[int, int | None]


def taken(ends: Ends, *, state: GroupState = "active", owner: str | None = "mm-0") -> TopicSnapshot:
    rows = [PartitionLag("orders", n, end, end, 0, owner) for n, end in sorted(ends.items())]
    return TopicSnapshot("oasis", "g", "orders", FIRST, state, tuple(rows))


def story(*snapshots: TopicSnapshot) -> list[TopicSnapshot]:
    """Return the snapshots as one process would store them, a minute apart."""
    told: list[TopicSnapshot] = []
    shape = None
    for one in snapshots:
        told.append(compared(one, shape))
        shape = shape_after(told[-1], shape)
    return told


def test_the_first_snapshot_lacks_nothing() -> None:
    """Without an earlier snapshot no partition is missing and nothing has changed."""
    (first,) = story(taken({0: 5, 2: 5}, state="empty"))
    assert (first.missing, first.changed) == ((), None)


def test_what_is_not_known_is_not_in_the_document() -> None:
    """Unknown is neither 0 nor "unchanged"; known and none is 0."""
    unknown = taken({0: 5}).to_document()["partitions"]
    assert not {"missing", "missing_ids", "changed"} & unknown.keys()
    known = compared(taken({0: 5}), None).to_document()["partitions"]
    assert known["missing"] == 0
    assert not {"missing_ids", "changed"} & known.keys()


def test_partitions_of_an_empty_group_are_missing_until_they_are_back() -> None:
    """Said once as shrunk and once as grown, counted and named in between, whatever it takes."""
    full, half = {0: 10, 1: 10, 2: 10, 3: 10}, {0: 12, 2: 12}
    gone = [taken(half, state="empty", owner=None) for _ in range(50)]
    told = story(taken(full), *gone, taken(dict.fromkeys(range(4), 20)))
    assert [one.changed for one in told] == [None, "shrank", *[None] * 49, "grew"]
    assert {one.missing for one in told[1:-1]} == {(1, 3)}
    assert told[-1].missing == ()
    document = told[1].to_document()
    assert document["partitions"] == {
        "total": 2,
        "uncommitted": 0,
        "negative": 0,
        "missing": 2,
        "missing_ids": [1, 3],
        "changed": "shrank",
    }
    assert not {"p1", "p3"} & document.keys()


def test_a_topic_that_grew() -> None:
    """New partitions are said once."""
    told = story(taken({0: 5}), taken({0: 5, 1: 0}), taken({0: 5, 1: 0}))
    assert [one.changed for one in told] == [None, "grew", None]
    assert [one.missing for one in told] == [(), (), ()]


@pytest.mark.parametrize("ends", [{0: 3, 1: 0}, {0: 3}, {0: None, 1: 9}, {0: 0, 1: 0, 2: 0}])
def test_a_topic_made_anew_has_no_missing_partition(ends: Ends) -> None:
    """One end offset that fell is enough; what the old topic had is not missing in the new one."""
    told = story(taken({0: 10, 1: 10}), taken(ends), taken(ends))
    assert [one.changed for one in told] == [None, "recreated", None]
    assert [one.missing for one in told] == [(), (), ()]


def test_a_partition_that_returns_with_a_lower_end() -> None:
    """The end offsets of missing partitions are remembered."""
    told = story(taken({0: 10, 1: 10}), taken({0: 10}, state="empty"), taken({0: 10, 1: 4}))
    assert [one.changed for one in told] == [None, "shrank", "recreated"]


def test_an_end_that_can_not_be_read_keeps_the_last_one() -> None:
    """A partition without leader for a while is not made anew, and a fall behind it is seen."""
    told = story(taken({0: 10}), taken({0: None}), taken({0: 10}), taken({0: None}), taken({0: 9}))
    assert [one.changed for one in told] == [None, None, None, None, "recreated"]


def test_a_smaller_topic_whose_ends_did_not_fall() -> None:
    """When members own 0, 1, … without a gap twice, the topic has no more partitions."""
    told = story(taken({0: 0, 1: 0, 2: 0}), taken({0: 0, 1: 0}), taken({0: 0, 1: 0}), taken({0: 0}))
    assert [one.changed for one in told] == [None, "shrank", None, "shrank"]
    assert [one.missing for one in told] == [(), (2,), (), (1,)]


@pytest.mark.parametrize(
    "less",
    [
        taken({0: 0, 2: 0}),
        taken({0: 0, 1: 0}, owner=None),
        taken({0: 0, 1: 0}, state="rebalancing"),
        taken({0: 0, 1: 0}, state="empty", owner=None),
    ],
)
def test_what_a_group_may_not_show_stays_missing(less: TopicSnapshot) -> None:
    """A gap, a partition without owner, a group that isn't active: the rest may be there."""
    told = story(taken({0: 0, 1: 0, 2: 0}), *[less] * 5)
    assert {len(one.missing or ()) for one in told[1:]} == {1}


partitions = st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 20), min_size=1)
snapshots = st.builds(
    taken,
    partitions,
    state=st.sampled_from(["active", "empty", "rebalancing"]),
    owner=st.none() | st.just("mm-0"),
)


@given(st.lists(snapshots, min_size=1, max_size=6), snapshots)
@settings(max_examples=60, deadline=None)
def test_a_document_tells_the_next_process_what_memory_tells_this_one(
    earlier: list[TopicSnapshot], last: TopicSnapshot
) -> None:
    """Read back from its document, a snapshot leads to the same missing partitions."""
    told = story(*earlier, last)
    before = Shape.of_document(told[-2].to_document())
    again = compared(last, before)
    # Only memory has the end offsets of what is missing or can't be read.
    if told[-1].changed != "recreated" or again.changed == "recreated":
        assert (again.missing, again.changed) == (told[-1].missing, told[-1].changed)
    present = {row.partition for row in last.partitions}
    for one in (again, told[-1]):
        assert not present & set(one.missing or ())
        assert one.lag_total == last.lag_total


def test_the_named_fields_are_enough() -> None:
    """What Elasticsearch gives of a document, asked for them alone, is all that is read of it."""
    (told,) = story(taken({0: 1}))
    shape = Shape.of_document(filtered(told.to_document()))
    assert shape == Shape(FIRST, {0: 1}, frozenset(), whole=True)


def filtered(value: Any, path: str = "") -> Any:
    """Return the named fields of a document; an object without any of them is left out."""
    if isinstance(value, list):
        return [filtered(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: f"{path}.{name}".lstrip(".") for name in value}
    return {
        name: filtered(part, inner[name])
        for name, part in value.items()
        if any(f"{field}.".startswith(f"{inner[name]}.") for field in DOCUMENT_FIELDS)
        and (not isinstance(part, dict) or filtered(part, inner[name]))
    }
