"""What a chaos run leaves behind: documents, Airflow's runs, the spool, the list of gaps."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from lab.airflow import Airflow
from lab.chaos_check import ENDED, MINUTE, Hit, Lacking, Run
from lab.errors import LabError
from lab.laboratory import Laboratory
from lab.postgresql import rows

INDEX = "consumer_lag"
"""The index of the documents."""

MIRROR = "chaos"
"""The mirror, by its name in mirrors.yaml."""

# Elasticsearch gives so many documents at once: those of a topic in a week.
_MOST_HITS = 10_000
_RUNS = (
    "select dag_id, run_id, data_interval_end, state, start_date, end_date from dag_run"
    " where data_interval_end >= :first and data_interval_end <= :last"
)


class Records:
    """Reads the records of a laboratory in which an Airflow watches a mirror.

    :param database: SQLAlchemy URL of Airflow's database.
    :param spool: its ``spool_dir``.
    """

    def __init__(self, lab: Laboratory, airflow: Airflow, *, database: str, spool: Path) -> None:
        self._elasticsearch = lab.elasticsearch
        self._topics = {f"consumer_lag.{MIRROR}.{topic}": topic for topic in lab.topics}
        self._airflow = airflow
        self._database = database
        self._spool = spool

    def hits(self) -> list[Hit]:
        """Return all documents.

        :raises LabError: they can't be read, or there are too many.
        """
        self._elasticsearch.request("POST", f"/{INDEX}/_refresh")
        found: list[Hit] = []
        for topic in self._topics.values():
            body = {"size": _MOST_HITS, "query": {"term": {"topic": topic}}}
            answer = self._elasticsearch.request("POST", f"/{INDEX}/_search", body, timeout=30)
            hits = answer["hits"]["hits"]
            if len(hits) == _MOST_HITS:
                raise LabError(f"{topic} has more than {_MOST_HITS} documents")
            found += [Hit(hit["_id"], hit["_source"]) for hit in hits]
        return found

    def runs(self, first: datetime, last: datetime) -> list[Run]:
        """Return Airflow's runs, of any type, that were due from one instant to another."""
        return [
            Run(self._topics[dag_id], run_id, due.astimezone(UTC), str(state), started_at, ended_at)
            for dag_id, run_id, due, state, started_at, ended_at in rows(
                self._database, _RUNS, first=first, last=last
            )
        ]

    def lost(self) -> list[str]:
        """Return a sentence for each thing in the spool that will not be sent any more."""
        refused = [file.name for file in sorted(self._spool.glob("*.refused.jsonl"))]
        words = [f"The spool keeps what Elasticsearch refused: {name}" for name in refused]
        if (self._spool / "dropped.json").exists():
            words.append("The spool had no room for some documents")
        return words

    def left_open(self, first: datetime, last: datetime) -> list[str]:
        """Return a sentence for each thing that has not ended yet.

        :param first: the first instant whose runs count, and `last`, the last one.
        """
        try:
            runs = self.runs(first, last)
            documents = {(hit.topic, hit.run_id) for hit in self.hits()}
        except LabError as error:
            return [f"The records can't be read: {error}"]
        under_way = Counter(run.state for run in runs if run.state not in ENDED)
        without = sum(
            run.state in ENDED and (run.topic, run.run_id) not in documents for run in runs
        )
        waiting = [file.name for file in self._spool.glob("*.waiting.jsonl") if file.stat().st_size]
        return [
            *(f"{count} runs are {state}" for state, count in sorted(under_way.items())),
            *([f"{without} runs have ended without a document"] if without else []),
            *([f"{len(waiting)} files of the spool wait to be sent"] if waiting else []),
        ]

    def gaps(self, first: datetime, last: datetime) -> list[Lacking]:
        """Return what ``airflow-lag gaps`` lists; it leaves out the last three minutes.

        :raises LabError: it fails, or looks at other minutes.
        """
        end = last + MINUTE
        span = ("--from", first.isoformat(), "--to", end.isoformat())
        program = str(self._airflow.bin / "airflow-lag")
        done = self._airflow.execute(program, "gaps", "--json", *span)
        if done.code:
            raise LabError(f"airflow-lag gaps: {done.stdout}{done.stderr}")
        report = json.loads(done.stdout)
        if report["note"] or datetime.fromisoformat(report["to"]) != end:
            raise LabError(f"airflow-lag gaps, until {report['to']}: {report['note']}")
        return [
            Lacking(one["topic"], begin + number * MINUTE, one["kind"], one["reason"])
            for one in report["missing"]
            for begin in [datetime.fromisoformat(one["first"])]
            for number in range(one["instants"])
        ]
