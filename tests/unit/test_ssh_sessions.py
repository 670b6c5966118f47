"""What is known of a command's end; how sessions behave is the matter of the integration tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from airflow_lag_provider.command import END_MARKER, TimeLimits
from airflow_lag_provider.errors import CommandNotRun, DescribeTimedOut, OutputCutOff
from airflow_lag_provider.hooks.ssh import LagSSHHook, Link, Links, Target
from airflow_lag_provider.ssh_sessions import Sessions, _output

TARGET = Target("mm-1", 22, ("me", None, "{}"))
SECRET = 'sasl.jaas.config=PlainLoginModule required password="geheim";'


def ended(stdout: str, stderr: str) -> asyncssh.SSHCompletedProcess:
    return asyncssh.SSHCompletedProcess(
        None, "describe", None, 1, None, 1, stdout.encode(), stderr.encode()
    )


@pytest.mark.parametrize("streams", [(SECRET, ""), ("", SECRET)])
def test_what_a_shell_said_that_ran_nothing_is_shown_without_secrets(
    streams: tuple[str, str],
) -> None:
    """A forced command or login script may print the configuration of the tool."""
    with pytest.raises(CommandNotRun) as caught:
        _output(ended(*streams), TARGET, datetime.now(UTC))
    assert "and said: sasl.jaas.config=PlainLoginModule required password=***" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_an_output_shows_nothing_of_what_was_printed_when_it_is_written_as_text() -> None:
    """Somebody who logs it shows no secrets."""
    output = _output(ended(f"{SECRET}\n{END_MARKER} 0\n", SECRET), TARGET, datetime.now(UTC))
    assert output.exit_code == 0
    assert "geheim" in output.stdout
    assert "geheim" not in repr(output)


REFUSED = asyncssh.ChannelOpenError(asyncssh.OPEN_REQUEST_SESSION_FAILED, "Session request failed")
BROKEN = asyncssh.ConnectionLost("Connection lost")
ENDED = f"\n{END_MARKER} 0\n".encode()
# The time limit that a command was made for, seconds, and how long it may take on the host.
TIMEOUT = 25.0
LONGEST = TimeLimits.within(TIMEOUT).longest_s


class Connection:
    """An open connection that ends a command as it is told.

    :param opens: whether the host opens a channel, on which the command is then sent.
    :param accepts: how it answers that: with an error, not at all (``None``), or in order.
    :param exit_status: the shell's; ``None``: the session breaks.
    """

    def __init__(
        self,
        *,
        opens: bool = True,
        accepts: Exception | bool | None = True,
        exit_status: int | None = None,
        stdout: bytes = b"",
    ) -> None:
        self.opens = opens
        self.accepts = accepts
        self.result = SimpleNamespace(exit_status=exit_status, stdout=stdout, stderr=b"")
        self.commands = 0
        self.closed = 0

    def is_closed(self) -> bool:
        return self.accepts is BROKEN

    async def create_session(self, session: Callable[[], Any], *_: Any, **__: Any) -> None:
        self.commands += 1
        if not self.opens:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "SSH connection closed")
        session()
        if isinstance(self.accepts, Exception):
            raise self.accepts
        if self.accepts is None:
            await asyncio.sleep(60)

    async def wait(self, *, check: bool) -> Any:
        return self.result

    def close(self) -> None:
        self.closed += 1


Run = Callable[..., tuple[BaseException | None, list[float]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on connections; return its error and for how long it was left running."""

    def run(
        *connections: Connection, timeout: float = TIMEOUT, used: bool = False, cancel: bool = False
    ) -> tuple[BaseException | None, list[float]]:
        left: list[float] = []
        links = iter([Link(TARGET, one, used=used) for one in connections])  # type: ignore[arg-type]

        @asynccontextmanager
        async def link(*_: Any) -> AsyncIterator[Link]:
            yield next(links)

        async def target(_: Any) -> Target:
            return TARGET

        monkeypatch.setattr(Links, "link", link)
        monkeypatch.setattr(LagSSHHook, "target", target)
        for name in ("wait", "close"):
            monkeypatch.setattr(asyncssh.SSHClientProcess, name, getattr(connections[-1], name))

        async def story() -> BaseException | None:
            work = asyncio.create_task(
                Sessions().run(
                    ssh_conn_id="mm", command="describe", timeout=timeout, left_running=left.append
                )
            )
            await asyncio.sleep(0.05)
            if cancel:
                work.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await work
            return asyncio.CancelledError() if work.cancelled() else work.exception()

        return asyncio.run(story()), left

    return run


@pytest.mark.parametrize(
    ("connection", "kind"),
    [
        ({"exit_status": 0, "stdout": b"rows" + ENDED}, None),
        ({"exit_status": 0, "stdout": b"This account is closed."}, CommandNotRun),
        ({"exit_status": 127}, CommandNotRun),
        ({"opens": False}, OutputCutOff),
        ({"accepts": REFUSED}, OutputCutOff),
    ],
)
def test_a_command_that_ended_or_never_began_is_not_taken_to_run_on(
    run: Run, connection: dict[str, Any], kind: type[Exception] | None
) -> None:
    """The end marker or a shell's own exit status tells of its end; what was refused has none."""
    error, left = run(Connection(**connection))
    assert type(error) is (kind or type(None))
    assert left == []


@pytest.mark.parametrize(
    "connection",
    [
        {"stdout": b"half of the ro"},
        {"exit_status": -15},
        # As of `ssh inner`, `docker exec` or `sudo`, of whose inside nobody knows.
        {"exit_status": 255},
        {"exit_status": 137},
        {"accepts": BROKEN},
    ],
)
def test_a_command_whose_end_nobody_told_may_run_until_its_time_limit(
    run: Run, connection: dict[str, Any]
) -> None:
    """That is the limit of the host's own ``timeout``, and a second for the shell to begin."""
    error, (seconds,) = run(Connection(**connection))
    assert isinstance(error, OutputCutOff)
    assert seconds == pytest.approx(LONGEST + 1, abs=0.5)


@pytest.mark.parametrize("cancel", [True, False])
def test_who_gives_up_a_command_leaves_it_running_and_its_channel_closed(
    run: Run, cancel: bool
) -> None:
    """Also before the host said that it has the command, from when on its time then counts."""
    connection = Connection(accepts=None)
    error, (seconds,) = run(connection, timeout=0.3, cancel=cancel)
    assert isinstance(error, asyncio.CancelledError if cancel else DescribeTimedOut)
    assert seconds == pytest.approx(TimeLimits.within(0.3).longest_s + 1, abs=0.01)
    assert connection.closed == 1


@pytest.mark.parametrize(
    ("broken", "kind", "commands"),
    [
        ({"opens": False}, None, 1),
        ({"accepts": REFUSED}, None, 1),
        ({"accepts": BROKEN}, OutputCutOff, 0),
    ],
)
def test_only_a_command_that_can_not_run_is_sent_over_another_connection(
    run: Run, broken: dict[str, Any], kind: type[Exception] | None, commands: int
) -> None:
    """One that an open connection took along when it broke may have begun."""
    old, new = Connection(**broken), Connection(exit_status=0, stdout=ENDED)
    error, left = run(old, new, used=True)
    assert type(error) is (kind or type(None))
    assert (old.commands, new.commands) == (1, commands)
    assert len(left) == (kind is OutputCutOff)
