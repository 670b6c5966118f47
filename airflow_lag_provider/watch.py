"""What one task watches: the request that goes through the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from airflow_lag_provider.command import DEFAULT_JVM_OPTS, DEFAULT_TOOL, describe_command
from airflow_lag_provider.config_keys import Elasticsearch, MirrorSettings, problem
from airflow_lag_provider.config_values import topic_name_problem
from airflow_lag_provider.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Topics of one consumer group, how to describe it, and where the documents go.

    :param mirror: the mirror's name.
    :param topics: topics to take a snapshot of; at least one.
    :param together: whether the task is one for several topics, be it that one is left.
    :param group: consumer group of MirrorMaker.
    :param bootstrap_servers: ``host:port`` of brokers of the source cluster.
    :param ssh_conn_id: Airflow connection of the MirrorMaker host.
    :param elasticsearch_conn_id: Airflow connection of Elasticsearch.
    :param index: index, which may hold ``%Y``, ``%m``, ``%d`` and ``%H``.
    :param timeout: seconds for the describe, connecting included.
    :param tool: path of kafka-consumer-groups.sh on the host, or a name on its PATH.
    :param command_config: client properties file on the host.
    :param jvm_opts: flags of the tool's JVM.
    :param class_data_archive: directory for a class data archive on the host.
    :param mirrors_file: path of the configuration that names all topics of the group; ``None``
        when there is none.
    """

    mirror: str
    topics: tuple[str, ...]
    group: str
    bootstrap_servers: tuple[str, ...]
    ssh_conn_id: str
    elasticsearch_conn_id: str
    index: str
    timeout: float
    tool: str = DEFAULT_TOOL
    command_config: str | None = None
    jvm_opts: str = DEFAULT_JVM_OPTS
    class_data_archive: str | None = None
    mirrors_file: str | None = None
    together: bool = False

    @cached_property
    def command(self) -> str:
        """The describe command, as it is sent to the host."""
        return self._command(class_data_archive=self.class_data_archive)

    @property
    def short_command(self) -> str:
        """The same without its lines of shell for the archive, for what is kept of every run."""
        return self._command(class_data_archive=None)

    def _command(self, *, class_data_archive: str | None) -> str:
        return describe_command(
            bootstrap_servers=self.bootstrap_servers,
            group=self.group,
            timeout=self.timeout,
            tool=self.tool,
            command_config=self.command_config,
            jvm_opts=self.jvm_opts,
            class_data_archive=class_data_archive,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, as a trigger's arguments have to be."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Watch:
        """Return what :meth:`to_json` was called on."""
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**given)

    def check(self) -> None:
        """Check all values by the rules of the configuration, since a template gives any text.

        :raises InvalidRequest: with all values that can't be used.
        """
        mirror = {
            "group": self.group,
            "bootstrap_servers": self.bootstrap_servers,
            "ssh_conn_id": self.ssh_conn_id,
            "tool": self.tool,
            "jvm_opts": self.jvm_opts,
        }
        for name in ("command_config", "class_data_archive"):
            if (value := getattr(self, name)) is not None:
                mirror[name] = value
        elasticsearch = {"conn_id": self.elasticsearch_conn_id, "index": self.index}
        mistakes = [
            *_mistakes(MirrorSettings, mirror),
            *_mistakes(Elasticsearch, elasticsearch),
            *_topic_mistakes(self.topics),
        ]
        if mistakes:
            raise InvalidRequest(f"{'; '.join(mistakes)}.")


def _mistakes(
    model: type[MirrorSettings] | type[Elasticsearch], values: dict[str, Any]
) -> list[str]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [
            f"{fault['loc'][0]}: {problem(fault, model.model_fields)}"
            for fault in error.errors(include_url=False)
        ]
    return []


def _topic_mistakes(topics: tuple[str, ...]) -> list[str]:
    if not topics:
        return ["topics: is empty; write at least one"]
    problems = [(topic, topic_name_problem(topic)) for topic in topics]
    return [f"topic: {topic!r:.100} {words}" for topic, words in problems if words]
