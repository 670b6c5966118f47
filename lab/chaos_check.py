"""Judges what a chaos run left behind: documents against runs and faults. Pure.

A finding is a sentence on something that must not be. Without findings the run has passed, unless
nothing was there to be judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from airflow_lag_provider.run import MAX_ACTIVE_RUNS, document_id
from lab.chaos_faults import Outage

MINUTE = timedelta(minutes=1)
ENDED = frozenset({"success", "failed"})
"""States of a run that is over."""

GAP = "gap"
"""What the reason of a minute without a document is called below."""

FULL = "max_active_runs reached"
"""What `told` adds to the reason of a gap; called so below."""

# What `airflow-lag gaps` says first when Airflow has no run; after it, what other topics have.
_NO_RUN = "no run was made"
# With room for so long the scheduler would have made the run of a minute.
_ROOM = timedelta(seconds=30)
_ENDS_RUNS = frozenset({"scheduler", "triggerer"})

EXPLAINED_BY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        GAP: frozenset({"scheduler"}),
        # A triggerer keeps no run from being made, but those before it from ending.
        FULL: frozenset({"scheduler", "triggerer"}),
        "EndedByAirflow": _ENDS_RUNS,
        # A triggerer that hung can find its own time limits passed.
        "SSHConnectionNotRead": frozenset({"triggerer"}),
        "SSHUnreachable": frozenset({"sshd", "triggerer"}),
        "OutputCutOff": frozenset({"sshd", "triggerer"}),
        "DescribeTimedOut": frozenset({"broker", "sshd", "triggerer"}),
        "DescribeKilled": frozenset({"broker", "sshd"}),
        "BrokerUnreachable": frozenset({"broker"}),
        "BrokerTimedOut": frozenset({"broker"}),
        "CoordinatorNotAvailable": frozenset({"broker"}),
    }
)
"""Faults of which parts make a minute miss for a reason; all other reasons are findings."""

RECOVERY: Mapping[str, timedelta] = MappingProxyType(
    {
        "MirrorMaker": timedelta(0),
        "Elasticsearch": timedelta(0),
        # Its partitions and groups are read from its disk again.
        "broker": timedelta(seconds=30),
        "sshd": timedelta(seconds=15),
        # What it had is given to the next one 30 s after its last sign of life.
        "triggerer": timedelta(seconds=60),
        "scheduler": timedelta(seconds=45),
    }
)
"""How long after a part is well again its fault may still cost a minute."""


@dataclass(frozen=True, slots=True)
class Run:
    """A scheduled run, as Airflow's database has it.

    :param due: the instant it was due.
    :param started_at: its ``start_date``; None before it started.
    :param ended_at: its ``end_date``; None before it ended.
    """

    topic: str
    run_id: str
    due: datetime
    state: str
    started_at: datetime | None
    ended_at: datetime | None = None

    def __str__(self) -> str:
        """Return topic, minute and run."""
        return f"{self.topic} {self.due:%H:%M} ({self.run_id})"


@dataclass(frozen=True, slots=True)
class Hit:
    """A document of the index."""

    id: str
    source: Mapping[str, Any]

    @property
    def topic(self) -> str:
        """Its topic."""
        return str(self.source["topic"])

    @property
    def run_id(self) -> str:
        """The run it belongs to."""
        return str(self.source["airflow"]["run_id"])

    @property
    def due(self) -> datetime:
        """The instant its run was due."""
        return datetime.fromisoformat(self.source["airflow"]["scheduled_at"])

    @property
    def is_snapshot(self) -> bool:
        """Whether it has figures."""
        return bool(self.source["event"]["outcome"] == "success")

    def __str__(self) -> str:
        """Return topic, minute and run."""
        return f"{self.topic} {self.due:%H:%M} ({self.run_id})"


@dataclass(frozen=True, slots=True)
class Lacking:
    """A minute of a topic without a snapshot, as ``airflow-lag gaps`` lists it.

    :param kind: ``gap`` or ``failure``.
    :param reason: of a failure its ``error.type``.
    """

    topic: str
    due: datetime
    kind: str
    reason: str


def one_document_each(runs: Iterable[Run], hits: Iterable[Hit], *, mirror: str) -> list[str]:
    """Return what is wrong between runs and documents: each run has one, each document a run."""
    documents: defaultdict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in hits:
        documents[hit.topic, hit.run_id].append(hit)
    findings = []
    for run in runs:
        findings += _of_run(run, documents.pop((run.topic, run.run_id), []), mirror=mirror)
    # Also those of a run by hand, which nobody made.
    findings += [
        f"{hit}: a document of a run that Airflow doesn't know"
        for some in documents.values()
        for hit in some
    ]
    return findings


def _of_run(run: Run, hits: Sequence[Hit], *, mirror: str) -> list[str]:
    where = str(run)
    findings = [] if run.state in ENDED else [f"{where}: still {run.state}"]
    if len(hits) != 1:
        count = f"{len(hits)} documents" if hits else "no document"
        return [*findings, f"{where}: {count}, and the run is {run.state}"]
    (hit,) = hits
    if hit.due != run.due:
        findings.append(f"{where}: its document says {hit.due.isoformat()}")
    if run.started_at is None or hit.id != document_id(
        mirror=mirror, topic=run.topic, run_id=run.run_id, started_at=run.started_at
    ):
        findings.append(f"{where}: its document's id {hit.id} is another run's")
    if run.state == "success" and not hit.is_snapshot:
        findings.append(f"{where}: the run is green, its document a {_error(hit)}")
    return findings


def each_is_listed(
    lacking: Iterable[Lacking],
    hits: Iterable[Hit],
    *,
    topics: Iterable[str],
    minutes: Sequence[datetime],
) -> list[str]:
    """Return where the list of what is missing differs from the documents."""
    found = {(hit.topic, hit.due): hit for hit in hits}
    listed = {(one.topic, one.due): one for one in lacking}
    findings = []
    for key in [(topic, due) for topic in topics for due in minutes]:
        hit, one = found.pop(key, None), listed.pop(key, None)
        said = "nothing" if one is None else f"{one.kind} {one.reason}"
        if hit is None:
            right = one is not None and one.kind == GAP
        elif hit.is_snapshot:
            right = one is None
        else:
            right = one is not None and (one.kind, one.reason) == ("failure", _error(hit))
        if not right:
            seen = "no document" if hit is None else _error(hit) or "a snapshot"
            findings.append(f"{key[0]} {key[1]:%H:%M}: listed is {said}, there is {seen}")
    return findings + [f"{one.topic} {one.due:%H:%M}: listed and not asked for" for one in
                       listed.values()]  # fmt: skip


def told(one: Lacking, runs: Iterable[Run]) -> Lacking:
    """Return a gap with `FULL` added to its reason where Airflow's runs show that it was so.

    It is when as many runs of the topic as there may be at once were open for half of the minute.
    """
    if one.kind != GAP or not one.reason.startswith(_NO_RUN):
        return one
    freed = one.due + _ROOM
    still_open = sum(
        run.topic == one.topic
        and run.due < one.due
        and (run.ended_at is None or run.ended_at > freed)
        for run in runs
    )
    return one if still_open < MAX_ACTIVE_RUNS else replace(one, reason=f"{one.reason}; {FULL}")


def ended_early(
    runs: Iterable[Run], hits: Iterable[Hit], outages: Sequence[Outage]
) -> list[tuple[Run, Outage | None]]:
    """Return the runs that Airflow ended, red, after their snapshot was written.

    Each with the first fault of scheduler or triggerer between the instant it was due and its end.
    """
    snapshots = {(hit.topic, hit.run_id) for hit in hits if hit.is_snapshot}
    return [
        (run, _first(outages, _ENDS_RUNS, run.due, run.ended_at or run.due + MINUTE))
        for run in runs
        if run.state == "failed" and (run.topic, run.run_id) in snapshots
    ]


def cause(one: Lacking, hits: Mapping[tuple[str, datetime], Hit], outages: Iterable[Outage]
          ) -> Outage | None:  # fmt: skip
    """Return the first fault that explains why a minute is missing; None when none does.

    It is one of a part that can make it miss for this reason, between the instant it was due and
    the time of its document, or the next minute where there is none.

    :param one: as `told` returns it: a triggerer explains a gap only where the reason says that
        no more runs were allowed.
    :param hits: the documents by topic and minute.
    """
    parts = EXPLAINED_BY.get(_key(one), frozenset())
    hit = hits.get((one.topic, one.due))
    until = datetime.fromisoformat(hit.source["@timestamp"]) if hit else one.due + MINUTE
    return _first(outages, parts, one.due, until)


def _key(one: Lacking) -> str:
    """Return what the reason of a minute without a snapshot is called in `EXPLAINED_BY`."""
    if one.kind != GAP:
        return one.reason
    if not one.reason.startswith(_NO_RUN):
        # A run without a document, a DAG that is paused or gone: no fault does that.
        return ""
    return FULL if one.reason.endswith(FULL) else GAP


def _first(
    outages: Iterable[Outage], parts: frozenset[str], since: datetime, until: datetime
) -> Outage | None:
    """Return the first fault of some parts that lies, with their recovery, within a time."""
    return next(
        (
            outage
            for outage in outages
            if outage.fault.part in parts
            and outage.began <= until
            and outage.well + RECOVERY[outage.fault.part] >= since
        ),
        None,
    )


def _error(hit: Hit) -> str:
    return "" if hit.is_snapshot else str(hit.source["error"]["type"])
