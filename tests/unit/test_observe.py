"""The pipeline between its two doors to the outside, which are stood in for here.

How it behaves on real hosts, brokers and clusters is the matter of the integration tests; these
are the turns that a real part can't be made to take.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider import observe as pipeline
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import parse
from airflow_lag_provider.documents import Document
from airflow_lag_provider.doors import sentences, summary
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchUnreachable,
    GroupNotFound,
    InvalidRequest,
    SpoolFull,
    StoreError,
    TopicNotInGroup,
    UnexpectedError,
)
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool
from airflow_lag_provider.observation import StoredSnapshot
from airflow_lag_provider.run import SUCCESS_VERSION, Run
from airflow_lag_provider.watch import Watch

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
RUN = Run(
    dag_id="consumer_lag.oasis.orders",
    task_id="orders",
    run_id="scheduled__13:35",
    run_type="scheduled",
    try_number=2,
    scheduled_at=DUE,
    started_at=DUE + timedelta(seconds=1),
)
WATCH = Watch(
    mirror="oasis",
    topics=("orders",),
    group="oasis-group",
    bootstrap_servers=("b-1:9092",),
    ssh_conn_id="mm",
    elasticsearch_conn_id="es",
    index="lag-%Y",
    timeout=25.0,
)
ROWS = """
GROUP       TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID HOST CLIENT-ID
oasis-group orders 0          90              100             10   -           -    -
oasis-group clicks 0          7               7               0    -           -    -
"""


class Store:
    """Stands in for Elasticsearch.

    :param error: what writing raises.
    :param refused: by topic, why its document is not written.
    """

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.error: Exception | None = None
        self.refused: dict[str, StoreError] = {}
        self.index = ""

    async def write(
        self, hook: LagElasticsearchHook, *documents: Document
    ) -> tuple[StoreError | None, ...]:
        self.index = hook.index
        if self.error:
            raise self.error
        self.documents += documents
        return tuple(self.refused.get(one.source["topic"]) for one in documents)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()

    @asynccontextmanager
    async def session(hook: LagElasticsearchHook) -> AsyncIterator[Any]:
        yield SimpleNamespace(write=partial(store.write, hook))

    monkeypatch.setattr(LagElasticsearchHook, "session", session)
    return store


def prints(monkeypatch: pytest.MonkeyPatch, stdout: str = ROWS, error: Any = None) -> None:
    async def collect(*, group: str, **_: Any) -> Collected:
        if error:
            raise error
        return Collected(parse(stdout, "", 0, group=group), DUE + timedelta(seconds=3))

    monkeypatch.setattr(pipeline, "collect", collect)


def observe(watch: Watch = WATCH) -> list[StoredSnapshot]:
    seen = asyncio.run(pipeline.observe(watch, RUN))
    if seen.error:
        raise seen.error
    return list(seen.stored)


def test_a_snapshot_becomes_the_document_of_its_run(
    monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path
) -> None:
    """The document has the run's identity, its time line, and the topics nobody configured."""
    prints(monkeypatch)
    file = tmp_path / "mirrors.yaml"
    file.write_text(
        "mirrors: {oasis: {ssh_conn_id: mm, bootstrap_servers: [b-1:9092], group: oasis-group, "
        "topics: {orders: }}}"
    )
    (stored,) = observe(replace(WATCH, mirrors_file=str(file)))
    (document,) = store.documents
    assert document.id == stored.document_id == RUN.document_id(mirror="oasis", topic="orders")
    assert store.index == stored.index == "lag-2026"
    assert document.version == SUCCESS_VERSION
    source = document.source
    assert source["p0"] == 10
    assert source["event"]["outcome"] == "success"
    assert source["event"]["duration"] > 0
    assert source["unconfigured_topics"] == ["clicks"]
    assert source["@timestamp"] == "2026-11-22T13:35:03+00:00"
    assert source["airflow"] == {
        "dag_id": "consumer_lag.oasis.orders",
        "task_id": "orders",
        "run_id": "scheduled__13:35",
        "run_type": "scheduled",
        "try_number": 2,
        "scheduled_at": "2026-11-22T13:35:00+00:00",
    }


def test_topics_that_nobody_watches_show_in_every_document_and_once_in_the_log(
    monkeypatch: pytest.MonkeyPatch, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in the failure of the one topic that is watched: the new one may have its place."""
    prints(monkeypatch)
    file = tmp_path / "mirrors.yaml"
    file.write_text(
        "mirrors: {oasis: {ssh_conn_id: mm, bootstrap_servers: [b-1:9092], group: oasis-group, "
        "topics: {payments: , refunds: }}}"
    )
    watch = replace(WATCH, topics=("payments", "refunds"), mirrors_file=str(file))
    asyncio.run(pipeline.observe(watch, RUN))
    named = [one.source["unconfigured_topics"] for one in store.documents]
    assert named == [["clicks", "orders"]] * 2
    assert caplog.text.count("nobody watches them (2): clicks, orders.") == 1


def test_the_delay_is_counted_from_the_scheduled_instant(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """event.delay is the time from when the run was due to the start of its work, nanoseconds."""
    prints(monkeypatch)
    asyncio.run(
        pipeline.observe(
            WATCH, replace(RUN, scheduled_at=datetime.now(UTC) - timedelta(seconds=90))
        )
    )
    assert 90 <= store.documents[0].source["event"]["delay"] / 1e9 < 100


def test_a_failure_leaves_a_document_with_its_reason_and_its_try(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """The failure's document has the error's name and words, and the try as its version."""
    prints(monkeypatch, error=GroupNotFound("No group 'oasis-group'."))
    with pytest.raises(GroupNotFound):
        observe()
    (document,) = store.documents
    assert document.version == 2
    assert document.source["event"]["outcome"] == "failure"
    assert document.source["error"]["type"] == "GroupNotFound"
    assert document.source["error"]["message"].startswith("No group 'oasis-group'. Check")
    assert "p0" not in document.source


def test_a_topic_that_is_missing_fails_alone(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    """Of several topics one that isn't in the output fails, the others' snapshots are stored."""
    prints(monkeypatch)
    with pytest.raises(TopicNotInGroup, match="payments"):
        observe(replace(WATCH, topics=("payments", "orders")))
    outcomes = {one.source["topic"]: one.source["event"]["outcome"] for one in store.documents}
    assert outcomes == {"payments": "failure", "orders": "success"}


def test_what_nobody_thought_of_leaves_a_document_too(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """A defect of this package is a failure document and a failed task, not a gap."""
    prints(monkeypatch, error=ZeroDivisionError("oops"))
    with pytest.raises(UnexpectedError, match="ZeroDivisionError: oops"):
        observe()
    assert store.documents[0].source["error"]["type"] == "UnexpectedError"


def test_values_that_templates_made_unusable_are_named_together(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """Rendered values are checked before anything is run, all at once, and leave a document."""
    prints(monkeypatch, error=AssertionError("the command was run"))
    values = {"group": "a\nb", "tool": "$(id)", "class_data_archive": "/my lag"}
    watch = replace(WATCH, topics=("orders; rm -rf /",), **values)
    with pytest.raises(InvalidRequest) as raised:
        observe(watch)
    for word in ("group", "tool", "class_data_archive", "topic"):
        assert word in raised.value.message
    assert store.documents[0].source["error"]["type"] == "InvalidRequest"


def test_a_document_that_can_not_be_written_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """A snapshot that didn't reach Elasticsearch is no success."""
    prints(monkeypatch)
    store.error = ElasticsearchUnreachable("No connection.")
    with pytest.raises(ElasticsearchUnreachable):
        observe()


@pytest.mark.parametrize(
    "second", [ElasticsearchUnreachable("No connection."), RuntimeError("No connection.")]
)
def test_the_reason_for_the_missing_snapshot_is_not_hidden_by_a_second_failure(
    monkeypatch: pytest.MonkeyPatch, store: Store, second: Exception
) -> None:
    """When the failure's document can't be written either, the first error is raised and noted."""
    prints(monkeypatch, error=GroupNotFound("No group."))
    store.error = second
    with pytest.raises(GroupNotFound) as raised:
        observe()
    assert any("No connection." in note for note in raised.value.__notes__)


def test_each_topic_learns_the_fate_of_its_own_document(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """Of three topics one is missing, one's document is refused, and the third is stored."""
    prints(monkeypatch)
    store.refused = {"clicks": DocumentRefused("Field p0 is a date.")}
    watch = replace(WATCH, topics=("clicks", "payments", "orders"))
    seen = asyncio.run(pipeline.observe(watch, RUN))
    assert [one.snapshot.topic for one in seen.stored] == ["orders"]
    assert seen.failed == ("clicks", "payments")
    assert isinstance(seen.error, TopicNotInGroup)
    assert seen.error.__notes__ == ["Failed topics, 2 of 3: clicks, payments."]
    assert seen.others == (store.refused["clicks"],)


@pytest.mark.parametrize(
    ("topics", "refused", "helps"),
    [
        # The first topic's error alone would be final.
        (("payments", "orders"), {"orders": ElasticsearchUnreachable("No connection.")}, True),
        (("payments",), {"payments": ElasticsearchUnreachable("No connection.")}, True),
        (("payments",), {"payments": DocumentRefused("Field p0 is a date.")}, False),
        (("payments", "orders"), {}, False),
    ],
)
def test_a_retry_helps_when_it_may_store_more(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    topics: tuple[str, ...],
    refused: dict[str, StoreError],
    helps: bool,
) -> None:
    """Any topic's snapshot counts, and the document of a failure, whatever the error shown."""
    prints(monkeypatch)
    store.refused = refused
    seen = asyncio.run(pipeline.observe(replace(WATCH, topics=topics), RUN))
    assert isinstance(seen.error, TopicNotInGroup)
    assert seen.retry_helps is helps


def test_a_failed_describe_leaves_a_failure_document_for_each_topic(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """In layout group one failure is a document of every topic, and one error."""
    prints(monkeypatch, error=GroupNotFound("No group."))
    topics = tuple(f"t{number}" for number in range(30))
    seen = asyncio.run(pipeline.observe(replace(WATCH, topics=topics), RUN))
    assert [one.source["topic"] for one in store.documents] == list(topics)
    assert {one.source["error"]["type"] for one in store.documents} == {"GroupNotFound"}
    assert seen.failed == topics
    assert isinstance(seen.error, GroupNotFound)
    assert seen.error.__notes__[0].endswith("t18, t19 and 10 more.")
    assert seen.others == ()


class TestSpool:
    """With a spool: what can't be written waits, and the run is none the worse for it."""

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
        return tmp_path / "spool"

    def test_a_snapshot_that_waits_is_a_success(
        self, monkeypatch: pytest.MonkeyPatch, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The task ends well, its log has a warning, and its line and summary say that it waits."""
        prints(monkeypatch)
        store.error = ElasticsearchUnreachable("No connection.")
        seen = asyncio.run(pipeline.observe(replace(WATCH, topics=("orders", "clicks")), RUN))
        assert seen.error is None
        assert [one.waits for one in seen.stored] == [True, True]
        assert sentences(seen).count(" waits in the spool.") == 2
        result = summary(WATCH, replace(seen, stored=seen.stored[:1]))
        assert result
        assert result["waiting"] == 1
        assert "No connection." in caplog.text
        assert [one.levelname for one in caplog.records if "wait for it" in one.message] == [
            "WARNING"
        ]

    def test_a_failure_waits_too_and_stays_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, store: Store, directory: Path
    ) -> None:
        """The task fails for its own reason, and nothing says that its document was lost."""
        prints(monkeypatch, error=GroupNotFound("No group."))
        store.error = ElasticsearchUnreachable("No connection.")
        seen = asyncio.run(pipeline.observe(WATCH, RUN))
        assert isinstance(seen.error, GroupNotFound)
        assert not getattr(seen.error, "__notes__", ())
        (path,) = directory.glob("*.waiting.jsonl")
        (line,) = path.read_text().splitlines()
        waits = json.loads(line)
        assert waits["version"] == RUN.try_number
        assert waits["source"]["error"]["type"] == "GroupNotFound"
        assert (waits["conn_id"], waits["index"]) == ("es", "lag-2026")

    def test_a_full_spool_fails_the_run(
        self, monkeypatch: pytest.MonkeyPatch, store: Store
    ) -> None:
        """Both reasons are in the error that the task ends with."""
        monkeypatch.setenv("AIRFLOW__LAG__SPOOL_MAX_BYTES", "10")
        prints(monkeypatch)
        store.error = ElasticsearchUnreachable("No connection.")
        with pytest.raises(SpoolFull, match=r"No connection\..*limit of 10"):
            observe()

    def test_a_worker_sends_what_waited_with_its_own_document(
        self, monkeypatch: pytest.MonkeyPatch, store: Store
    ) -> None:
        """In the minute in which Elasticsearch is back those before it are written too."""
        prints(monkeypatch)
        store.error = ElasticsearchUnreachable("No connection.")
        asyncio.run(pipeline.observe_alone(WATCH, RUN))
        spool = configured_spool()
        assert spool
        # As if that process had ended.
        spool.release()
        store.error = None
        asyncio.run(pipeline.observe_alone(WATCH, replace(RUN, run_id="scheduled__13:36")))
        assert len({one.id for one in store.documents}) == 2
        assert spool.files() == []
