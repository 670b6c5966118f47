"""What the tests of the Elasticsearch hook share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool
from airflow_lag_provider.spool import Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """The spool of an Airflow that has one; it is empty."""
    monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
    found = configured_spool()
    assert found
    yield found
    found.release()
