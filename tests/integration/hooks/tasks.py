"""Tasks whose describe is given: what becomes of them is the doing of Elasticsearch alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_lag_provider import observe
from airflow_lag_provider.collect import Collected
from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.errors import LagError, StoreError
from airflow_lag_provider.operators.lag import SSHLagOperator
from airflow_lag_provider.snapshot import PartitionLag
from lab.errors import PartError
from tests.integration.support import context, search

INDEX = "consumer_lag"
LAGS = (5, 7, 0)


class Server(Protocol):
    """A node, or a cluster of some."""

    def request(
        self, method: str, path: str, body: object = None, *, timeout: float = 10
    ) -> Any: ...


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    :param result: what it handed on; ``None`` when it failed.
    :param error: why it failed.
    :param retried: whether Airflow would try it again.
    :param text: what Airflow's log shows of the failure.
    """

    result: Mapping[str, Any] | None
    error: StoreError | None = None
    retried: bool = False
    text: str = ""


class Tasks:
    """Runs tasks in this process; their documents go through the connection ``elastic``.

    :param server: looked into as its superuser.
    """

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self._monkeypatch = monkeypatch

    def connect(self, connection: Mapping[str, Any], **extra: Any) -> None:
        """Let the next tasks use this connection, with these extras."""
        fields = {**connection, "extra": extra}
        self._monkeypatch.setenv("AIRFLOW_CONN_ELASTIC", json.dumps(fields))

    def run(self, run_id: str, *, topic: str = "orders", lags: tuple[int, ...] = LAGS) -> Ended:
        """Run a task for a topic whose partitions have these lags.

        :raises Exception: it fails otherwise than tasks of this package do.
        """
        self._monkeypatch.setattr(observe, "collect", _describe(topic, lags))
        operator = SSHLagOperator(
            task_id=topic,
            topic=topic,
            group="g",
            mirror="oasis",
            bootstrap_servers="b-1:9092",
            elasticsearch_conn_id="elastic",
        )
        try:
            return Ended(operator.execute(context(run_id)))
        except AirflowFailException as failure:
            return _failed(failure.__cause__, retried=False, text=str(failure))
        except LagError as error:
            return _failed(error, retried=True, text=str(error))

    def documents(self) -> dict[str, Any]:
        """Return the documents of the index by their run.

        :raises AssertionError: a run has two.
        """
        with suppress(PartError):
            found = [hit["_source"] for hit in search(self.server, index=INDEX)]
            by_run = {one["airflow"]["run_id"]: one for one in found}
            assert len(by_run) == len(found)
            return by_run
        return {}

    def change(self, settings: Mapping[str, Any]) -> None:
        """Change settings of the cluster; ``None`` takes one back."""
        self.server.request("PUT", "/_cluster/settings", {"persistent": settings})

    def change_index(self, settings: Mapping[str, Any]) -> None:
        """Change settings of the index; ``None`` takes one back."""
        self.server.request("PUT", f"/{INDEX}/_settings", settings)


def _failed(error: BaseException | None, *, retried: bool, text: str) -> Ended:
    assert isinstance(error, StoreError), error
    return Ended(None, error, retried, text)


def _describe(topic: str, lags: tuple[int, ...]) -> Any:
    """Return what stands in for the describe."""
    rows = tuple(
        PartitionLag(topic, number, 10, 10 + lag, lag, consumer="a member")
        for number, lag in enumerate(lags)
    )

    async def collect(**_: Any) -> Collected:
        now = datetime.now(UTC)
        return Collected(GroupDescription("g", "active", rows), now, now)

    return collect
