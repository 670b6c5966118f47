"""The chaos run: parts are stopped, hung and killed at random, and nothing may be wrong or lost.

``python -m lab chaos`` prints its seed first; ``--seed`` repeats the same faults.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.chaos_check import MINUTE, Hit
from lab.chaos_faults import Chaos, Outage, Say
from lab.chaos_plan import plan
from lab.chaos_records import MIRROR, Records
from lab.chaos_report import Evidence, Verdict, judge
from lab.chaos_stage import GROUP, PARTITIONS, Stage, topic_names
from lab.laboratory import Laboratory
from lab.workspace import REPOSITORY

LOGS = REPOSITORY / ".lab" / "chaos"
"""Where the logs of all parts and the evidence stay, unless told otherwise, until the next run."""

# The faults begin so long before a minute, which is the first one that counts.
_BEFORE = timedelta(seconds=5)
# How long after the last minute its runs may take: Airflow gives up a try after 110 s.
_SETTLE = timedelta(seconds=300)
# Younger minutes are not listed by `airflow-lag gaps`.
_UNDER_WAY = timedelta(minutes=3, seconds=1)
_POLL_SECONDS = 3.0


def run(*, minutes: int, seed: int, topics: int, say: Say, logs: Path) -> Verdict:
    """Run a laboratory with faults for some minutes, and judge what it left behind.

    :param seed: the same seed and number of minutes bring the same faults.
    :param topics: how many topics are watched.
    :param say: told what happens, line by line.
    :param logs: where the logs of all parts stay, with the evidence; emptied at first.
    :raises LabError: a part doesn't come up, or has ended by itself.
    """
    say(f"seed {seed}")
    faults = plan(seed, seconds=60 * minutes)
    shutil.rmtree(logs, ignore_errors=True)
    names = topic_names(topics)
    with (
        Laboratory(
            progress=say,
            mirrormaker_restarts=True,
            producer=False,
            sshd=False,
            openssh=True,
            group=GROUP,
            topics=names,
            partitions=PARTITIONS,
            logs=logs,
        ) as lab,
        Stage(lab, say=say) as stage,
    ):
        first = _full_minute(datetime.now(UTC) + _BEFORE) + MINUTE
        _sleep_until(first - _BEFORE)
        say(f"{len(faults)} faults in {minutes} minutes; the first minute is {first:%H:%M} (UTC)")
        outages = Chaos(stage.targets(), say=say).carry_out(faults)
        _sleep_until(first - _BEFORE + minutes * MINUTE)
        stage.check_all_run()
        last = _full_minute(datetime.now(UTC))
        evidence = _evidence(stage, names, first, last, outages, say)
    _keep(evidence, logs / "evidence.json")
    return judge(evidence)


def _evidence(
    stage: Stage,
    topics: Sequence[str],
    first: datetime,
    last: datetime,
    outages: Sequence[Outage],
    say: Say,
) -> Evidence:
    records = stage.records
    say(f"the last minute is {last:%H:%M} (UTC); waiting for what is under way")
    left_open = _settled(records, first, last, say)
    _sleep_until(last + MINUTE + _UNDER_WAY)
    lacking = records.gaps(first, last)
    return Evidence(
        mirror=MIRROR,
        topics=topics,
        minutes=[first + n * MINUTE for n in range(int((last - first) / MINUTE) + 1)],
        runs=records.runs(first, last),
        hits=[hit for hit in records.hits() if first <= hit.due <= last or _is_odd(hit)],
        lacking=lacking,
        readings=stage.reader.readings(),
        outages=outages,
        left_open=[*left_open, *records.lost(), *stage.gone_clients()],
    )


def _settled(records: Records, first: datetime, last: datetime, say: Say) -> list[str]:
    """Wait until everything has ended; return what has not when the time is over."""
    before: list[str] = []
    while left_open := records.left_open(first, last):
        if left_open != before:
            say("; ".join(left_open))
            before = left_open
        if datetime.now(UTC) > last + MINUTE + _SETTLE:
            return left_open
        time.sleep(_POLL_SECONDS)
    say("all runs have ended, and nothing waits in the spool")
    return []


def _is_odd(hit: Hit) -> bool:
    return bool(hit.source["airflow"]["run_type"] != "scheduled")


def _keep(evidence: Evidence, file: Path) -> None:
    file.write_text(json.dumps(asdict(evidence), default=str, indent=1), encoding="utf-8")


def _full_minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _sleep_until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))
