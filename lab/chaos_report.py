"""What a chaos run says in the end: counts, what was missed and why, and its findings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lab.chaos_check import (
    Hit,
    Lacking,
    Run,
    cause,
    each_is_listed,
    ended_early,
    one_document_each,
    told,
)
from lab.chaos_faults import Outage
from lab.chaos_offsets import Compared, between_readings, standing_still
from lab.demo_snapshots import Reading

_MOST_FINDINGS = 40
_HEAD = ("DUE", "WHAT", "WHY", "TOPICS", "FAULT")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a chaos run left behind.

    :param topics: all topics, each with a run a minute.
    :param minutes: the instants that are judged.
    :param runs: Airflow's runs of these minutes.
    :param hits: the documents of these minutes, and all that are not of scheduled runs.
    :param lacking: what ``airflow-lag gaps`` lists.
    :param readings: the independent client's.
    :param outages: the faults that were inflicted.
    :param left_open: sentences on what had not ended when the time for settling was over.
    """

    mirror: str
    topics: Sequence[str]
    minutes: Sequence[datetime]
    runs: Sequence[Run]
    hits: Sequence[Hit]
    lacking: Sequence[Lacking]
    readings: Sequence[Reading]
    outages: Sequence[Outage]
    left_open: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """What the evidence comes to.

    :param rows: what was missed, with its reason, each with the fault that explains it.
    :param ended_early: the runs that Airflow ended after their snapshot, each with such a fault.
    """

    evidence: Evidence
    compared: Compared
    rows: tuple[tuple[Lacking, Outage | None], ...]
    ended_early: tuple[tuple[Run, Outage | None], ...]
    findings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def lines(self) -> list[str]:
        """Return the report."""
        evidence, compared = self.evidence, self.compared
        first, last = evidence.minutes[0], evidence.minutes[-1]
        snapshots = sum(hit.is_snapshot for hit in evidence.hits)
        lines = [
            f"{len(evidence.topics)} topics, {len(evidence.minutes)} minutes from {first:%H:%M} to"
            f" {last:%H:%M} (UTC), {len(evidence.outages)} faults",
            f"1. {len(evidence.runs)} runs, {len(evidence.hits)} documents:"
            f" {snapshots} snapshots, {len(evidence.hits) - snapshots} failures;"
            f" {len(self.ended_early)} runs ended by Airflow after their snapshot",
            *(
                f"   ended after its snapshot: {run}, {outage or 'no fault'}"
                for run, outage in self.ended_early[:_MOST_FINDINGS]
            ),
            f"2. {compared.snapshots} snapshots compared with {len(evidence.readings)} readings of"
            f" topics: {compared.offsets} offsets; {compared.unchecked} snapshots without"
            " a reading on both sides",
            f"3. {len(self.rows)} minutes of topics without a snapshot",
            *(f"   {line}" for line in _table(self.rows)),
        ]
        if self.passed:
            return [*lines, "Nothing is wrong."]
        more = len(self.findings) - _MOST_FINDINGS
        return [
            *lines,
            f"FINDINGS: {len(self.findings)}",
            *(f"   {one}" for one in self.findings[:_MOST_FINDINGS]),
            *([f"   and {more} more"] if more > 0 else []),
        ]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a chaos run."""
    compared = between_readings(evidence.hits, evidence.readings, evidence.outages)
    documents = {(hit.topic, hit.due): hit for hit in evidence.hits}
    lacking = [told(one, evidence.runs) for one in evidence.lacking]
    rows = tuple((one, cause(one, documents, evidence.outages)) for one in lacking)
    early = tuple(ended_early(evidence.runs, evidence.hits, evidence.outages))
    findings = [
        *evidence.left_open,
        *one_document_each(evidence.runs, evidence.hits, mirror=evidence.mirror),
        *compared.findings,
        *standing_still(evidence.topics, evidence.readings),
        *each_is_listed(
            evidence.lacking, evidence.hits, topics=evidence.topics, minutes=evidence.minutes
        ),
        *(
            f"{one.topic} {one.due:%H:%M}: {one.kind} without a fault that explains it:"
            f" {one.reason}"
            for one, outage in rows
            if outage is None
        ),
        *(
            f"{run}: ended by Airflow after its snapshot, without a fault that explains it"
            for run, outage in early
            if outage is None
        ),
    ]
    if not compared.snapshots:
        findings.append("No snapshot could be compared with readings.")
    if not evidence.outages:
        findings.append("No fault was inflicted.")
    return Verdict(evidence, compared, rows, early, tuple(findings))


def _table(rows: Iterable[tuple[Lacking, Outage | None]]) -> list[str]:
    """Return the table of what was missed, the topics of a minute with the same reason together."""
    counts = Counter((one.due, one.kind, one.reason, str(outage or "none")) for one, outage in rows)
    if not counts:
        return []
    cells = [
        (f"{due:%H:%M}", kind, reason, str(count), outage)
        for (due, kind, reason, outage), count in sorted(counts.items())
    ]
    widths = [max(len(row[column]) for row in (_HEAD, *cells)) for column in range(len(_HEAD))]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEAD, *cells)
    ]
