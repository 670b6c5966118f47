"""The demo's check: true snapshots in succession, and a lag that rises without MirrorMaker.

The truth comes from an independent client, which reads all offsets all the time. A snapshot is
right when each of its offsets lies between the readings before and after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from lab.airflow import Airflow
from lab.demo_index import Document, scheduled
from lab.demo_snapshots import Taken, around, mistakes, rise, successive
from lab.errors import CheckError, LabError
from lab.laboratory import Laboratory
from lab.reader import Reader

_SUCCESSIVE = 3
_LIMIT_SECONDS = 480.0
_POLL_SECONDS = 2.0


class Check:
    """Waits for what the demo is to show, says each thing it has seen, or raises.

    :param lab: a laboratory in which MirrorMaker and the producer run
    :param airflow: its Airflow, whose DAGs are off until `start` has returned
    :param say: told each thing that was seen
    :param meanwhile: called every two seconds while it waits
    """

    def __init__(
        self,
        lab: Laboratory,
        airflow: Airflow,
        *,
        say: Callable[[str], None],
        meanwhile: Callable[[], None],
    ) -> None:
        self._lab = lab
        self._airflow = airflow
        self._say = say
        self._meanwhile = meanwhile
        self._reader = Reader(bootstrap=lab.source.bootstrap, group=lab.group, topics=lab.topics)
        self._right: dict[str, list[Taken]] = {topic: [] for topic in lab.topics}
        self._judged: set[tuple[str, str]] = set()
        self._failures: dict[str, list[str]] = {topic: [] for topic in lab.topics}
        self._shown: set[str] = set()
        self._index_trouble: LabError | None = None

    def start(self) -> None:
        """Start the independent client.

        :raises LabError: it can't read
        """
        self._reader.start()

    def run(self) -> None:
        """Wait for three right snapshots of each topic, stop MirrorMaker, wait for the lag to rise.

        :raises CheckError: a snapshot is wrong, or something is missing at the time limit
        :raises PartError: Airflow has gone
        """
        deadline = time.monotonic() + _LIMIT_SECONDS
        self._say("each offset must lie between an independent client's readings around it")
        self._await(self._succession_missing, deadline=deadline)
        self._say("MirrorMaker: stopping")
        self._lab.mirrormaker.stop()
        stopped_at = datetime.now(UTC)
        self._say("MirrorMaker: stopped; the lag must rise now")
        self._await(lambda topic: self._rise_missing(topic, stopped_at), deadline=deadline)
        self._reader.stop()

    def _await(self, missing: Callable[[str], str | None], *, deadline: float) -> None:
        """Judge what comes until nothing is missing for any topic."""
        while True:
            # Raises, with the end of its log, when Airflow has gone.
            _ = self._airflow.component("standalone").pid
            self._meanwhile()
            self._judge(self._documents())
            lacking = [words for topic in self._lab.topics if (words := missing(topic))]
            if not lacking:
                return
            if time.monotonic() > deadline:
                raise CheckError("\n".join([f"Not seen in {_LIMIT_SECONDS:g} s:", *lacking]))
            time.sleep(_POLL_SECONDS)

    def _documents(self) -> Sequence[Document]:
        """Return the documents of scheduled runs; none for the moment when they can't be read."""
        try:
            documents = scheduled(self._lab.elasticsearch)
        except LabError as error:
            # As it is while the index is being made; it counts when it lasts.
            self._index_trouble = error
            return ()
        self._index_trouble = None
        return documents

    def _judge(self, documents: Sequence[Document]) -> None:
        """Compare new snapshots with the independent client's readings.

        :raises CheckError: one of them is wrong
        """
        for document in documents:
            if document["event"]["outcome"] != "success":
                self._note_failure(document)
                continue
            taken = Taken.from_document(document)
            if (taken.topic, taken.run_id) in self._judged:
                continue
            pair = around(taken, self._reader.readings())
            if pair is None:
                continue
            self._judged.add((taken.topic, taken.run_id))
            if wrong := mistakes(taken.snapshot, *pair):
                raise CheckError("\n".join([f"{taken.topic} {taken.minute}: wrong:", *wrong]))
            self._right[taken.topic].append(taken)
            seconds = (pair[1].ended - pair[0].began).total_seconds()
            self._say(
                f"{taken.topic} {taken.minute}: right: {len(taken.snapshot.partitions)} partitions,"
                f" lag {taken.lag:,}, between readings {seconds:.1f} s apart"
            )

    def _note_failure(self, document: Document) -> None:
        run = document["airflow"]
        words = f"{run['scheduled_at'][11:16]} {document['error']['type']}"
        notes = self._failures[document["topic"]]
        if words not in notes:
            notes.append(words)
            self._say(f"{document['topic']} {words}: {document['error']['message']}")

    def _succession_missing(self, topic: str) -> str | None:
        found = successive(self._right[topic], _SUCCESSIVE)
        minutes = ", ".join(taken.minute for taken in found) or "none"
        if len(found) == _SUCCESSIVE:
            self._say_once(f"{topic}: {_SUCCESSIVE} successive snapshots: {minutes}")
            return None
        return (
            f"{topic}: expected {_SUCCESSIVE} successive snapshots; seen in succession: {minutes}"
            f"{self._also(topic)}"
        )

    def _rise_missing(self, topic: str, stopped_at: datetime) -> str | None:
        before = [taken for taken in self._right[topic] if taken.scheduled_at <= stopped_at]
        after = [taken for taken in self._right[topic] if taken.scheduled_at > stopped_at]
        lag = max(before, key=lambda taken: taken.scheduled_at).lag
        if found := rise(lag, after):
            lags = " and ".join(f"{taken.lag:,} at {taken.minute}" for taken in found)
            self._say_once(f"{topic}: the lag rises: {lag:,} with MirrorMaker, then {lags}")
            return None
        lags = ", ".join(f"{taken.lag:,} at {taken.minute}" for taken in after) or "no snapshot"
        return (
            f"{topic}: expected two successive snapshots with a lag that rises from {lag:,},"
            f" after MirrorMaker was stopped at {stopped_at:%H:%M:%S}; seen: {lags}"
            f"{self._also(topic)}"
        )

    def _also(self, topic: str) -> str:
        """Return what else may explain that something is missing."""
        notes = [f"failed: {', '.join(self._failures[topic])}"] if self._failures[topic] else []
        if self._index_trouble:
            notes.append(f"the index can't be read: {self._index_trouble}")
        if self._reader.trouble:
            notes.append(f"the independent client can't read: {self._reader.trouble}")
        return "".join(f"; {note}" for note in notes)

    def _say_once(self, line: str) -> None:
        if line not in self._shown:
            self._shown.add(line)
            self._say(line)
