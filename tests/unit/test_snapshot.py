"""Snapshots, failures and the documents made from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lag_provider.snapshot import Changed, PartitionLag, TopicFailure, TopicSnapshot

TAKEN_AT = datetime(2026, 11, 22, 13, 35, 4, 250_000, tzinfo=UTC)


def snapshot(*rows: PartitionLag, unconfigured: tuple[str, ...] | None = None) -> TopicSnapshot:
    return TopicSnapshot(
        mirror="oasis",
        group="oasis-group",
        topic="orders",
        taken_at=TAKEN_AT,
        group_state="active",
        partitions=rows,
        unconfigured_topics=unconfigured,
    )


def row(partition: int, committed: int | None, end: int | None, lag: int | None) -> PartitionLag:
    return PartitionLag("orders", partition, committed, end, lag, "c-1", "10.0.0.1", "mm")


def lags(document: dict[str, Any]) -> dict[str, int | None]:
    return {name: document["lag"][name] for name in ("total", "max", "max_partition")}


def test_a_document_holds_what_the_old_script_stored_and_what_was_missing() -> None:
    """A snapshot becomes one document with the fields of the design."""
    assert snapshot(row(0, 90, 100, 10), row(1, 50, 50, 0)).to_document() == {
        "@timestamp": "2026-11-22T13:35:04.250000+00:00",
        "topic": "orders",
        "mirror": "oasis",
        "group": "oasis-group",
        "group_state": "active",
        "p0": 10,
        "p1": 0,
        "lag": {"total": 10, "max": 10, "max_partition": 0, "reported_mismatch": False},
        "partitions": {"total": 2, "uncommitted": 0, "negative": 0},
        "offsets": {"committed": 140, "end": 150},
        "partition": [
            {
                "id": 0,
                "committed": 90,
                "end": 100,
                "lag": 10,
                "consumer": "c-1",
                "host": "10.0.0.1",
                "client": "mm",
            },
            {
                "id": 1,
                "committed": 50,
                "end": 50,
                "lag": 0,
                "consumer": "c-1",
                "host": "10.0.0.1",
                "client": "mm",
            },
        ],
    }


def test_a_partition_without_a_commit_is_null_and_counted() -> None:
    """Unknown is not zero: it is null in its own field and left out of every sum."""
    document = snapshot(row(0, None, 100, None), row(1, 7, 9, 2)).to_document()
    assert document["p0"] is None
    assert lags(document) == {"total": 2, "max": 2, "max_partition": 1}
    assert document["partitions"]["uncommitted"] == 1
    assert document["offsets"] == {"committed": 7, "end": 9}


def test_a_topic_that_nobody_ever_committed_has_no_lag_at_all() -> None:
    """Without any known lag the totals are null, not zero."""
    document = snapshot(row(0, None, 100, None), row(1, None, None, None)).to_document()
    assert lags(document) == {"total": None, "max": None, "max_partition": None}
    assert document["offsets"] == {"committed": None, "end": None}


def test_a_commit_beyond_the_end_stays_visible_and_hides_no_other_lag() -> None:
    """A negative lag is kept as it was printed, counted, and worth nothing in the sums."""
    document = snapshot(row(0, 100_000, 50, -99_950), row(1, 10, 67, 57)).to_document()
    assert document["p0"] == -99_950
    assert document["partitions"]["negative"] == 1
    assert lags(document) == {"total": 57, "max": 57, "max_partition": 1}


@pytest.mark.parametrize(
    ("rows", "mismatches", "p0"),
    [
        ([row(0, 90, 100, 10), row(1, None, 5, None), row(2, 7, None, None)], (), 10),
        ([row(0, 100_000, 50, -99_950)], (), -99_950),
        ([row(0, 2**63 - 1, 0, 1 - 2**63)], (), 1 - 2**63),
        ([row(0, 90, 100, 11)], (0,), 11),
        ([row(0, 90, 100, None), row(1, 90, 100, 10)], (0,), None),
        ([row(0, 90, None, 10)], (0,), 10),
        ([row(0, None, 100, 100)], (0,), None),
        ([row(0, 90, 100, 10), row(1, 1, 2, 0)], (1,), 10),
    ],
)
def test_a_lag_that_the_offsets_do_not_explain_is_recorded(
    rows: list[PartitionLag], mismatches: tuple[int, ...], p0: int | None
) -> None:
    """The document keeps the tool's figure, says so, and has none without a committed offset."""
    taken = snapshot(*rows)
    document = taken.to_document()
    assert taken.mismatches == mismatches
    assert document["lag"]["reported_mismatch"] is bool(mismatches)
    assert document["p0"] == p0
    assert document["partition"][0]["lag"] == rows[0].lag


def test_without_a_commit_the_whole_log_is_no_lag() -> None:
    """What a tool prints there is in no sum, whatever it is."""
    document = snapshot(row(0, None, 100, 100), row(1, None, 9, -1)).to_document()
    assert lags(document) == {"total": None, "max": None, "max_partition": None}
    assert document["partitions"] == {"total": 2, "uncommitted": 2, "negative": 0}


def test_the_worst_partition_is_the_first_of_those_with_the_same_lag() -> None:
    """Equal lags name the lowest partition, so that the figure doesn't jump."""
    assert snapshot(row(0, 1, 1, 0), row(1, 1, 6, 5), row(2, 1, 6, 5)).lag_max_partition == 1


def test_topics_outside_the_configuration_are_named_only_when_it_is_known() -> None:
    """No configuration is not the same as no unconfigured topic."""
    known = snapshot(row(0, 1, 1, 0), unconfigured=("new",)).to_document()
    assert known["unconfigured_topics"] == ["new"]
    assert snapshot(row(0, 1, 1, 0), unconfigured=()).to_document()["unconfigured_topics"] == []
    assert "unconfigured_topics" not in snapshot(row(0, 1, 1, 0)).to_document()


def test_a_failure_names_topics_outside_the_configuration_too() -> None:
    """A topic that took another's place would otherwise show nowhere."""
    failure = TopicFailure("oasis", "g", "orders", TAKEN_AT, "TopicNotInGroup", "No.", ("new",))
    assert failure.to_document()["unconfigured_topics"] == ["new"]


def test_a_failure_has_a_reason_and_no_figure() -> None:
    """A failure's document can't be mistaken for a lag of zero."""
    failure = TopicFailure("oasis", "oasis-group", "orders", TAKEN_AT, "GroupNotFound", "No group.")
    assert failure.to_document() == {
        "@timestamp": "2026-11-22T13:35:04.250000+00:00",
        "topic": "orders",
        "mirror": "oasis",
        "group": "oasis-group",
        "error": {"type": "GroupNotFound", "message": "No group."},
    }


offsets = st.none() | st.integers(0, 2**63 - 1)
texts = st.none() | st.text(min_size=1)


@given(
    partitions=st.dictionaries(
        st.integers(0, 999),
        st.tuples(offsets, offsets, st.none() | st.integers(-(2**63), 2**63 - 1), texts),
        min_size=1,
    ),
    missing=st.none() | st.sets(st.integers(1000, 1010)).map(lambda ids: tuple(sorted(ids))),
    changed=st.sampled_from([None, "grew", "shrank", "recreated"]),
)
def test_a_document_reads_back_as_the_snapshot_it_was_made_from(
    partitions: dict[int, tuple[int | None, int | None, int | None, str | None]],
    missing: tuple[int, ...] | None,
    changed: Changed | None,
) -> None:
    """Nothing is lost or changed between a snapshot, its document and a reader."""
    rows = [
        PartitionLag("orders", number, committed, end, lag, consumer, None, None)
        for number, (committed, end, lag, consumer) in sorted(partitions.items())
    ]
    taken = replace(snapshot(*rows), missing=missing, changed=changed)
    assert TopicSnapshot.from_document(taken.to_document()) == taken
