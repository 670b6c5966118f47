"""What an SSH connection is opened with; how it behaves is the matter of the integration tests."""

from __future__ import annotations

import json

import asyncssh

from airflow_lag_provider.hooks.ssh import LagSSHHook, Target


def test_a_connection_that_went_silent_is_noticed_before_the_next_minute() -> None:
    """It is opened with keep-alive, whose requests have all gone unanswered in less than that."""
    target = Target("host", 22, ("me", None, json.dumps({"known_hosts": "none"})))
    arguments = LagSSHHook(ssh_conn_id="mm")._arguments(target)
    options = asyncssh.SSHClientConnectionOptions(**arguments)
    assert 0 < options.keepalive_interval * (options.keepalive_count_max + 1) < 60
