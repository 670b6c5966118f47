"""The environment variables that make up the configuration of the laboratory's Airflow."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from lab.network import HOST

WORKER_SLOTS = 4
"""How many tasks run at once on workers, in the scheduler or in a Celery worker."""


@dataclass(frozen=True)
class Login:
    """Where a person finds the user interface."""

    url: str
    user: str
    password: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """What an installation of Airflow works with.

    :param home: its AIRFLOW_HOME
    :param bin: the ``bin`` folder of its virtual environment
    :param version: Airflow's version
    :param login: where its user interface is to be; 3.x
    :param dags_folder: the DAG files
    :param log_folder: where the tasks' logs go
    :param database: SQLAlchemy URL of its database; None for a sqlite file in its home
    :param broker: URL of the Celery workers' broker; None for no Celery
    """

    home: Path
    bin: Path
    version: tuple[int, ...]
    login: Login
    dags_folder: Path
    log_folder: Path
    database: str | None
    broker: str | None


def settings(place: Place) -> dict[str, str]:
    """Return the variables; on 3.x the password of the login is written to a file."""
    common = {
        "AIRFLOW_HOME": str(place.home),
        "PATH": f"{place.bin}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW__CORE__DAGS_FOLDER": str(place.dags_folder.absolute()),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": place.database
        or f"sqlite:///{place.home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(place.log_folder),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    celery = _celery(place.broker) if place.broker else {}
    return common | (_version_3(place) if place.version >= (3, 0) else _version_2()) | celery


def _version_2() -> dict[str, str]:
    return {
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "10",
        "AIRFLOW__WEBSERVER__SECRET_KEY": secrets.token_hex(16),
    }


def _version_3(place: Place) -> dict[str, str]:
    login = place.login
    passwords = place.home / "passwords.json"
    passwords.write_text(json.dumps({login.user: login.password}) + "\n")
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(place.home / "bundles"),
        "AIRFLOW__CORE__PARALLELISM": str(WORKER_SLOTS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{login.url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{login.user}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": login.url.rpartition(":")[2],
        "AIRFLOW__API__BASE_URL": login.url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    }


def _celery(broker: str) -> dict[str, str]:
    # Its results go to Airflow's database, as they do by default.
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(WORKER_SLOTS),
    }
