"""What an SSH connection is opened with; how it behaves is the matter of the integration tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from airflow_lag_provider.hooks.ssh import LagSSHHook, Target


def test_a_connection_that_went_silent_is_noticed_before_the_next_minute() -> None:
    """It is opened with keep-alive, whose requests have all gone unanswered in less than that."""
    target = Target("host", 22, ("me", None, json.dumps({"known_hosts": "none"})))
    arguments = LagSSHHook(ssh_conn_id="mm")._arguments(target)
    options = asyncssh.SSHClientConnectionOptions(**arguments)
    assert 0 < options.keepalive_interval * (options.keepalive_count_max + 1) < 60


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
NO_CONFIG = "Host elsewhere\n  UserKnownHostsFile none\n"


@pytest.mark.parametrize(
    ("files", "extra", "trusted"),
    [
        ({}, {}, 0),
        ({"known_hosts": f"host {HOST_KEY}"}, {}, 1),
        ({"known_hosts": f"host {HOST_KEY}"}, {"known_hosts": ""}, 1),
        ({"known_hosts": f"other {HOST_KEY}", "config": NO_CONFIG}, {}, 0),
        (
            {"mine": f"host {HOST_KEY}", "config": "Host host\n  UserKnownHostsFile ~/.ssh/mine\n"},
            {},
            1,
        ),
        ({"config": "Host host\n  UserKnownHostsFile none\n"}, {}, None),
        ({"config": "IdentityFile ~/.ssh/no_such\nUserKnownHostsFile none\n"}, {}, None),
    ],
)
def test_host_keys_are_looked_up_before_the_event_loop_needs_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    extra: dict[str, Any],
    trusted: int | None,
) -> None:
    """The same files are trusted as by asyncssh, which would read them on the loop."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    for name, text in files.items():
        (tmp_path / ".ssh" / name).write_text(text)
    target = Target("host", 22, ("me", None, json.dumps(extra)))
    known_hosts = LagSSHHook(ssh_conn_id="mm")._arguments(target)["known_hosts"]
    if trusted is None:
        assert known_hosts is None
        return
    keys, *_ = asyncssh.match_known_hosts(known_hosts, "host", "10.0.0.1", 22)
    assert len(keys) == trusted
    # Else asyncssh takes its own default.
    assert known_hosts
