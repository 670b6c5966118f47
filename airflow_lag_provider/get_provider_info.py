"""What Airflow reads to know this provider (entry point ``apache_airflow_provider``)."""

from __future__ import annotations

from typing import Any

from airflow_lag_provider import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, after Airflow's ``provider_info.schema.json``.

    No connection type is declared: ``ssh`` and ``elasticsearch`` belong to their own providers,
    and a type registered twice would be taken from them.
    """
    return {
        # Airflow rejects every provider when this is not the distribution's canonical name.
        "package-name": "airflow-lag-provider",
        "name": "Kafka MirrorMaker lag",
        "description": "Records the lag of Kafka MirrorMaker topics in Elasticsearch.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Kafka MirrorMaker",
                "external-doc-url": "https://kafka.apache.org/documentation/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": "Kafka MirrorMaker",
                "python-modules": ["airflow_lag_provider.operators.lag"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Kafka MirrorMaker",
                "python-modules": ["airflow_lag_provider.hooks.elasticsearch"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Kafka MirrorMaker",
                "python-modules": ["airflow_lag_provider.triggers.lag"],
            }
        ],
        "cli": ["airflow_lag_provider.cli.get_commands"],
        "config": {
            "lag": {
                "description": "Kafka MirrorMaker lag: its configuration file and its spool.",
                "options": {
                    "mirrors_file": {
                        "description": (
                            "Path of the file that names the mirrors and their topics. Empty: "
                            "include/mirrors.yaml beside the folder of the DAG file."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/include/mirrors.yaml",
                        "default": "",
                    },
                    "spool_dir": {
                        "description": (
                            "Directory in which documents wait while Elasticsearch does not take "
                            "them; one for each host, on a disk that outlives the processes and "
                            "their containers. An absolute path; it is made with mode 0700 and "
                            "must belong to the user that Airflow runs as. Empty: nothing waits, "
                            "and a task whose document can't be written fails."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/var/lib/airflow/lag-spool",
                        "default": "",
                    },
                    "spool_max_bytes": {
                        "description": (
                            "Limit of all files in spool_dir together, bytes. What finds no room "
                            "is counted, and its task fails. What Elasticsearch refused has an "
                            "eighth of it besides, at least 1 MiB."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": "1073741824",
                    },
                },
            }
        },
    }
