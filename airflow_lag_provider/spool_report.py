"""What the spool holds, for people: nothing is locked, changed or sent by looking at it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry, FileName
from airflow_lag_provider.spool_file import is_owned
from airflow_lag_provider.spool_stranded import stranded

_MOST_REASONS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one file holds.

    :param alive: whether a process owns it.
    :param conn_ids: the connections of its documents.
    :param oldest: ``@timestamp`` of the oldest document, ISO 8601; empty when there is none.
    :param torn: lines that are no documents.
    :param reasons: why documents were refused, with how many.
    """

    path: Path
    name: FileName
    alive: bool
    bytes: int
    documents: int
    conn_ids: tuple[str, ...]
    oldest: str
    torn: int
    reasons: Counter[str]


def look(spool: Spool) -> list[Seen]:
    """Return what each file of the spool holds, the oldest file first.

    :raises SpoolUnusable: the directory can't be read.
    """
    return [seen for path in spool.files() for seen in _look_at(path)]


def text(spool: Spool) -> str:
    """Return what ``airflow-lag spool`` prints.

    :raises SpoolUnusable: the directory can't be read.
    """
    seen = look(spool)
    return "".join(f"{line}\n" for line in _lines(spool, seen))


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _lines(spool: Spool, seen: Sequence[Seen]) -> Iterator[str]:
    waiting = [one for one in seen if one.name.kind == "waiting"]
    refused = [one for one in seen if one.name.kind == "refused"]
    used, letters = spool.used_bytes(), spool.used_bytes("refused")
    yield f"The spool {spool.directory} holds {used} of at most {spool.max_bytes} bytes."
    yield f"Waiting: {_count(waiting)}"
    yield from map(_line, waiting)
    yield from (f"  {one}" for one in stranded(spool, now=time.time()))
    yield f"Refused by Elasticsearch: {_count(refused)}"
    if refused:
        yield f"  They hold {letters} of at most {spool.limit('refused')} bytes."
    yield from map(_line, refused)
    reasons = sum((one.reasons for one in refused), Counter[str]())
    for reason, count in reasons.most_common(_MOST_REASONS):
        yield f"  {count} because: {reason}"
    if len(reasons) > _MOST_REASONS:
        yield f"  and {len(reasons) - _MOST_REASONS} other reasons, which stand in the files"
    for path in sorted(spool.directory.glob("*.torn")):
        yield f"Torn lines, which are no documents: {path.name}"
    dropped = spool.dropped()
    if dropped.documents:
        yield (
            f"Lost, because the spool was full: "
            f"{counted(dropped.documents, 'document')} between "
            f"{dropped.first} and {dropped.last}"
        )


def _count(seen: Sequence[Seen]) -> str:
    documents = sum(one.documents for one in seen)
    if not documents:
        return "nothing"
    oldest = min(one.oldest for one in seen if one.oldest)
    files = counted(len(seen), "file")
    return f"{counted(documents, 'document')} in {files}, the oldest of {oldest}"


def _line(seen: Seen) -> str:
    owner = (
        f"process {seen.name.pid} on {seen.name.host} owns it"
        if seen.alive
        else "its owner is gone"
    )
    torn = f", {counted(seen.torn, 'torn line')}" if seen.torn else ""
    connections = ", ".join(seen.conn_ids) or "no connection"
    return (
        f"  {seen.path.name}: {counted(seen.documents, 'document')} for {connections}, "
        f"oldest {seen.oldest or 'none'}, {seen.bytes} bytes{torn}, {owner}"
    )


def _look_at(path: Path) -> Iterator[Seen]:
    name = FileName.parse(path.name)
    try:
        alive, content = is_owned(path), path.read_bytes()
    except FileNotFoundError:
        # It was sent, or taken over under another name, a moment ago.
        return
    entries, torn = _parsed(content)
    if name:
        yield Seen(
            path=path,
            name=name,
            alive=alive,
            bytes=len(content),
            documents=len(entries),
            conn_ids=tuple(dict.fromkeys(one.conn_id for one in entries)),
            oldest=min((str(one.source.get("@timestamp", "")) for one in entries), default=""),
            torn=torn,
            reasons=Counter(one.reason for one in entries if one.reason),
        )


def _parsed(content: bytes) -> tuple[list[Entry], int]:
    entries, torn = [], 0
    for line in content.splitlines(keepends=True):
        try:
            entries.append(Entry.from_line(line))
        except ValueError:
            torn += 1
    return entries, torn
