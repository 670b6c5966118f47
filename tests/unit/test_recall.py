"""What the pipeline knows of earlier snapshots: memory, the question, and neither of them.

Elasticsearch is stood in for; what its search finds is the matter of the integration tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider import recall
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import parse
from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import ElasticsearchUnreachable, StoreError
from airflow_lag_provider.history import Shape
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_history import HORIZON, Question
from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool
from airflow_lag_provider.run import Run
from airflow_lag_provider.spool_newest import Waiting
from airflow_lag_provider.watch import Watch

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
WATCH = Watch(
    mirror="oasis",
    topics=("orders",),
    group="g",
    bootstrap_servers=("b-1:9092",),
    ssh_conn_id="mm",
    elasticsearch_conn_id="es",
    index="lag-%Y",
    timeout=25.0,
)
HEADER = "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
Counts = Mapping[str, Any]


class Store:
    """Stands in for Elasticsearch: keeps the newest document of a topic, as a search finds it.

    :param questions: how many topics each request asked for.
    :param error: what a question raises.
    :param refused: whether documents are refused.
    """

    def __init__(self) -> None:
        self.written: list[Mapping[str, Any]] = []
        self.questions: list[int] = []
        self.error: Exception | None = None
        self.hangs = False
        self.refused = False

    async def write(self, *documents: Document) -> tuple[StoreError | None, ...]:
        if self.refused:
            return tuple(ElasticsearchUnreachable("No connection.") for _ in documents)
        self.written += [one.source for one in documents]
        return (None,) * len(documents)

    async def latest(self, *questions: Question) -> tuple[Mapping[str, Any] | None, ...]:
        self.questions.append(len(questions))
        if self.hangs:
            await asyncio.sleep(60)
        if self.error:
            raise self.error
        return tuple(self._newest(one) for one in questions)

    def _newest(self, question: Question) -> Mapping[str, Any] | None:
        found = [
            one
            for one in self.written
            if one["topic"] == question.topic
            and one["airflow"]["run_type"] == "scheduled"
            and "missing" in one.get("partitions", {})
            and question.before - HORIZON
            <= datetime.fromisoformat(one["@timestamp"])
            < question.before
        ]
        return max(found, key=lambda one: str(one["@timestamp"]), default=None)


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """A process that remembers nothing."""
    recall._memory.clear()
    yield
    recall._memory.clear()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()

    @asynccontextmanager
    async def session(_: LagElasticsearchHook) -> AsyncIterator[Any]:
        yield SimpleNamespace(write=store.write, latest=store.latest)

    monkeypatch.setattr(LagElasticsearchHook, "session", session)
    return store


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory in which documents wait that the store refuses."""
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
    found = configured_spool()
    assert found
    yield found.directory
    found.release()


def waits(spool: Path, topic: str) -> list[Mapping[str, Any]]:
    """Return the documents of a topic that wait, in the order in which they came."""
    lines = [line for path in spool.glob("*.waiting.jsonl") for line in path.open("rb")]
    found = [json.loads(line)["source"] for line in lines]
    return [one for one in found if one["topic"] == topic]


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch, store: Store) -> Any:
    """Return a function that lets a run take a snapshot; it returns the document."""

    def take(
        number: float,
        ends: Mapping[int, int],
        *,
        run_type: str = "scheduled",
        watch: Watch = WATCH,
        began: float | None = None,
    ) -> Mapping[str, Any]:
        due = DUE + timedelta(minutes=number)
        rows = (
            f"g {topic} {n} {end} {end} 0 - - -\n"
            for topic in watch.topics
            for n, end in ends.items()
        )
        description = parse(HEADER + "".join(rows) + "g t 0 1 1 0 - - -\n", "", 0, group="g")
        began_at = due if began is None else DUE + timedelta(minutes=began)

        async def collect(**_: Any) -> Collected:
            return Collected(description, began_at + timedelta(seconds=3), began_at)

        monkeypatch.setattr(pipeline, "collect", collect)
        run = Run(
            dag_id="dag",
            task_id="orders",
            run_id=f"{run_type}-{number}",
            run_type=run_type,
            try_number=1,
            scheduled_at=due,
            started_at=due,
        )
        before = len(store.written)
        asyncio.run(pipeline.observe(watch, run))
        return store.written[before] if len(store.written) > before else {}

    return take


def test_a_warm_process_asks_nobody(minute: Any, store: Store) -> None:
    """The first snapshot of a process asks once; minute after minute none does."""
    documents = [minute(number, {0: 5, 1: 5}) for number in range(4)]
    assert store.questions == [1]
    assert [one["partitions"]["missing"] for one in documents] == [0, 0, 0, 0]


@pytest.mark.parametrize("is_cold", [True, False])
def test_memory_and_elasticsearch_tell_the_same(minute: Any, is_cold: bool) -> None:
    """A worker that starts for each run names what is missing as the triggerer does."""
    told: list[Counts] = []
    for number, ends in enumerate([{0: 5, 1: 5, 2: 5}, {0: 5, 2: 6}, {0: 7}, {0: 1}, {0: 1, 1: 0}]):
        if is_cold:
            recall._memory.clear()
        told.append(minute(number, ends)["partitions"])
    assert [one["missing"] for one in told] == [0, 1, 2, 0, 0]
    assert [one.get("missing_ids") for one in told] == [None, [1], [1, 2], None, None]
    assert [one.get("changed") for one in told] == [None, "shrank", "shrank", "recreated", "grew"]


def test_many_topics_are_one_question(minute: Any, store: Store) -> None:
    """A cold process asks for all topics of a task at once."""
    topics = tuple(f"t{number}" for number in range(50))
    minute(0, {0: 1}, watch=replace(WATCH, topics=topics))
    assert store.questions == [50]


@pytest.mark.parametrize("fault", ["error", "defect", "hangs", "nonsense"])
def test_what_can_not_be_asked_is_unknown(
    minute: Any,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    """The snapshot is stored without the fields, the log says so, and it is asked again."""
    minute(0, {0: 5, 1: 5})
    recall._memory.clear()
    monkeypatch.setattr(recall, "_PATIENCE_SECONDS", 0.2)
    store.hangs = fault == "hangs"
    store.error = {"error": ElasticsearchUnreachable("No."), "defect": KeyError("x")}.get(fault)
    if fault == "nonsense":
        monkeypatch.setattr(store, "_newest", lambda _: {"partition": 7})
    document = minute(1, {0: 6})
    assert document["event"]["outcome"] == "success"
    assert document["p0"] == 0
    assert not {"missing", "missing_ids", "changed"} & document["partitions"].keys()
    assert "Earlier snapshots can't be read" in caplog.text


def test_after_an_unknown_minute_the_one_before_it_counts(minute: Any, store: Store) -> None:
    """A document whose own history wasn't known doesn't hide what is missing."""
    minute(0, {0: 5, 1: 5})
    recall._memory.clear()
    store.error = ElasticsearchUnreachable("No.")
    assert "missing" not in minute(1, {0: 6})["partitions"]
    store.error = None
    assert minute(2, {0: 6})["partitions"]["missing_ids"] == [1]
    assert store.questions == [1, 1, 1]


def test_runs_that_are_not_scheduled_leave_no_trace(minute: Any, store: Store) -> None:
    """A backfill or a run by hand compares, and the next scheduled run doesn't know of it."""
    minute(0, {0: 5, 1: 5})
    for run_type in ("manual", "backfill"):
        assert minute(0.5, {0: 6}, run_type=run_type)["partitions"]["missing_ids"] == [1]
    assert minute(1, {0: 7, 1: 7})["partitions"] == {
        "total": 2, "uncommitted": 0, "negative": 0, "missing": 0,
    }  # fmt: skip
    assert store.questions == [1]


def test_a_minute_that_another_process_had_is_asked_for(minute: Any, store: Store) -> None:
    """With two triggerers a change is said once, by the one that saw it first."""
    mine = minute(0, {0: 5, 1: 5})
    kept = dict(recall._memory)
    recall._memory.clear()
    theirs = minute(1, {0: 1, 1: 0})
    recall._memory.clear()
    recall._memory.update(kept)
    again = minute(2, {0: 2, 1: 0})
    assert [one["partitions"].get("changed") for one in (mine, theirs, again)] == [
        None, "recreated", None,
    ]  # fmt: skip
    assert store.questions == [1, 1, 1]


def test_a_describe_that_overlapped_the_last_one_is_not_compared_with_it(minute: Any) -> None:
    """Ends that were read before those of the last snapshot did not fall."""
    minute(0, {0: 5})
    minute(2, {0: 9})
    late = minute(1, {0: 8}, began=1.99)
    assert "changed" not in late["partitions"]
    assert "changed" not in minute(3, {0: 10})["partitions"]


def test_a_snapshot_that_was_not_stored_is_not_remembered(minute: Any, store: Store) -> None:
    """The retry says what the lost document would have said."""
    minute(0, {0: 5, 1: 5})
    store.refused = True
    minute(1, {0: 1})
    store.refused = False
    assert minute(1, {0: 1})["partitions"]["changed"] == "recreated"


def test_a_deleted_topic_says_until_when_it_was_there(minute: Any, store: Store) -> None:
    """Each minute's failure names the last snapshot, without a question each minute."""
    minute(0, {0: 5})
    errors = [minute(number, {})["error"] for number in (1, 2, 3)]
    for error in errors:
        assert error["type"] == "TopicNotInGroup"
        assert "It was there until 2026-11-22 13:35:03 UTC." in error["message"]
    assert store.questions == [1]
    recall._memory.clear()
    assert "until 2026-11-22 13:35:03" in minute(4, {})["error"]["message"]
    assert minute(5, {0: 1})["partitions"]["changed"] == "recreated"


def test_a_topic_that_never_was_there_says_so(minute: Any, store: Store) -> None:
    """A name with a typing mistake is told from a deleted topic, and asked for once."""
    errors = [minute(number, {})["error"]["message"] for number in (0, 1)]
    assert all("No snapshot of the last 7 days had it." in one for one in errors)
    assert store.questions == [1]
    store.error = ElasticsearchUnreachable("No.")
    recall._memory.clear()
    assert "last 7 days" not in minute(2, {})["error"]["message"]


def test_a_snapshot_that_still_waits_is_the_one_before(
    minute: Any, store: Store, spool: Path
) -> None:
    """After a restart a change is said once, though its document isn't in Elasticsearch yet."""
    minute(0, {0: 5})
    store.refused = True
    minute(1, {0: 5, 1: 5})
    assert waits(spool, "orders")[0]["partitions"]["changed"] == "grew"
    recall._memory.clear()
    store.refused = False
    assert "changed" not in minute(2, {0: 5, 1: 5})["partitions"]


def test_what_waits_from_the_minute_before_is_known_while_elasticsearch_is_away(
    minute: Any, store: Store, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart only the topics without such a document are asked for, and unknown."""
    store.refused = True
    minute(0, {0: 5, 1: 5})
    store.error = ElasticsearchUnreachable("No.")
    recall._memory.clear()
    store.questions.clear()
    minute(1, {0: 6})
    assert waits(spool, "orders")[-1]["partitions"]["missing_ids"] == [1]
    assert store.questions == []
    recall._memory.clear()
    minute(2, {0: 7}, watch=replace(WATCH, topics=("orders", "clicks")))
    assert waits(spool, "orders")[-1]["partitions"]["missing_ids"] == [1]
    assert "missing" not in waits(spool, "clicks")[-1]["partitions"]
    assert store.questions == [1]
    assert "of topics (1) it isn't known" in caplog.text


def test_what_waits_from_earlier_minutes_need_not_be_the_newest(
    minute: Any, store: Store, spool: Path
) -> None:
    """What came since may be in Elasticsearch, which can't be asked."""
    store.refused = True
    minute(0, {0: 5, 1: 5})
    store.error = ElasticsearchUnreachable("No.")
    recall._memory.clear()
    minute(2, {0: 6})
    assert "missing" not in waits(spool, "orders")[-1]["partitions"]


@pytest.mark.parametrize(
    ("stored", "waiting", "newest"),
    [(1, 2, 2), (2, 1, 2), (None, 1, 1), (1, None, 1), (1, 3, 1), (None, 3, None)],
)
def test_of_what_is_stored_and_what_waits_the_newer_one_counts(
    stored: int | None, waiting: int | None, newest: int | None
) -> None:
    """But nothing that is later than the describe that is compared with it."""

    def shape(minute: int) -> Shape:
        at = DUE + timedelta(minutes=minute)
        return Shape(at=at, ends={}, missing=frozenset(), whole=False)

    before = DUE + timedelta(minutes=3)
    waits = waiting and Waiting(DUE + timedelta(minutes=waiting), shape(waiting))
    found = recall._newest(stored and shape(stored), waits, before)
    assert found == (newest and shape(newest))


def test_a_spool_that_can_not_be_read_leaves_it_unknown(
    minute: Any, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The snapshot before may be in it."""
    minute(0, {0: 5})
    recall._memory.clear()
    spool.rmdir()
    spool.touch()
    assert "missing" not in minute(1, {0: 5})["partitions"]
    assert "Earlier snapshots can't be read" in caplog.text


def test_memory_is_that_of_a_mirror_group_and_index(minute: Any, store: Store) -> None:
    """Another cluster's topic of the same name is another topic."""
    minute(0, {0: 5})
    for changes in ({"mirror": "b"}, {"index": "b"}, {"elasticsearch_conn_id": "b"}):
        store.written.clear()
        assert "changed" not in minute(1, {0: 1}, watch=replace(WATCH, **changes))["partitions"]


def test_memory_forgets_topics_that_nobody_watches() -> None:
    """A topic that was renamed away doesn't stay for ever."""
    run = Run(
        dag_id="d", task_id="t", run_id="r", run_type="scheduled",
        try_number=1, scheduled_at=DUE, started_at=DUE,
    )  # fmt: skip
    kept = partial(recall.remember, stored=(), absent=WATCH.topics, known={"orders": None})
    for number in range(10):
        kept(replace(WATCH, mirror=f"m{number}"), run)
    later = replace(run, scheduled_at=DUE + timedelta(hours=2))
    for _ in range(10):
        kept(WATCH, later)
    assert len(recall._memory) == 1
