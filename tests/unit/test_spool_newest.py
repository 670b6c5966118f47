"""What the documents in the spool tell of their topics' newest snapshots."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider import spool_newest as module
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry
from airflow_lag_provider.spool_newest import newest_snapshots

DUE = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
SERIES = ("oasis", "g", "orders")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", max_bytes=10**9)


def snapshot(
    minute: int, *, index: str | None = None, run_type: str = "scheduled", **changes: Any
) -> Entry:
    """Return a topic's document of a minute; it has as many partitions as its minute's number."""
    due = DUE + timedelta(minutes=minute)
    source = {
        "@timestamp": (due + timedelta(seconds=3)).isoformat(),
        "mirror": "oasis",
        "group": "g",
        "topic": "orders",
        "group_state": "empty",
        "partition": [{"id": n, "end": 5, "consumer": None} for n in range(minute)],
        "partitions": {"total": minute, "missing": 0},
        "event": {"outcome": "success"},
        "airflow": {"run_type": run_type, "scheduled_at": due.isoformat()},
        **changes,
    }
    index = index or f"lag-{due:%Y}"
    return Entry(conn_id="es", index=index, id=f"{minute}", version=1, source=source)


def newest(spool: Spool) -> dict[tuple[str, str, str], int]:
    """Return how many partitions the newest snapshots have."""
    found = newest_snapshots(spool, conn_id="es", index="lag-%Y")
    for one in found.values():
        assert one.shape.at == one.due + timedelta(seconds=3)
    return {series: len(one.shape.ends) for series, one in found.items()}


def test_the_newest_of_each_topic_is_found_wherever_it_waits(spool: Spool) -> None:
    """In any file, in any order, over the change of an index's date, and owned by anybody."""
    spool.append([snapshot(3), snapshot(1), snapshot(2, topic="clicks")])
    other = Spool(spool.directory, max_bytes=10**9)
    other.append([snapshot(4), snapshot(0)])
    assert newest(spool) == {SERIES: 4, ("oasis", "g", "clicks"): 2}
    assert len(spool.files()) == 2
    other.release()
    spool.release()


def test_only_what_is_compared_with_counts(spool: Spool) -> None:
    """No failure, no run by hand, no other index, none whose own history was unknown."""
    spool.append(
        [
            snapshot(1),
            snapshot(2, run_type="manual"),
            snapshot(3, index="lag"),
            snapshot(4, partitions={"total": 4}),
            Entry(conn_id="es", index="lag-2027", id="5", version=1, source={"topic": "orders"}),
        ]
    )
    spool.append([snapshot(6)], kind="refused")
    spool.release()
    with spool.files(kind="waiting")[0].open("ab") as file:
        file.write(snapshot(7).to_line()[:-9])
    assert newest(spool) == {SERIES: 1}


def test_without_a_spool_there_is_nothing(spool: Spool) -> None:
    """Looking makes no directory."""
    assert newest(spool) == {}
    assert not spool.directory.exists()


def test_of_a_large_spool_the_files_written_last_are_read(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came long ago costs no time, whichever file it is in."""
    others = [Spool(spool.directory, max_bytes=10**9) for _ in range(3)]
    for minute, one in enumerate(others, start=1):
        one.append([snapshot(minute, topic=f"t{minute}")])
    for path, age in zip(spool.files(), (0, 200, 100), strict=True):
        os.utime(path, (1e9 - age,) * 2)
    monkeypatch.setattr(module, "MOST_BYTES", spool.used_bytes() // 2)
    assert {topic for _, _, topic in newest(spool)} == {"t1", "t3"}
    for one in others:
        one.release()
