"""What ``airflow-lag gaps`` prints: a table, or JSON for another program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from airflow_lag_provider.gaps import Missing

_HEAD = ("MIRROR", "TOPIC", "WHAT", "FIRST", "LAST", "MINUTES", "WHY")


def text(missing: Sequence[Missing], *, start: datetime, end: datetime, note: str | None) -> str:
    """Return the table, with a sentence below it.

    :param start: the first instant that was looked at, and `end`, before which the last one lies.
    :param note: what could not be asked or read, ``None`` when all could.
    """
    rows = [_HEAD, *map(_row, missing)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in (rows if missing else [])
    ]
    gaps, failures = (
        sum(one.instants for one in missing if one.kind == kind) for kind in ("gap", "failure")
    )
    span = f"From {_instant(start)} to {_instant(end)} (UTC)"
    lines += [
        *([""] if missing else []),
        f"{span}: {gaps} without a document, {failures} with a failure, over all topics.",
        *([note] if note else []),
    ]
    return "\n".join(lines) + "\n"


def as_json(missing: Sequence[Missing], *, start: datetime, end: datetime, note: str | None) -> str:
    """Return the same as one JSON object, times in ISO 8601."""
    report = {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "missing": [
            {**asdict(one), "first": one.first.isoformat(), "last": one.last.isoformat()}
            for one in missing
        ],
        "note": note,
    }
    return json.dumps(report, indent=2) + "\n"


def _row(one: Missing) -> tuple[str, ...]:
    return (
        one.mirror,
        one.topic,
        one.kind,
        _instant(one.first),
        _instant(one.last),
        str(one.instants),
        one.reason,
    )


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
