"""What the documents that wait in the spool tell of their topics' newest snapshots.

Blocking: on an event loop it is called in threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airflow_lag_provider.history import Shape
from airflow_lag_provider.run import index_name
from airflow_lag_provider.spool_directory import SpoolDirectory
from airflow_lag_provider.spool_entry import Entry

Series = tuple[str, str, str]
"""Mirror, group and topic."""

# The newest documents of all topics are in the files that were written to last; so many bytes of
# them are read, which are a quarter of an hour of 300 topics.
MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a document tells that waits.

    :param due: the scheduled instant of its run, with time zone.
    """

    due: datetime
    shape: Shape


def newest_snapshots(spool: SpoolDirectory, *, conn_id: str, index: str) -> dict[Series, Waiting]:
    """Return what is known after the newest scheduled snapshot of each topic that waits.

    Only those whose own earlier snapshots were known count (``partitions.missing`` is there).

    :param conn_id: of this Airflow connection.
    :param index: and this index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    :raises SpoolUnusable: the directory can't be read.
    """
    newest: dict[Series, Waiting] = {}
    for path in _last_written(spool.files(conn_id=conn_id, kind="waiting")):
        for entry in _entries(path):
            due = _due(entry)
            if due is None or index_name(index, scheduled_at=due) != entry.index:
                continue
            source = entry.source
            series = source["mirror"], source["group"], source["topic"]
            shape = Shape.of_document(source)
            if series not in newest or newest[series].shape.at < shape.at:
                newest[series] = Waiting(due, shape)
    return newest


def _last_written(paths: list[Path]) -> Iterator[Path]:
    found = []
    for path in paths:
        # It was sent, or taken over under another name, a moment ago.
        with suppress(FileNotFoundError):
            found.append((path.stat(), path))
    size = 0
    for status, path in sorted(found, key=lambda one: one[0].st_mtime, reverse=True):
        if size < MOST_BYTES:
            size += status.st_size
            yield path


def _entries(path: Path) -> Iterator[Entry]:
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            # Its owner may be writing it.
            with suppress(ValueError):
                yield Entry.from_line(line)


def _due(entry: Entry) -> datetime | None:
    """Return when a scheduled snapshot's run was due; ``None``: it is none, or can't be compared.

    A failure has no partitions.
    """
    run = entry.source.get("airflow", {})
    if run.get("run_type") != "scheduled" or "missing" not in entry.source.get("partitions", {}):
        return None
    return datetime.fromisoformat(run["scheduled_at"])
