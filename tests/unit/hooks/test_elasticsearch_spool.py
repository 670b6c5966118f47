"""What becomes of documents while Elasticsearch, which is stood in for here, is away and back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    DocumentRefused,
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchOverloaded,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
    IndexBlocked,
    IndexUnusable,
    SpoolFull,
    SpoolUnusable,
    StoreError,
)
from airflow_lag_provider.hooks import elasticsearch as elasticsearch_hook
from airflow_lag_provider.hooks import elasticsearch_batch as batch
from airflow_lag_provider.hooks import elasticsearch_flush as flushing
from airflow_lag_provider.hooks import elasticsearch_spool as spooling
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_flush import flush
from airflow_lag_provider.hooks.elasticsearch_spool import Waits, configured_spool, store
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry
from airflow_lag_provider.spool_file import SpoolFile, is_owned


class Cluster:
    """Stands in for Elasticsearch, by index: keeps the version of each document, as it does.

    :param errors: what every request to a connection or an index raises.
    :param refused: ids that are refused, one by one.
    :param too_wide: ids for which the index has no fields left, one by one.
    :param hangs: how long a request takes, seconds, before it raises its error.
    """

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}
        self.requests: list[list[str]] = []
        self.errors: dict[str, Exception] = {}
        self.refused: set[str] = set()
        self.too_wide: set[str] = set()
        self.hangs = 0.0

    @asynccontextmanager
    async def session(self, hook: LagElasticsearchHook) -> AsyncIterator[Any]:
        if isinstance(error := self.errors.get("session"), Exception):
            raise error

        async def write(*documents: Document) -> tuple[StoreError | None, ...]:
            return await self.write(hook, *documents)

        yield SimpleNamespace(write=write)

    async def write(
        self, hook: LagElasticsearchHook, *documents: Document
    ) -> tuple[StoreError | None, ...]:
        self.requests.append([one.id for one in documents])
        await asyncio.sleep(self.hangs)
        for name in (hook.elasticsearch_conn_id, hook.index):
            if name in self.errors:
                raise self.errors[name]
        if len(documents) == 1 and documents[0].id in self.refused:
            raise DocumentRefused("Field p0 is a date.")
        if len(documents) == 1 and documents[0].id in self.too_wide:
            raise IndexUnusable("Limit of total fields [1000] has been exceeded.")
        fates: list[StoreError | None] = []
        for one in documents:
            if one.id in self.refused:
                fates.append(DocumentRefused("Field p0 is a date."))
                continue
            there = self.documents.get((hook.index, one.id))
            if there is None or there.version < one.version:
                self.documents[hook.index, one.id] = one
            fates.append(None)
        return tuple(fates)

    @property
    def ids(self) -> list[str]:
        return [one for _, one in self.documents]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(LagElasticsearchHook, "session", lambda hook: cluster.session(hook))
    monkeypatch.setattr(batch, "GATHER_SECONDS", 0.001)
    return cluster


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    spool = configured_spool()
    assert spool
    yield spool
    spool.release()


def document(name: str, *, version: int = 1, outcome: str = "success") -> Document:
    source = {"topic": f"topic-{name}", "event": {"outcome": outcome}}
    return Document(id=name, version=version, source=source)


def entry(name: str, **changes: Any) -> Entry:
    fields = {"conn_id": "es", "index": "lag", "version": 1, "source": {"topic": "t"}, **changes}
    return Entry(id=name, **fields)


async def stored(*documents: Document, index: str = "lag", conn_id: str = "es") -> Any:
    return await store(*documents, elasticsearch_conn_id=conn_id, index=index)


async def until(check: Callable[[], bool]) -> None:
    """Wait until something holds; a test that waits in vain ends with the tests' own limit."""
    while not check():  # noqa: ASYNC110 - files have no event
        await asyncio.sleep(0.005)


def waiting(spool: Spool, kind: Any = "waiting") -> list[dict[str, Any]]:
    lines = [line for path in spool.files(kind=kind) for line in path.read_bytes().splitlines()]
    return [json.loads(line) for line in lines]


def ids(spool: Spool, kind: Any = "waiting") -> list[str]:
    return [one["id"] for one in waiting(spool, kind)]


AWAY = [
    ElasticsearchUnreachable("No connection."),
    ElasticsearchTimedOut("No answer."),
    ElasticsearchOverloaded("429."),
    ElasticsearchAccessDenied("403."),
    IndexBlocked("Read-only."),
    IndexUnusable("No shards left."),
    RuntimeError("what nobody thought of"),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda one: type(one).__name__)
def test_what_can_not_be_written_now_waits(
    cluster: Cluster, spool: Spool, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever somebody can mend: the document is kept whole, and the log says where and why."""
    cluster.errors["es"] = error
    (fate,) = asyncio.run(stored(document("a", version=3)))
    assert isinstance(fate, Waits)
    assert str(error) in fate.reason
    (line,) = waiting(spool)
    assert line == {
        "conn_id": "es",
        "index": "lag",
        "id": "a",
        "version": 3,
        "source": document("a").source,
        "reason": None,
    }
    assert str(spool.directory) in caplog.text


def test_a_connection_that_is_missing_is_no_reason_to_lose_a_document(
    cluster: Cluster, spool: Spool
) -> None:
    """Somebody will add it."""
    cluster.errors["session"] = ElasticsearchConnectionInvalid("There is no connection.")
    (fate,) = asyncio.run(stored(document("a")))
    assert isinstance(fate, Waits)
    assert ids(spool) == ["a"]


@pytest.mark.parametrize("problem", ["hangs", "away"])
def test_a_connection_that_airflow_does_not_hand_out_is_no_reason_to_lose_a_document(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Neither where Airflow's API server hangs nor where it is away."""

    async def airflow_connection(_: str) -> None:
        if problem == "away":
            raise ConnectionRefusedError("refused")
        await asyncio.sleep(3600)

    monkeypatch.setattr(elasticsearch_hook, "airflow_connection", airflow_connection)
    monkeypatch.setattr(elasticsearch_hook, "READ_SECONDS", 0.05)
    (fate,) = asyncio.run(stored(document("a")))
    assert isinstance(fate, Waits)
    assert "did not hand out the Elasticsearch connection 'es': " in fate.reason
    assert ("not within 0.05 s" if problem == "hangs" else "refused") in fate.reason
    assert ids(spool) == ["a"]


def test_without_a_spool_nothing_waits(cluster: Cluster) -> None:
    """What can't be written is its task's error, as it always was."""
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")
    fates = asyncio.run(stored(document("a"), document("b")))
    assert [type(one) for one in fates] == [ElasticsearchUnreachable] * 2
    cluster.errors["es"] = RuntimeError("oops")
    with pytest.raises(RuntimeError):
        asyncio.run(stored(document("a")))


def test_what_is_refused_is_kept_with_the_reason_and_stays_an_error(
    cluster: Cluster, spool: Spool
) -> None:
    """Of three documents one doesn't fit the mapping: it is a dead letter, the others are there."""
    cluster.refused = {"b"}
    fates = asyncio.run(stored(*map(document, "abc")))
    assert [type(one) for one in fates] == [type(None), DocumentRefused, type(None)]
    assert cluster.ids == ["a", "c"]
    (line,) = waiting(spool, "refused")
    assert (line["id"], line["reason"]) == ("b", "Field p0 is a date.")
    assert waiting(spool) == []


def test_what_waited_is_written_once_elasticsearch_is_back(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process that owns it, by itself: nobody has to write anything else before."""
    monkeypatch.setattr(flushing, "FIRST_PAUSE", 0.01)
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")

    async def story() -> None:
        for name in "abc":
            await stored(document(name, version=int(name, 16)))
        assert spooling.waiting_snapshots() == {"a", "b", "c"}
        cluster.errors.clear()
        await until(lambda: not spool.files())
        assert spooling.waiting_snapshots() == frozenset()

    asyncio.run(story())
    assert cluster.ids == ["a", "b", "c"]
    assert [one.version for one in cluster.documents.values()] == [10, 11, 12]
    assert cluster.documents["lag", "a"].source == document("a").source


def test_whoever_writes_next_sends_what_dead_processes_left(cluster: Cluster, spool: Spool) -> None:
    """Its own document goes first, and does not wait for the others."""
    spool.append([entry(str(number)) for number in range(120)])
    spool.release()

    async def story() -> None:
        assert await stored(document("new")) == (None,)
        assert cluster.ids[0] == "new"
        await until(lambda: not spool.files())

    asyncio.run(story())
    assert [len(one) for one in cluster.requests] == [1, 50, 50, 20]
    assert cluster.ids == ["new", *map(str, range(120))]


def test_what_waits_for_another_connection_is_left_alone(cluster: Cluster, spool: Spool) -> None:
    """That one may be away; whoever writes there finds out."""
    spool.append([entry("a", conn_id="other"), entry("b")])
    spool.release()

    async def story() -> None:
        await stored(document("new"))
        await until(lambda: not spool.files(conn_id="es"))

    asyncio.run(story())
    assert ids(spool) == ["a"]


def test_a_task_on_a_worker_sends_what_waits_before_it_ends(cluster: Cluster, spool: Spool) -> None:
    """Its event loop ends with it, so it waits for its flush; when it had none, for nothing."""
    spool.append([entry("old")])
    spool.release()

    async def story() -> None:
        await stored(document("new"))
        await spooling.settle()

    asyncio.run(story())
    assert cluster.ids == ["new", "old"]
    asyncio.run(spooling.settle())


def test_a_task_on_a_worker_does_not_wait_for_long(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that hangs is left, and what it was about to send stays."""
    monkeypatch.setattr(spooling, "SETTLE_SECONDS", 0.05)
    spool.append([entry("old")])
    spool.release()

    async def story() -> None:
        await stored(document("new"))
        cluster.hangs = 3600
        await spooling.settle()

    asyncio.run(story())
    assert ids(spool) == ["old"]


def test_a_flush_that_is_cancelled_holds_no_file(cluster: Cluster, spool: Spool) -> None:
    """Whatever it is doing when its event loop ends, another process can go on at once."""
    for turns in range(1, 12):
        spool.append([entry(str(turns))])
        # Its own file a process may hold; what a flush takes over it must not keep.
        spool.release()
        cluster.hangs = 0.01

        async def story(turns: int = turns) -> None:
            task = asyncio.create_task(flush(spool))
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()

        asyncio.run(story())
        assert not any(map(is_owned, spool.files()))
    cluster.hangs = 0
    asyncio.run(flush(spool))
    assert set(cluster.ids) == {str(turns) for turns in range(1, 12)}


def test_an_older_failure_never_replaces_what_came_after_it(cluster: Cluster, spool: Spool) -> None:
    """The second try's success is there already when the first try's failure is sent."""
    spool.append([entry("a", version=1, source={"event": {"outcome": "failure"}})])
    cluster.documents["lag", "a"] = document("a", version=1_000_000)
    flushed = asyncio.run(flush(spool))
    assert flushed.sent == ["a"]
    assert cluster.documents["lag", "a"].version == 1_000_000
    assert spool.files() == []


def test_what_is_refused_does_not_block_the_rest(cluster: Cluster, spool: Spool) -> None:
    """It goes to the dead letters, each with its own reason."""
    cluster.refused = {"3", "7"}
    spool.append([entry(str(number)) for number in range(10)])
    flushed = asyncio.run(flush(spool))
    assert (len(flushed.sent), flushed.refused, flushed.left) == (8, ["3", "7"], 0)
    assert sorted(cluster.ids) == list("01245689")
    assert ids(spool) == []
    assert {one["id"]: one["reason"] for one in waiting(spool, "refused")} == {
        "3": "Field p0 is a date.",
        "7": "Field p0 is a date.",
    }


def test_refused_documents_without_room_are_counted_and_logged(
    cluster: Cluster,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of those that waited and of those of a task: they don't wait on, and are not kept."""
    letter = len(entry("1", reason="Field p0 is a date.").to_line())
    monkeypatch.setattr("airflow_lag_provider.spool._REFUSED_BYTES", letter)
    monkeypatch.setattr(spool, "max_bytes", 4 * letter)
    cluster.refused = {"1", "2", "3"}
    spool.append([entry(name) for name in "102"])
    flushed = asyncio.run(flush(spool))
    assert (flushed.sent, flushed.refused, flushed.left) == (["0"], ["1", "2"], 0)
    assert (ids(spool), ids(spool, "refused")) == ([], ["1"])
    assert "document lag/1 of topic t; it is kept with the reason: Field p0" in caplog.text
    assert "document lag/2 of topic t; it is lost, because there is no room" in caplog.text
    (fate,) = asyncio.run(stored(document("3")))
    assert type(fate) is DocumentRefused
    assert "Refused documents that could not be kept: 1." in caplog.text
    assert spool.dropped().documents == 2


def test_what_was_refused_can_be_sent_again(cluster: Cluster, spool: Spool) -> None:
    """Once the mapping is mended; what is refused again stays, with the new reason."""
    spool.append([entry("a", reason="old"), entry("b", reason="old")], kind="refused")
    cluster.refused = {"b"}
    flushed = asyncio.run(flush(spool, kind="refused"))
    assert (flushed.sent, flushed.refused) == (["a"], ["b"])
    (line,) = waiting(spool, "refused")
    assert (line["id"], line["reason"]) == ("b", "Field p0 is a date.")


def test_what_is_refused_again_has_the_new_reason(cluster: Cluster, spool: Spool) -> None:
    """Also when nothing else of its file could be written."""
    spool.append([entry("b", reason="old")], kind="refused")
    cluster.refused = {"b"}
    assert asyncio.run(flush(spool, kind="refused")).refused == ["b"]
    assert [one["reason"] for one in waiting(spool, "refused")] == ["Field p0 is a date."]


def test_a_blocked_index_does_not_hold_up_another_one(cluster: Cluster, spool: Spool) -> None:
    """Of documents for two indices in one file those for the open one are written and removed."""
    cluster.errors["lag-old"] = IndexBlocked("Read-only.")
    spool.append([entry(f"{index}-{n}", index=index) for n in range(3) for index in INDICES])
    flushed = asyncio.run(flush(spool))
    assert flushed.left == 1
    assert flushed.reasons == [str(IndexBlocked("Read-only."))]
    assert ids(spool) == [f"lag-old-{n}" for n in range(3)]
    assert cluster.ids == [f"lag-new-{n}" for n in range(3)]


def test_a_document_with_too_many_fields_does_not_hold_up_others_of_its_index(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone waits on, and the reason is told; they have fewer fields."""
    monkeypatch.setattr("airflow_lag_provider.spool.FILE_BYTES", 10)
    cluster.too_wide = {"0", "2"}
    for number in range(4):
        spool.append([entry(str(number))])
    flushed = asyncio.run(flush(spool))
    assert cluster.ids == ["1", "3"]
    assert (ids(spool), flushed.left) == (["0", "2"], 2)
    (reason,) = flushed.reasons
    assert "Limit of total fields" in reason


INDICES = ("lag-old", "lag-new")


def test_a_cluster_that_is_away_is_asked_once_in_a_flush(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each of a hundred files."""
    monkeypatch.setattr("airflow_lag_provider.spool.FILE_BYTES", 10)
    cluster.errors["es"] = ElasticsearchTimedOut("No answer.")
    for number in range(20):
        spool.append([entry(str(number))])
    spool.append([entry("other", conn_id="other")])
    taken: list[Path] = []
    take = Spool.take
    monkeypatch.setattr(Spool, "take", lambda self, path: (taken.append(path), take(self, path))[1])
    flushed = asyncio.run(flush(spool))
    assert (flushed.left, flushed.sent) == (20, ["other"])
    assert (len(cluster.requests), len(taken)) == (2, 2)
    assert ids(spool) == [str(number) for number in range(20)]


def test_while_elasticsearch_hangs_only_one_batch_waits_for_it(
    cluster: Cluster, spool: Spool
) -> None:
    """Of 300 tasks a minute those that come after the time-out go to the spool at once."""
    cluster.errors["es"] = ElasticsearchTimedOut("No answer.")
    cluster.hangs = 0.05

    async def story() -> None:
        first = await asyncio.gather(*(stored(document(f"a{n}")) for n in range(300)))
        assert len(cluster.requests) == 1
        second = await asyncio.gather(*(stored(document(f"b{n}")) for n in range(300)))
        assert len(cluster.requests) == 1
        assert {type(one) for (one,) in [*first, *second]} == {Waits}

    asyncio.run(story())
    assert len(ids(spool)) == 600


def test_after_some_seconds_one_document_is_tried(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others still go to the spool; once it has gone well, all are written again."""
    now = 1_000_000.0
    monkeypatch.setattr(spool, "_clock", lambda: now)
    cluster.errors["es"] = ElasticsearchTimedOut("No answer.")
    asyncio.run(stored(document("a")))
    now += 31
    asyncio.run(stored(document("b")))
    asyncio.run(stored(document("c")))
    assert cluster.requests == [["a"], ["b"]]
    now += 31
    cluster.errors.clear()
    assert asyncio.run(stored(document("d"))) == (None,)
    assert asyncio.run(stored(document("e"))) == (None,)


def test_while_all_is_well_the_spool_is_looked_at_once_a_second(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each of 300 tasks; what this process itself notes counts at once."""
    looks: list[str] = []

    def counted(name: str) -> Callable[[Spool, str], Any]:
        real = getattr(Spool, name)

        def call(self: Spool, conn_id: str) -> Any:
            looks.append(name)
            return real(self, conn_id)

        return call

    for name in ("may_try", "mark_back"):
        monkeypatch.setattr(Spool, name, counted(name))
    monkeypatch.setattr(spooling, "BELIEVED_SECONDS", 3600)

    async def story() -> None:
        await asyncio.gather(*(stored(document(str(n))) for n in range(300)))
        assert looks == ["may_try"]
        spool.mark_away("es")
        (fate,) = await stored(document("a"))
        assert isinstance(fate, Waits)
        spool.mark_back("es")
        assert await stored(document("b")) == (None,)

    asyncio.run(story())
    assert looks == ["may_try", "may_try", "mark_back", "may_try"]


def test_many_tasks_append_together(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three hundred documents of one moment don't wait for three hundred fsyncs."""
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")
    appends = []
    append = Spool.append

    def counted(self: Spool, entries: Any, **options: Any) -> int:
        appends.append(len(entries))
        return append(self, entries, **options)

    monkeypatch.setattr(Spool, "append", counted)

    async def story() -> None:
        await asyncio.gather(*(stored(document(str(n))) for n in range(300)))

    asyncio.run(story())
    assert sum(appends) == 300
    assert len(appends) < 30
    assert len(set(ids(spool))) == 300


def test_a_full_spool_is_the_tasks_error_and_counted(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how full it is, how many documents found no room, and why they needed it."""
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")
    monkeypatch.setattr(spool, "max_bytes", 440)
    documents = [document(str(number)) for number in range(8)]

    async def story() -> list[Any]:
        return [fate for (fate,) in await asyncio.gather(*map(stored, documents))]

    fates = asyncio.run(story())
    kept = ids(spool)
    assert len(kept) == sum(isinstance(one, Waits) for one in fates) == 3
    full = [one for one in fates if not isinstance(one, Waits)]
    assert {type(one) for one in full} == {SpoolFull}
    assert len({id(one) for one in full}) == 5
    assert spool.dropped().documents == 5
    for words in ("No connection.", "limit of 440", "no room since"):
        assert words in full[-1].message


def test_a_spool_that_can_not_be_written_is_the_tasks_error(
    cluster: Cluster, directory: Path
) -> None:
    """It is red again, with both reasons."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")
    (fate,) = asyncio.run(stored(document("a")))
    assert type(fate) is SpoolUnusable
    assert "No connection." in fate.message
    assert "mode 0755" in fate.message
    cluster.errors.clear()
    assert asyncio.run(stored(document("a"))) == (None,)


def test_a_spool_that_could_not_be_written_is_known_before_it_is_needed(
    cluster: Cluster, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Elasticsearch takes everything, and the log says once that nothing could wait."""
    directory.mkdir()
    directory.chmod(0o755)
    for name in "abc":
        assert asyncio.run(stored(document(name))) == (None,)
    assert caplog.text.count("No document can wait") == 1
    assert "mode 0755" in caplog.text


def test_the_spools_directory_is_made_before_it_is_needed(
    cluster: Cluster, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing is wrong with it, nothing is said."""
    assert asyncio.run(stored(document("a"))) == (None,)
    assert directory.is_dir()
    assert caplog.text == ""


def test_another_users_spool_is_not_flushed(cluster: Cluster, spool: Spool) -> None:
    """What root would leave in it, Airflow's user could not read."""
    spool.append([entry("a")])
    spool.directory.chmod(0o755)
    with pytest.raises(SpoolUnusable, match="mode 0755"):
        asyncio.run(flush(spool))
    assert cluster.requests == []


@pytest.mark.parametrize("limit", ["many", "0", "-1", ""])
def test_a_limit_that_is_none_is_said_and_loses_nothing(
    cluster: Cluster,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
) -> None:
    """A misspelt number is no reason to throw snapshots away."""
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_MAX_BYTES", limit)
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")
    (fate,) = asyncio.run(stored(document("a")))
    assert isinstance(fate, Waits)
    assert f"spool_max_bytes is no number of bytes above 0, so that {1 << 30} is" in caplog.text


def test_an_attempt_that_fails_is_followed_by_later_ones(
    cluster: Cluster,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each says how many wait on and why; none of it disturbs a task."""
    monkeypatch.setattr(flushing, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(flushing, "LONGEST_PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    cluster.errors["es"] = IndexBlocked("Read-only.")

    async def story() -> None:
        await stored(document("a"))
        await until(lambda: len(cluster.requests) > 3)
        cluster.errors.clear()
        # The log comes last, after the file is gone.
        await until(lambda: "Documents that waited, written now: 1." in caplog.text)

    asyncio.run(story())
    assert spool.files() == []
    assert "Files of the spool in which documents wait on: 1. Read-only." in caplog.text


def test_what_nobody_thought_of_does_not_end_the_attempts(
    cluster: Cluster,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the traceback, and the next attempt does it."""
    monkeypatch.setattr(flushing, "FIRST_PAUSE", 0.01)
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")

    async def story() -> None:
        await stored(document("a"))
        cluster.errors["es"] = ZeroDivisionError("oops")
        await until(lambda: "ZeroDivisionError: oops" in caplog.text)
        cluster.errors.clear()
        await until(lambda: not spool.files())

    asyncio.run(story())
    assert cluster.ids == ["a"]


def test_a_file_that_can_not_be_written_anew_stays_as_it_was(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full when a part of a file was sent: all of it is sent again later."""
    cluster.refused = {"b"}
    spool.append([entry("a"), entry("b")])

    def full(*_: Any, **__: Any) -> None:
        raise SpoolUnusable("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "append", full)
        flushed = asyncio.run(flush(spool))
    assert (flushed.left, flushed.sent, flushed.refused) == (1, [], [])
    assert "No space left" in flushed.reasons[0]
    assert ids(spool) == ["a", "b"]
    flushed = asyncio.run(flush(spool))
    assert (flushed.left, flushed.sent, flushed.refused) == (0, ["a"], ["b"])


def test_a_file_that_nobody_expected_does_not_hold_up_the_others(
    cluster: Cluster,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever happens with it, it stays, is named with the reason, and the next is sent."""
    monkeypatch.setattr("airflow_lag_provider.spool.FILE_BYTES", 10)
    for name in "abc":
        spool.append([entry(name, index="odd" if name == "a" else "lag")])
    cluster.errors["odd"] = ZeroDivisionError("oops")
    flushed = asyncio.run(flush(spool))
    assert (flushed.sent, flushed.left, flushed.reasons) == (["b", "c"], 1, ["oops"])
    assert ids(spool) == ["a"]
    assert "ZeroDivisionError: oops" in caplog.text
    assert spool.files()[0].name in caplog.text


def test_a_file_that_can_not_be_written_is_no_matter_of_another_connection(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that spool in one moment: who is told that a document is lost has lost it."""
    append = SpoolFile.append

    def half(self: SpoolFile, entries: Any) -> None:
        some = list(entries)
        if some[0].conn_id == "other":
            raise OSError(5, "Input/output error")
        append(self, some)

    monkeypatch.setattr(SpoolFile, "append", half)
    for name in ("es", "other"):
        cluster.errors[name] = ElasticsearchUnreachable("No connection.")

    async def story() -> Any:
        return await asyncio.gather(
            stored(document("a")), stored(document("b"), conn_id="other"), stored(document("c"))
        )

    fates = [type(fate) for (fate,) in asyncio.run(story())]
    assert fates == [Waits, SpoolUnusable, Waits]
    assert sorted(ids(spool)) == ["a", "c"]


def test_an_empty_file_is_removed(cluster: Cluster, spool: Spool) -> None:
    """A process that was killed right after it made a file leaves one."""
    spool.append([entry("a")])
    SpoolFile.create(spool.directory, conn_id="es", kind="waiting").close()
    assert len(spool.files()) == 2
    assert asyncio.run(flush(spool)).sent == ["a"]
    assert spool.files() == []


def test_what_comes_while_a_flush_is_under_way_is_sent_too(
    cluster: Cluster, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that waits is never forgotten by a process that lives on."""
    monkeypatch.setattr(flushing, "FIRST_PAUSE", 0.01)
    cluster.errors["es"] = ElasticsearchUnreachable("No connection.")

    async def story() -> None:
        await stored(document("a"))
        cluster.errors.clear()
        cluster.hangs = 0.05
        await until(lambda: len(cluster.requests) == 2)
        # The flush of the first one is in the middle; now the index is closed to others.
        cluster.errors["late"] = IndexBlocked("Read-only.")
        await stored(document("b"), index="late")
        cluster.errors.clear()
        await until(lambda: set(cluster.ids) == {"a", "b"})
        await until(lambda: not spool.files())

    asyncio.run(story())


KILLED = """
import asyncio, os, signal, sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from airflow_lag_provider.hooks import elasticsearch_flush as flushing
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool

def die(*_):
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

async def write(*documents):
    print(*(one.id for one in documents))
    if sys.argv[1] == "in a request" and documents[0].id != "0":
        die()
    return (None,) * len(documents)

@asynccontextmanager
async def session(hook):
    yield SimpleNamespace(write=write)

LagElasticsearchHook.session = session
if sys.argv[1] == "before the file is removed":
    flushing._settle = die
asyncio.run(flushing.flush(configured_spool()))
"""


@pytest.mark.parametrize("moment", ["in a request", "before the file is removed"])
def test_a_flush_that_is_killed_is_taken_up_by_the_next_process(
    cluster: Cluster, spool: Spool, moment: str
) -> None:
    """Nothing is lost; what was sent before is sent again, which its version makes harmless."""
    names = [str(number) for number in range(120)]
    spool.append([entry(name) for name in names])
    spool.release()
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, moment], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(ended.stdout.split()) == (100 if moment == "in a request" else 120)
    flushed = asyncio.run(flush(spool))
    assert flushed.sent == names
    assert cluster.ids == names
    assert list(spool.directory.iterdir()) == []


def test_what_waits_for_a_connection_that_was_renamed_is_in_the_tasks_log(
    cluster: Cluster, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody writes to the old one, so whoever stores a document says so, once in a while."""
    spool.append([entry("a", conn_id="renamed")])
    spool.release()
    (path,) = spool.files()
    os.utime(path, (time.time() - 3600,) * 2)

    async def story() -> None:
        await stored(document("b"), conn_id="es")
        await stored(document("c"), conn_id="es")

    asyncio.run(story())
    (line,) = [one for one in caplog.messages if "'renamed'" in one]
    assert str(spool.directory) in line
    assert "airflow-lag spool --flush" in line
    assert ids(spool) == ["a"]
