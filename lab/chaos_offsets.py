"""Judges the figures of a chaos run's snapshots by an independent client's readings. Pure.

What a document says is counted anew here from its rows, apart from the code that wrote it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lab.chaos_check import RECOVERY, Hit
from lab.chaos_faults import Outage
from lab.demo_snapshots import Reading, Taken, around, mistakes

# A reading is made every 1.5 s; a request of it may take its time-out, 10 s, more than once.
_UNREAD = timedelta(seconds=30)
# And in between lies a run, which takes a few seconds when nothing is at fault.
_APART = timedelta(seconds=60)
# What no reading is made without, and what makes a snapshot late.
_FOR_READINGS = frozenset({"broker"})
_FOR_SNAPSHOTS = frozenset({"broker", "sshd", "triggerer", "scheduler"})


@dataclass(frozen=True, slots=True)
class Compared:
    """Snapshots against the independent client's readings.

    :param snapshots: how many were compared, and `offsets`, how many offsets of theirs.
    :param unchecked: how many had no reading before or after them; each is a finding.
    :param findings: what can't have been so, and what could not be told.
    """

    snapshots: int
    offsets: int
    unchecked: int
    findings: tuple[str, ...]


def between_readings(
    hits: Iterable[Hit], readings: Iterable[Reading], outages: Sequence[Outage]
) -> Compared:
    """Compare each offset of each snapshot with what was read before and after it.

    :param outages: what may keep those two readings apart.
    """
    by_topic: defaultdict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_topic[reading.topic].append(reading)
    findings: list[str] = []
    snapshots = offsets = unchecked = 0
    for hit in hits:
        if not hit.is_snapshot:
            continue
        taken = Taken.from_document(hit.source)
        findings += [f"{hit}: {words}" for words in untrue(hit.source)]
        pair = around(taken, by_topic[hit.topic])
        if pair is None:
            unchecked += 1
            # Reading began before the first run and went on after the last one.
            findings.append(f"{hit}: no reading on both sides of it")
            continue
        snapshots += 1
        offsets += 2 * len(taken.snapshot.partitions)
        findings += [f"{hit}: {words}" for words in mistakes(taken.snapshot, *pair)]
        findings += [f"{hit}: {words}" for words in _too_far_apart(taken, *pair, outages)]
    return Compared(snapshots, offsets, unchecked, tuple(findings))


def standing_still(topics: Iterable[str], readings: Sequence[Reading]) -> list[str]:
    """Return the partitions whose end did not grow, so that any old snapshot of it is right."""
    findings = []
    for topic in topics:
        own = [reading.offsets for reading in readings if reading.topic == topic]
        if not own:
            findings.append(f"{topic}: was never read")
            continue
        findings += [
            f"{topic}: the end of partition {number} did not grow from {first.end}"
            for number, first in own[0].items()
            if number in own[-1] and own[-1][number].end <= first.end
        ]
    return findings


def untrue(source: Mapping[str, Any]) -> list[str]:
    """Return what a snapshot says that its own rows don't, or that nobody has done."""
    rows = source["partition"]
    lags = {row["id"]: None if row["committed"] is None else row["lag"] for row in rows}
    findings = [
        f"{name} is {source.get(name)}, and the partition's lag {lag}"
        for name, lag in ((f"p{number}", lag) for number, lag in lags.items())
        if source.get(name, "absent") != lag
    ]
    fields = {name for name in source if re.fullmatch(r"p\d+", name)}
    findings += [
        f"{name} is there, and no such partition"
        for name in sorted(fields - {f"p{number}" for number in lags})
    ]
    for name, right in _from_rows(rows, lags).items():
        field, _, key = name.partition(".")
        said = source.get(field, {}).get(key, "absent")
        if said != right:
            findings.append(f"{name} is {said}, and by its rows {right}")
    if missing := source["partitions"].get("missing"):
        findings.append(f"it says that {missing} partitions are missing, which nobody took")
    if changed := source["partitions"].get("changed"):
        findings.append(f"it says that the topic {changed}, which nobody touched")
    return findings


def _from_rows(rows: Sequence[Mapping[str, Any]], lags: Mapping[int, int | None]) -> dict[str, Any]:
    """Return the fields that sum up the rows, as the README's table has them."""
    behind = [max(lag, 0) for lag in lags.values() if lag is not None]
    whole = [row for row in rows if row["committed"] is not None and row["end"] is not None]
    return {
        "lag.total": sum(behind) if behind else None,
        "lag.max": max(behind) if behind else None,
        # The tool takes one from the other, so nothing else can come of it.
        "lag.reported_mismatch": False,
        "offsets.committed": sum(row["committed"] for row in whole) if whole else None,
        "offsets.end": sum(row["end"] for row in whole) if whole else None,
        "partitions.total": len(rows),
        "partitions.uncommitted": len([row for row in rows if row["committed"] is None]),
        "partitions.negative": len([lag for lag in lags.values() if lag is not None and lag < 0]),
    }


def _too_far_apart(
    taken: Taken, before: Reading, after: Reading, outages: Sequence[Outage]
) -> list[str]:
    """Return why two readings prove little: no fault explains that they lie so far apart."""
    since, until = before.ended, after.began
    due, described = taken.scheduled_at, taken.snapshot.taken_at
    unread = (due - since) + (until - described)
    broker = _covered(outages, _FOR_READINGS, since, due) + _covered(
        outages, _FOR_READINGS, described, until
    )
    faults = _covered(outages, _FOR_SNAPSHOTS, since, until)
    findings = []
    if unread > _UNREAD + broker:
        findings.append(
            f"for {_seconds(unread)} around it nothing was read; the broker's faults explain"
            f" {_seconds(broker)}"
        )
    if until - since > _APART + faults:
        findings.append(
            f"its readings lie {_seconds(until - since)} apart; faults explain {_seconds(faults)}"
        )
    return findings


def _covered(
    outages: Iterable[Outage], parts: frozenset[str], since: datetime, until: datetime
) -> timedelta:
    """Return how much of a time faults of some parts take, with the parts' recovery."""
    total = timedelta(0)
    for outage in sorted(outages, key=lambda one: one.began):
        if outage.fault.part in parts:
            begin = max(since, outage.began)
            end = min(until, outage.well + RECOVERY[outage.fault.part])
            if end > begin:
                total += end - begin
                # The next one counts from here on.
                since = end
    return total


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
