"""Documents that wait for a connection to which nothing on this host may write any more.

What waits is sent by whoever next writes to the same connection. Once the configuration names
another one, that is nobody; so it is said where people look, and they decide.

Blocking: on an event loop it is called in threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airflow_lag_provider.spool_directory import SpoolDirectory
from airflow_lag_provider.spool_entry import Entry, FileName, connection_key
from airflow_lag_provider.spool_file import is_owned

STRANDED_SECONDS = 600.0
"""After so long without a new document, where runs come each minute, it is said."""


@dataclass(frozen=True, slots=True)
class Stranded:
    """What waits for a connection without anybody who sends it.

    :param conn_id: id of the Airflow connection.
    :param files: in how many files.
    :param since: when the last document came, with time zone.
    """

    conn_id: str
    files: int
    since: datetime

    def __str__(self) -> str:
        """Return what a person should know and do."""
        return (
            f"Documents wait for connection {self.conn_id!r} (files: {self.files}), and none has "
            f"come since {self.since:%Y-%m-%d %H:%M} UTC. If nothing writes to it any more, nobody "
            "sends them but `airflow-lag spool --flush`; where Airflow has no such connection any "
            "more, make it again under the same id until they are sent."
        )


def stranded(
    spool: SpoolDirectory, *, now: float, beside: str | None = None
) -> tuple[Stranded, ...]:
    """Return for which connections documents wait that no living process has to do with.

    :param now: seconds since 1970.
    :param beside: a connection that somebody writes to.
    :raises SpoolUnusable: the directory can't be read.
    """
    by_connection: defaultdict[str, list[Path]] = defaultdict(list)
    for path in spool.files(kind="waiting"):
        if name := FileName.parse(path.name):
            by_connection[name.connection].append(path)
    if beside is not None:
        by_connection.pop(connection_key(beside), None)
    found = (_stranded(paths, now) for paths in by_connection.values())
    return tuple(one for one in found if one)


def _stranded(paths: Sequence[Path], now: float) -> Stranded | None:
    times = []
    for path in paths:
        # Another process may have sent it, or taken it over, a moment ago.
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
            if now - times[-1] < STRANDED_SECONDS or is_owned(path):
                return None
    conn_id = next(filter(None, map(_conn_id, paths)), None)
    if conn_id is None:
        return None
    return Stranded(conn_id, len(times), datetime.fromtimestamp(max(times), UTC))


def _conn_id(path: Path) -> str | None:
    """Return whose documents are in a file, ``None`` where its first line is none."""
    with suppress(FileNotFoundError, ValueError), path.open("rb") as file:
        return Entry.from_line(file.readline()).conn_id
    return None
