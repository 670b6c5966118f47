"""What is said of a command's end; how sessions behave is the matter of the integration tests."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncssh
import pytest

from airflow_lag_provider.command import END_MARKER
from airflow_lag_provider.errors import CommandNotRun
from airflow_lag_provider.hooks.ssh import Target
from airflow_lag_provider.ssh_sessions import _output

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
