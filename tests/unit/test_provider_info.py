"""What Airflow reads about this provider, and what the wheel holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import airflow_lag_provider
from airflow_lag_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    """The installed distribution has the entry point, and it gives the provider's description."""
    (found,) = (
        one
        for one in entry_points(group="apache_airflow_provider")
        if one.value.startswith("airflow_lag_provider")
    )
    assert found.load()() == get_provider_info()


def test_the_providers_name_is_the_distributions() -> None:
    """Airflow rejects all providers when one has another name than its distribution."""
    name = distribution("airflow-lag-provider").metadata["Name"]
    assert get_provider_info()["package-name"] == re.sub(r"[-_.]+", "-", name).lower()


def test_airflow_accepts_it_beside_all_other_providers() -> None:
    """The provider manager lists ours and still lists those of SSH and Elasticsearch."""
    from airflow.providers_manager import ProvidersManager

    providers = ProvidersManager().providers
    assert providers["airflow-lag-provider"].version == airflow_lag_provider.__version__
    assert "apache-airflow-providers-ssh" in providers
    assert "apache-airflow-providers-elasticsearch" in providers


def test_every_module_it_names_is_there() -> None:
    """Operators and hooks of the description can be imported."""
    info = get_provider_info()
    modules = [
        m for kind in ("operators", "hooks") for one in info[kind] for m in one["python-modules"]
    ]
    code = ";".join(f"import {module}" for module in modules)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert modules


def test_the_mapping_of_the_package_is_that_of_include() -> None:
    """A wheel's user and a project's user get the same index."""
    package = Path(airflow_lag_provider.__file__).parent
    inside = json.loads((package / "mapping.json").read_text(encoding="utf-8"))
    assert inside == json.loads((ROOT / "include" / "mapping.json").read_text(encoding="utf-8"))
    assert inside["mappings"]["properties"]["topic"] == {"type": "keyword"}
