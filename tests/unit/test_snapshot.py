"""Snapshots, failures and the documents made from them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from airflow_lag_provider.snapshot import PartitionLag, TopicFailure, TopicSnapshot

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
        "lag": {"total": 10, "max": 10, "max_partition": 0},
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
    assert document["lag"] == {"total": 2, "max": 2, "max_partition": 1}
    assert document["partitions"]["uncommitted"] == 1
    assert document["offsets"] == {"committed": 7, "end": 9}


def test_a_topic_that_nobody_ever_committed_has_no_lag_at_all() -> None:
    """Without any known lag the totals are null, not zero."""
    document = snapshot(row(0, None, 100, None), row(1, None, None, None)).to_document()
    assert document["lag"] == {"total": None, "max": None, "max_partition": None}
    assert document["offsets"] == {"committed": None, "end": None}


def test_a_commit_beyond_the_end_stays_visible_and_hides_no_other_lag() -> None:
    """A negative lag is kept as it was printed, counted, and worth nothing in the sums."""
    document = snapshot(row(0, 100_000, 50, -99_950), row(1, 10, 67, 57)).to_document()
    assert document["p0"] == -99_950
    assert document["partitions"]["negative"] == 1
    assert document["lag"] == {"total": 57, "max": 57, "max_partition": 1}


def test_the_worst_partition_is_the_first_of_those_with_the_same_lag() -> None:
    """Equal lags name the lowest partition, so that the figure doesn't jump."""
    assert snapshot(row(0, 1, 1, 0), row(1, 1, 6, 5), row(2, 1, 6, 5)).lag_max_partition == 1


def test_topics_outside_the_configuration_are_named_only_when_it_is_known() -> None:
    """No configuration is not the same as no unconfigured topic."""
    known = snapshot(row(0, 1, 1, 0), unconfigured=("new",)).to_document()
    assert known["unconfigured_topics"] == ["new"]
    assert snapshot(row(0, 1, 1, 0), unconfigured=()).to_document()["unconfigured_topics"] == []
    assert "unconfigured_topics" not in snapshot(row(0, 1, 1, 0)).to_document()


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
    )
)
def test_a_document_reads_back_as_the_snapshot_it_was_made_from(
    partitions: dict[int, tuple[int | None, int | None, int | None, str | None]],
) -> None:
    """Nothing is lost or changed between a snapshot, its document and a reader."""
    rows = [
        PartitionLag("orders", number, committed, end, lag, consumer, None, None)
        for number, (committed, end, lag, consumer) in sorted(partitions.items())
    ]
    taken = snapshot(*rows)
    assert TopicSnapshot.from_document(taken.to_document()) == taken
