"""Which minutes lack a snapshot, why as far as it is known, and how that is printed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import models, settings
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from airflow_lag_provider import cli, gaps_airflow, gaps_command, gaps_report
from airflow_lag_provider.gaps import MINUTE, Missing, Runs, Seen, Series, instants, missing
from airflow_lag_provider.hooks import elasticsearch_gaps
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ORDERS, CLICKS, OTHER = Series("oasis", "orders"), Series("oasis", "clicks"), Series("eu", "orders")
ALL = "no topic has a document: Airflow or Elasticsearch was away"
MIRROR = "other mirrors have documents"
TOPICS = "other topics of the mirror have documents"


@pytest.fixture(autouse=True)
def _process_context(monkeypatch: pytest.MonkeyPatch) -> None:
    # The command sets it for its process, which here is that of all tests.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


def at(minute: int) -> datetime:
    return NOON + minute * MINUTE


def seen(*minutes: int, before: bool = True, dag: str = "dag", **errors: str) -> Seen:
    """Return a series with snapshots of these minutes, and failures as ``m3="ErrorType"``."""
    outcomes: dict[datetime, str | None] = {at(minute): None for minute in minutes}
    outcomes |= {at(int(minute[1:])): error for minute, error in errors.items()}
    return Seen(dag, outcomes, before)


def found(series: dict[Series, Seen], until: int = 6, **options: Any) -> list[tuple[Any, ...]]:
    """Return what is missing from noon on, minutes instead of instants."""
    return [
        (
            one.topic if one.mirror == "oasis" else f"{one.mirror}/{one.topic}",
            one.kind,
            int((one.first - NOON) / MINUTE),
            int((one.last - NOON) / MINUTE),
            one.reason,
        )
        for one in missing(series, start=NOON, end=at(until), **options)
    ]


def test_nothing_is_missing_where_each_minute_has_its_snapshot() -> None:
    """The last instant lies before the end."""
    assert found({ORDERS: seen(*range(6)), CLICKS: seen(*range(6))}) == []


def test_minutes_in_a_row_are_one_line_for_each_reason() -> None:
    """What only this topic lacks and what all lack are two gaps, though one follows the other."""
    series = {ORDERS: seen(0, 5), CLICKS: seen(0, 1, 2, 5), OTHER: seen(0, 1, 2, 4, 5)}
    assert found(series) == [
        ("eu/orders", "gap", 3, 3, ALL),
        ("clicks", "gap", 3, 3, ALL),
        ("clicks", "gap", 4, 4, MIRROR),
        ("orders", "gap", 1, 2, TOPICS),
        ("orders", "gap", 3, 3, ALL),
        ("orders", "gap", 4, 4, MIRROR),
    ]


def test_a_failure_is_no_gap_but_it_is_no_snapshot_either() -> None:
    """It is listed with its error type, alike ones in a row together."""
    one = seen(0, 5, m1="GroupNotFound", m2="GroupNotFound", m3="EndedByAirflow")
    assert found({ORDERS: one}) == [
        ("orders", "failure", 1, 2, "GroupNotFound"),
        ("orders", "failure", 3, 3, "EndedByAirflow"),
        ("orders", "gap", 4, 4, "no document"),
    ]


def test_a_topic_is_missed_from_its_first_document_on_and_to_the_end() -> None:
    """Before that it wasn't watched; one that had documents before is missed at once."""
    assert found({ORDERS: seen(2, 4, before=False)}) == [
        ("orders", "gap", 3, 3, "no document"),
        ("orders", "gap", 5, 5, "no document"),
    ]
    assert found({ORDERS: seen(2, 3, 4, 5)}) == [("orders", "gap", 0, 1, "no document")]


def test_a_topic_that_never_had_a_document_is_missed_all_the_time() -> None:
    """The configuration names it, so somebody believes that it is watched."""
    series = {ORDERS: seen(*range(6)), CLICKS: Seen("dag")}
    assert found(series) == [("clicks", "gap", 0, 5, TOPICS)]


def test_what_is_not_due_each_minute_has_failures_and_no_gaps() -> None:
    """Its own runs alone are in a row, whenever they are due; to the others it is a witness."""
    rare = seen(0, 20, m5="GroupNotFound", m10="GroupNotFound")
    rare.every_minute = False
    series = {ORDERS: rare, CLICKS: seen(*range(30))}
    assert found(series, until=30) == [("orders", "failure", 5, 10, "GroupNotFound")]


def test_what_airflow_knows_comes_first() -> None:
    """A run without a document, no run at all, a DAG that is off, a DAG that is gone."""
    runs = Runs({"on": False, "off": True}, {("on", at(1)): "failed"})
    witness = {OTHER: seen(*range(3))}

    def reasons(dag: str) -> list[str]:
        one = {ORDERS: seen(0, dag=dag), **witness}
        return [it[-1].removesuffix(f"; {MIRROR}") for it in found(one, until=3, runs=runs)]

    assert reasons("on") == ["its run is failed, without a document", "no run was made"]
    assert reasons("off") == ["no run, and the DAG is paused now"]
    assert reasons("gone") == ["no run, and Airflow no longer knows the DAG"]


def test_instants_lie_on_the_clock_whatever_the_start() -> None:
    """They are the multiples of the interval, also of one that isn't a minute."""
    start = NOON + timedelta(seconds=1)
    assert list(instants(start, at(3))) == [at(1), at(2)]
    assert list(instants(NOON, at(11), timedelta(minutes=5))) == [at(0), at(5), at(10)]
    ten = timedelta(minutes=10)
    assert found({ORDERS: seen(0, 20)}, until=30, interval=ten)[0][2:4] == (10, 10)


GAP = Missing("oasis", "orders", "gap", at(1), at(3), 3, ALL)
FAILURE = Missing("oasis", "clicks", "failure", at(4), at(4), 1, "GroupNotFound")


def test_the_table_has_a_line_for_each_and_the_sums() -> None:
    """Columns stand below their heads, and all times are UTC."""
    lines = gaps_report.text([GAP, FAILURE], start=NOON, end=at(60), note="Not asked.").splitlines()
    assert lines == [
        "MIRROR  TOPIC   WHAT     FIRST             LAST              MINUTES  WHY",
        f"oasis   orders  gap      2026-11-22 12:01  2026-11-22 12:03  3        {ALL}",
        "oasis   clicks  failure  2026-11-22 12:04  2026-11-22 12:04  1        GroupNotFound",
        "",
        "From 2026-11-22 12:00 to 2026-11-22 13:00 (UTC): 3 without a document, 1 with a failure, "
        "over all topics.",
        "Not asked.",
    ]
    (line,) = gaps_report.text([], start=NOON, end=at(60), note=None).splitlines()
    assert "0 without a document, 0 with a failure" in line


def test_json_holds_the_same() -> None:
    """Another program gets times with their zone."""
    written = json.loads(gaps_report.as_json([GAP], start=NOON, end=at(60), note=None))
    assert written == {
        "from": "2026-11-22T12:00:00+00:00",
        "to": "2026-11-22T13:00:00+00:00",
        "missing": [
            {
                "mirror": "oasis",
                "topic": "orders",
                "kind": "gap",
                "first": "2026-11-22T12:01:00+00:00",
                "last": "2026-11-22T12:03:00+00:00",
                "instants": 3,
                "reason": ALL,
            }
        ],
        "note": None,
    }


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (None, None, (at(57) - timedelta(days=1), at(57))),
        ("2026-11-22T12:10", "2026-11-22T12:20", (at(10), at(20))),
        ("2026-11-22T13:10+01:00", "2026-11-22T12:20:30Z", (at(10), at(21))),
        ("2026-11-22T12:10", "2026-11-23T12:20", (at(10), at(57))),
    ],
)
def test_the_time_is_a_day_or_what_was_asked_for(start: Any, end: Any, span: Any) -> None:
    """On full minutes, UTC where nothing else is said, and never runs that are under way."""
    assert gaps_command._span(start, end, now=at(60)) == span


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--from", "yesterday"), "--from 'yesterday' is no time; write it as"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "does not lie before --to"),
    ],
)
def test_a_time_that_can_not_be_used_is_named(words: tuple[str, ...], complaint: str) -> None:
    """The command ends with 1 and says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["gaps", *words])
    assert complaint in str(ended.value)


MIRRORS = """
mirrors:
  oasis: {bootstrap_servers: ["b:1"], group: g, topics: {orders: , clicks: }}
  eu: {bootstrap_servers: ["b:1"], group: g, layout: group, topics: {orders: }}
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that runs the command on documents and an Airflow that are stood in for."""
    path = tmp_path / "mirrors.yaml"
    path.write_text(MIRRORS)

    def ask(
        capsys: pytest.CaptureFixture[str],
        runs: Runs | Exception,
        *words: str,
        others: Mapping[Series, Seen] = {},
    ) -> dict[str, Any]:
        async def seen_series(**keywords: Any) -> dict[Series, Seen]:
            assert keywords["index"] == "consumer_lag"
            return {ORDERS: seen(*range(10), dag="consumer_lag.oasis.orders"), **others}

        def runs_of(dag_ids: set[str], **_: Any) -> Runs:
            assert dag_ids == {
                "consumer_lag.oasis.orders",
                "consumer_lag.oasis.clicks",
                "consumer_lag.eu",
                *(one.dag_id for one in others.values()),
            }
            if isinstance(runs, Exception):
                raise runs
            return runs

        monkeypatch.setattr(elasticsearch_gaps, "seen_series", seen_series)
        monkeypatch.setattr(gaps_airflow, "runs_of", runs_of)
        times = ["--from", "2026-11-22T12:00", "--to", "2026-11-22T12:10"]
        cli.main(["gaps", "--file", str(path), "--json", *times, *words])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return ask


def test_the_command_lists_what_the_configuration_names_and_nobody_wrote(
    asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each configured topic is looked for, with the DAG that ought to write it."""
    runs = Runs({"consumer_lag.oasis.clicks": True}, {})
    answer = asked(capsys, runs)
    assert [(one["mirror"], one["topic"], one["instants"]) for one in answer["missing"]] == [
        ("eu", "orders", 10),
        ("oasis", "clicks", 10),
    ]
    assert answer["missing"][1]["reason"] == f"no run, and the DAG is paused now; {TOPICS}"
    assert [one["topic"] for one in asked(capsys, runs, "--mirror", "oasis")["missing"]] == [
        "clicks"
    ]
    assert [one["mirror"] for one in asked(capsys, runs, "--topic", "orders")["missing"]] == ["eu"]


def test_a_dag_of_your_own_has_no_gaps_for_its_schedule(
    asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note names it; a topic that the configuration had before is still due each minute."""
    others = {
        Series("g", "rare"): seen(0, 5, dag="mine", m7="GroupNotFound"),
        Series("oasis", "before"): seen(0, dag="consumer_lag.oasis.before"),
        Series("old", "before"): seen(0, dag="consumer_lag.old"),
    }
    answer = asked(capsys, Runs({}, {}), others=others)
    lacking = {(one["mirror"], one["topic"], one["kind"]) for one in answer["missing"]}
    assert lacking == {
        ("eu", "orders", "gap"),
        ("g", "rare", "failure"),
        ("oasis", "before", "gap"),
        ("oasis", "clicks", "gap"),
        ("old", "before", "gap"),
    }
    assert answer["note"] == (
        "Not looked at for gaps, since the schedules of your own DAGs aren't known: g/rare (mine)."
    )
    assert asked(capsys, Runs({}, {}), "--mirror", "old", others=others)["note"] is None


def test_mirrors_with_mistakes_are_named_and_the_command_fails(
    asked: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Their topics without documents can't be listed, so the report is not clean."""
    path = tmp_path / "mirrors.yaml"
    path.write_text(f"{MIRRORS}  broken: {{colour: red}}\n")
    with pytest.raises(SystemExit, match=r"isn't complete, because .*mirrors\.yaml has mistakes"):
        asked(capsys, RuntimeError())
    answer = json.loads(capsys.readouterr().out)
    assert [one["mirror"] for one in answer["missing"]] == ["eu", "oasis"]
    assert "database could not be asked" in answer["note"]
    assert "mirrors.yaml:5: mirrors.broken.colour" in answer["note"]
    with pytest.raises(SystemExit, match=r"(?s)Nothing is watched .*mirrors\.broken\.colour"):
        asked(capsys, RuntimeError(), "--mirror", "broken")


def test_a_topic_that_nobody_watches_has_not_simply_no_gaps(
    asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is written wrong is an error, not a clean report."""
    with pytest.raises(SystemExit, match="Nothing is watched with --mirror any and --topic oders"):
        asked(capsys, Runs({}, {}), "--topic", "oders")


def test_without_airflows_database_the_documents_alone_speak(
    asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note says so, and nothing of the database's address, which holds a password."""
    answer = asked(capsys, RuntimeError("postgresql://airflow:hush@db"))
    assert answer["note"] == (
        "Airflow's database could not be asked which runs it made (RuntimeError)."
    )
    assert len(answer["missing"]) == 2


def test_a_dated_index_is_asked_for_the_names_of_its_time() -> None:
    """By the scheduled instants, as the documents were written; the end doesn't belong to it."""
    day = datetime(2026, 11, 22, tzinfo=UTC)
    names = elasticsearch_gaps._names("lag-%Y.%m.%d", day, day + timedelta(days=1))
    assert names == ["lag-2026.11.22"]
    names = elasticsearch_gaps._names("lag-%H", NOON + timedelta(minutes=30), at(90))
    assert names == ["lag-12", "lag-13"]
    assert elasticsearch_gaps._names("lag", day, NOON) == ["lag"]


def test_in_an_index_of_the_old_script_the_exact_topic_lies_below_the_text() -> None:
    """A field that isn't there keeps its name, and finds nothing."""
    mappings = {
        "properties": {
            "topic": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "airflow": {"properties": {"dag_id": {"type": "keyword"}}},
        }
    }
    names = [elasticsearch_gaps._exact(mappings, it) for it in ("topic", "airflow.dag_id", "a.b")]
    assert names == ["topic.keyword", "airflow.dag_id", "a.b"]


def test_of_a_topic_that_was_away_for_days_any_older_document_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The day before the time says nothing of it; only the late ones are asked for."""
    buckets = [
        {
            "key": {
                "mirror": "oasis",
                "topic": topic,
                "dag_id": "dag",
                "at": int(when),
                "error": None,
            }
        }
        for topic, when in (
            ("orders", at(3).timestamp() * 1000),
            ("clicks", at(3).timestamp() * 1000),
            ("whole", NOON.timestamp() * 1000),
        )
    ]
    searched: list[Any] = []

    class Client:
        indices: Any

        async def get_mapping(self, *, index: list[str], **_: Any) -> Any:
            return SimpleNamespace(body={index[0]: {"mappings": {}}})

        async def search(self, *, query: Any, **_: Any) -> Any:
            in_time = query["bool"]["filter"][0]["range"]["airflow.scheduled_at"]["gte"]
            page = {"buckets": buckets if in_time == NOON.isoformat() else []}
            return {"aggregations": {"page": page}}

        async def msearch(self, *, searches: list[Any], **_: Any) -> Any:
            searched.extend(searches)
            asked = [str(one) for one in searches[1::2]]
            hits = [[{"_source": {}}] if "'orders'" in one else [] for one in asked]
            fine = {"timed_out": False, "_shards": {"failed": 0}}
            return {"responses": [{**fine, "hits": {"hits": one}} for one in hits]}

    class Session:
        async def ask(self, work: Any) -> Any:
            client = Client()
            client.indices = client
            return await work(client)

    @asynccontextmanager
    async def session(_: Any) -> AsyncIterator[Session]:
        yield Session()

    monkeypatch.setattr(LagElasticsearchHook, "session", session)
    series = asyncio.run(
        elasticsearch_gaps.seen_series(
            elasticsearch_conn_id="es", index="lag-%Y.%m", start=NOON, end=at(6)
        )
    )
    assert {it.topic: one.before for it, one in series.items()} == {
        "orders": True,
        "clicks": False,
        "whole": False,
    }
    assert searched[::2] == [{"index": ["lag-*.*"]}] * 2


def test_airflow_is_asked_for_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tables say which DAGs are off and which scheduled runs there were, in UTC."""
    models.import_all_models()
    tables: list[Any] = [DagModel.__table__, DagRun.__table__]
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    DagModel.metadata.create_all(engine, tables=tables)
    monkeypatch.setattr(settings, "Session", scoped_session(sessionmaker(bind=engine)))
    dags, runs = tables
    with engine.begin() as connection:
        for dag_id, paused in (("on", False), ("off", True), ("else", False)):
            connection.execute(row(dags, dag_id=dag_id, is_paused=paused, bundle_name="dags"))
        for minute, run_type in ((1, "scheduled"), (2, "manual"), (9, "scheduled")):
            names = ("data_interval_end", "run_after", "logical_date", "execution_date")
            values = {"dag_id": "on", "run_id": str(minute), "state": "failed"}
            times = dict.fromkeys(names, at(minute))
            other = {"run_type": run_type, "log_template_id": None}
            connection.execute(row(runs, **values, **other, **times))
    found = gaps_airflow.runs_of({"on", "off", "gone"}, start=NOON, end=at(9))
    assert found == Runs({"on": False, "off": True}, {("on", at(1)): "failed"})


def row(table: Any, **values: Any) -> Any:
    """Return the insert of a row of either version: with its columns, and 1 in the others."""
    needed = [one.name for one in table.columns if not one.nullable and one.default is None]
    given = {name: value for name, value in values.items() if name in table.columns}
    return table.insert().values({**dict.fromkeys(set(needed) - {"id"}, 1), **given})
