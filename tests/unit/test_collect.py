"""Who shares a describe with whom; the SSH side is stood in for here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lag_provider import collect as room
from airflow_lag_provider.collect import Collected, collect
from airflow_lag_provider.command import TimeLimits
from airflow_lag_provider.documents import Document
from airflow_lag_provider.errors import (
    BrokerTimedOut,
    DescribeTimedOut,
    OutputCutOff,
    SSHConnectionNotRead,
    SSHUnreachable,
)
from airflow_lag_provider.hooks.ssh import LagSSHHook
from airflow_lag_provider.observe import observe
from airflow_lag_provider.run import Run
from airflow_lag_provider.ssh_sessions import DescribeOutput, Sessions
from airflow_lag_provider.watch import Watch

DUE = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
RUN = Run(
    dag_id="dag",
    task_id="task",
    run_id="run",
    run_type="scheduled",
    try_number=1,
    scheduled_at=DUE,
    started_at=DUE,
)
MINUTE = timedelta(minutes=1)
BUSY = r"Another describe of group 'g', which began at \d\d:\d\d:\d\d UTC, did not end in time"
ROWS = """
GROUP TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID HOST CLIENT-ID
g     orders 0          90              100             10   -           -    -
"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that were run; what they print, or raise, is the command itself."""
    commands: list[str] = []

    async def run(_: Any, *, command: str, **__: Any) -> DescribeOutput:
        commands.append(command)
        await asyncio.sleep(0.01)
        if command == "unreachable":
            raise SSHUnreachable("No session.")
        stdout = "Error: Executing consumer group command failed due to TimeoutException: Timed out"
        return DescribeOutput(ROWS if command == "rows" else stdout, "", 0, datetime.now(UTC))

    monkeypatch.setattr(Sessions, "run", run)
    return commands


async def asked(command: str = "rows", **changes: Any) -> Collected:
    arguments = {
        "ssh_conn_id": "mm",
        "command": command,
        "bootstrap_servers": ("b-1:9092", "b-2:9092"),
        "group": "g",
        "timeout": 25.0,
        "occasion": DUE,
        "attempt": 1,
    }
    return await collect(**{**arguments, **changes})


async def until_run(runs: list[str], count: int) -> None:
    """Wait for so many describes; a test that waits in vain ends with the tests' own limit."""
    while len(runs) < count:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0.01)


async def all_of(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def test_all_topics_of_a_minute_share_one_describe(runs: list[str]) -> None:
    """A hundred callers of one minute get the same description from one command."""
    results = asyncio.run(all_of(*(asked() for _ in range(100))))
    assert runs == ["rows"]
    assert len({id(one.description) for one in results}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"ssh_conn_id": "other"},
        {"command": "rows "},
        {"occasion": DUE + timedelta(minutes=1)},
        {"attempt": 2},
    ],
)
def test_another_connection_command_minute_or_attempt_is_another_describe(
    runs: list[str], other: dict[str, Any]
) -> None:
    """What differs in one of the four is not shared."""
    asyncio.run(all_of(asked(), asked(**other)))
    assert len(runs) == 2


@pytest.mark.parametrize(
    ("other", "at_once"),
    [
        ({"command": "rows "}, 1),
        ({"command": "rows ", "bootstrap_servers": ("b-2:9092", "b-1:9092")}, 1),
        ({"command": "rows ", "timeout": 50.0, "occasion": "by hand"}, 1),
        ({"command": "rows ", "group": "h"}, 2),
        ({"command": "rows ", "bootstrap_servers": ("c-1:9092",)}, 2),
        ({"ssh_conn_id": "other"}, 2),
    ],
)
def test_one_group_is_described_by_one_command_at_a_time(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], at_once: int
) -> None:
    """Another time limit or JVM option is another command and the same group of those brokers."""
    running: list[int] = [0]

    async def run(_: Any, *, command: str, **__: Any) -> DescribeOutput:
        running.append(running[-1] + 1)
        await asyncio.sleep(0.01)
        running.append(running[-1] - 1)
        return DescribeOutput(ROWS, "", 0, datetime.now(UTC))

    monkeypatch.setattr(Sessions, "run", run)
    asyncio.run(all_of(asked(), asked(**other), asked(), asked(**other)))
    assert len(running) == 5
    assert max(running) == at_once


@pytest.mark.parametrize(
    ("command", "kind"), [("unreachable", SSHUnreachable), ("broker", BrokerTimedOut)]
)
def test_each_caller_gets_its_own_error_of_the_one_failure(
    runs: list[str], command: str, kind: type[Exception]
) -> None:
    """A note that one topic adds doesn't show on another's error, and nothing is run twice."""
    first, second = asyncio.run(all_of(asked(command), asked(command)))
    assert type(first) is type(second) is kind
    assert str(first) == str(second)
    first.add_note("orders")
    assert not getattr(second, "__notes__", ())
    assert runs == [command]


def test_a_describe_that_waits_too_long_for_an_earlier_one_says_so(
    runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of the next minute fails with words instead of a second JVM."""
    monkeypatch.setattr(room, "patience_with", lambda _: 0.001)
    first, second = asyncio.run(all_of(asked(), asked(attempt=2)))
    assert isinstance(first, Collected)
    assert isinstance(second, DescribeTimedOut)
    assert re.match(BUSY, str(second))
    assert runs == ["rows"]


@given(timeout=st.floats(min_value=1, max_value=30))
def test_a_retry_waits_as_long_as_a_lost_describe_may_run(timeout: float) -> None:
    """Where there is room for a retry in a minute, what its first try left can't keep it out."""
    assert room.patience_with(timeout) >= TimeLimits.within(timeout).longest_s + 1


@pytest.mark.parametrize(("timeout", "patience"), [(5.0, 30.0), (35.0, 25.0), (50.0, 20.0)])
def test_a_describe_waits_as_long_as_it_can_end_within_its_minute(
    timeout: float, patience: float
) -> None:
    """But at least twenty seconds, and at most thirty, which its task has time for."""
    assert room.patience_with(timeout) == patience


def test_a_describe_that_may_run_on_holds_up_those_of_its_group_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its caller knows at once that the session was lost; the group's next one begins later."""
    began: list[str] = []
    free_at: list[float] = []

    async def run(
        _: Any, *, command: str, left_running: Callable[[float], object], **__: Any
    ) -> DescribeOutput:
        began.append(command)
        if command == "lost":
            free_at.append(asyncio.get_running_loop().time() + 1.0)
            left_running(1.0)
            raise OutputCutOff("The SSH session ended early.")
        return DescribeOutput(ROWS, "", 0, datetime.now(UTC))

    monkeypatch.setattr(Sessions, "run", run)

    async def scenario() -> None:
        with pytest.raises(OutputCutOff):
            await asked("lost")
        assert asyncio.get_running_loop().time() < free_at[0]
        retry = asyncio.create_task(asked("retry", attempt=2))
        await asked("other", bootstrap_servers=("c-1:9092",))
        with monkeypatch.context() as patch:
            patch.setattr(room, "patience_with", lambda _: 0.001)
            (other,) = await all_of(asked("by hand", occasion="by hand"))
        assert isinstance(other, DescribeTimedOut)
        assert re.search(r"\d\d UTC, may still run there, without a session, so", str(other))
        assert began == ["lost", "other"]
        assert isinstance(await retry, Collected)
        assert asyncio.get_running_loop().time() >= free_at[0]

    asyncio.run(scenario())
    assert began == ["lost", "other", "retry"]


@pytest.mark.parametrize(
    ("raised", "words"),
    [(None, "not within 0.01 s"), (ConnectionRefusedError("refused"), "refused")],
)
def test_an_airflow_that_hands_out_no_connection_is_not_taken_for_the_host(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | None, words: str
) -> None:
    """Until the connection is read the host was not asked for anything."""

    async def target(_: LagSSHHook) -> Any:
        if raised:
            raise raised
        await asyncio.sleep(60)

    monkeypatch.setattr(LagSSHHook, "target", target)
    with pytest.raises(SSHConnectionNotRead, match=f"'mm': {words}.*API server"):
        asyncio.run(asked(timeout=0.01))


def test_nothing_of_one_event_loop_reaches_another(runs: list[str]) -> None:
    """Each worker has its own describe, and loops that ended are forgotten."""
    for _ in range(3):
        asyncio.run(asked())
    assert len(runs) == 3
    assert len(room._rooms) == 1


def test_a_cleared_run_does_not_get_what_a_retry_saw_before_it(
    runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared run has the minute and the try of earlier retries, but not their output."""

    async def write(*documents: Document, **_: Any) -> Any:
        return (None,) * len(documents)

    monkeypatch.setattr("airflow_lag_provider.observe.store", write)
    monkeypatch.setattr(Watch, "command", "rows")
    watch = Watch(
        mirror="m",
        topics=("orders",),
        group="g",
        bootstrap_servers=("b-1:9092",),
        ssh_conn_id="mm",
        elasticsearch_conn_id="es",
        index="lag",
        timeout=25.0,
    )

    async def story() -> None:
        retry = replace(RUN, try_number=2, started_at=DUE)
        await observe(watch, retry)
        await observe(watch, retry)
        assert len(runs) == 1
        cleared = replace(retry, started_at=datetime.now(UTC))
        (stored,) = (await observe(watch, cleared)).stored
        assert stored.snapshot.taken_at >= cleared.started_at

    asyncio.run(story())
    assert len(runs) == 2


def test_the_next_minute_of_a_schedule_begins_before_anybody_asks(runs: list[str]) -> None:
    """After two minutes in a row the third one's describe is there when its runs come."""

    async def scenario() -> Collected:
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        await asked(occasion=due - timedelta(minutes=2))
        await asked(occasion=due - timedelta(minutes=1))
        assert len(runs) == 2
        await until_run(runs, 3)
        return await asked(occasion=due)

    assert asyncio.run(scenario()).description.topics == ("orders",)
    assert len(runs) == 3


def test_each_command_of_a_group_begins_with_its_minute(runs: list[str]) -> None:
    """Topics with different time limits have a describe each, the second after the first."""

    async def scenario() -> None:
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        for n in (2, 1):
            await all_of(*(asked(text, occasion=due - MINUTE * n) for text in ("rows", "rows ")))
        assert len(runs) == 4
        await until_run(runs, 6)

    asyncio.run(scenario())
    assert sorted(runs) == ["rows"] * 3 + ["rows "] * 3


@pytest.mark.parametrize(("patience", "kind"), [(30.0, Collected), (0.01, DescribeTimedOut)])
def test_what_begins_ahead_waits_for_a_describe_that_hangs(
    monkeypatch: pytest.MonkeyPatch, patience: float, kind: type[object]
) -> None:
    """It begins when that one ends, or fails those who ask for it later."""
    runs: list[str] = []
    ended = asyncio.Event()

    async def run(_: Any, *, command: str, **__: Any) -> DescribeOutput:
        runs.append(command)
        if runs.count("hangs") == 3:
            await ended.wait()
        return DescribeOutput(ROWS, "", 0, datetime.now(UTC))

    monkeypatch.setattr(Sessions, "run", run)
    monkeypatch.setattr(room, "patience_with", lambda _: patience)

    async def scenario() -> Any:
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        later = due + timedelta(seconds=0.2)
        for n in (2, 1):
            await asked("hangs", occasion=due - MINUTE * n)
            await asked(occasion=later - MINUTE * n)
        await until_run(runs, 5)
        while len(room._rooms.get().work) < 6:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(asked(occasion=later))
        await asyncio.wait([waiting], timeout=0.1 if kind is Collected else None)
        ended.set()
        (result,) = await all_of(waiting)
        return result

    result = asyncio.run(scenario())
    assert isinstance(result, kind)
    assert isinstance(result, Collected) or re.match(BUSY, str(result))
    assert runs[5:] == ["rows"] * (kind is Collected)


def test_a_failure_before_anybody_asks_is_told_to_those_who_do(runs: list[str]) -> None:
    """The work that began with its minute fails its callers, whose next try is a new one."""

    async def scenario() -> list[Any]:
        due = datetime.now(UTC) + timedelta(seconds=0.5)
        calls = [{"occasion": due - timedelta(minutes=n)} for n in (2, 1)]
        for one in calls:
            await all_of(asked("unreachable", **one))
        await until_run(runs, 3)
        return await all_of(
            *(asked("unreachable", occasion=due, attempt=attempt) for attempt in (1, 1, 2))
        )

    assert [type(one) for one in asyncio.run(scenario())] == [SSHUnreachable] * 3
    assert len(runs) == 4


def test_nothing_begins_for_runs_by_hand_or_retries(runs: list[str]) -> None:
    """Only scheduled first tries promise that there will be another one in a minute."""

    async def scenario() -> None:
        due = datetime.now(UTC) + timedelta(seconds=0.05)
        for n in (2, 1):
            await asked(occasion=due - timedelta(minutes=n), attempt=2)
            await asked(occasion=f"manual {n}")
        await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert len(runs) == 4
