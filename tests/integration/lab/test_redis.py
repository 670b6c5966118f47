"""The laboratory's Redis: for those who have its password alone, and gone with the laboratory."""

from __future__ import annotations

import psutil
import pytest
from redis import Redis as Client
from redis.exceptions import AuthenticationError

from lab import reaper
from lab.network import HOST
from lab.redis import Redis
from lab.workspace import Workspace

pytestmark = pytest.mark.integration


def test_redis_wants_its_password_and_ends_with_the_laboratory() -> None:
    """It answers who has the password, listens on loopback alone, and is found by the reaper."""
    with Workspace() as workspace:
        redis = Redis(workspace=workspace)
        redis.start()
        assert Client.from_url(redis.url()).ping()
        with pytest.raises(AuthenticationError):
            Client(host=HOST, port=redis.port).ping()
        process = psutil.Process(redis.pid)
        assert {one.laddr.ip for one in process.net_connections("tcp")} == {HOST}
        assert redis.pid in {key.pid for key in reaper.members(workspace.lab_id)}
    assert not process.is_running()
