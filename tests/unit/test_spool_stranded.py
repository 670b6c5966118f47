"""What waits for a connection that nobody writes to any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry
from airflow_lag_provider.spool_file import SpoolFile
from airflow_lag_provider.spool_stranded import STRANDED_SECONDS, stranded

AGES_AGO = 2 * STRANDED_SECONDS


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", max_bytes=10**9)
    spool.prepare()
    return spool


def waits(
    spool: Spool, conn_id: str, *, seconds: float = AGES_AGO, kind: str = "waiting"
) -> SpoolFile:
    """Let a document wait since then; the file has an owner until it is closed."""
    file = SpoolFile.create(spool.directory, conn_id=conn_id, kind=kind)  # type: ignore[arg-type]
    entry = Entry(conn_id=conn_id, index="lag", id="1", version=1, source={"topic": "orders"})
    file.append([entry])
    os.utime(file.path, (time.time() - seconds,) * 2)
    return file


def test_what_nobody_adds_to_and_nobody_owns_is_named(spool: Spool) -> None:
    """Its connection, since when, and what to do; as one thing, however many files."""
    for _ in range(3):
        waits(spool, "renamed").close()
    (one,) = stranded(spool, now=time.time())
    assert (one.conn_id, one.files) == ("renamed", 3)
    assert abs(one.since.timestamp() - (time.time() - AGES_AGO)) < 60
    for words in ("connection 'renamed'", "files: 3", "airflow-lag spool --flush", "same id"):
        assert words in str(one)


@pytest.mark.parametrize(
    "life",
    [
        lambda spool: waits(spool, "used", seconds=STRANDED_SECONDS / 2).close(),
        lambda spool: waits(spool, "used"),
    ],
    ids=["a document that came a moment ago", "a file that a living process owns"],
)
def test_a_connection_that_somebody_has_to_do_with_is_not_named(
    spool: Spool, life: Callable[[Spool], SpoolFile | None]
) -> None:
    """Whoever adds documents to one of its files, or sends them, sends the others too."""
    waits(spool, "used").close()
    living = life(spool)
    assert stranded(spool, now=time.time()) == ()
    if living:
        living.close()
        assert len(stranded(spool, now=time.time())) == 1


def test_neither_the_callers_own_connection_nor_refused_documents_are_named(spool: Spool) -> None:
    """The one it sends itself in a moment; the others nobody ever sends by himself."""
    waits(spool, "mine").close()
    waits(spool, "other", kind="refused").close()
    assert stranded(spool, now=time.time(), beside="mine") == ()


def test_a_file_without_a_document_strands_nothing(spool: Spool) -> None:
    """An owner that was killed at once leaves an empty one, or half a line."""
    for content in (b"", b"half a li"):
        file = waits(spool, "killed")
        file.path.write_bytes(content)
        os.utime(file.path, (time.time() - AGES_AGO,) * 2)
        file.close()
    assert stranded(spool, now=time.time()) == ()
