"""The keys of ``mirrors.yaml``: their names, types, units and defaults.

``TopicSettings`` and ``MirrorSettings`` check one level of the file (``defaults``, a mirror, a
topic); ``Topic`` and ``Mirror`` are what remains when the levels are merged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from airflow_lag_provider.command import DEFAULT_JVM_OPTS, DEFAULT_TOOL
from airflow_lag_provider.config_values import (
    ArchiveDirectory,
    ConnId,
    Count,
    Duration,
    FilePath,
    Group,
    ImportPath,
    IndexName,
    Instant,
    JvmOpts,
    Permissions,
    Seconds,
    Servers,
    Tags,
    Text,
    Timeout,
    Tool,
)
from airflow_lag_provider.yaml_lines import shown

DAG_KEYS = frozenset({"paused", "start_date", "tags", "access_control", "sla_miss_callback"})
"""Keys that Airflow has on a DAG, not on a task."""

TASK_KEYS = frozenset({"timeout", "retries", "retry_delay", "owner", "pool", "deferrable"})
"""Keys that Airflow has on a task."""

SHARED_KEYS = {
    "topic": {},
    "mirror": dict.fromkeys(DAG_KEYS, "DAG"),
    "group": dict.fromkeys(DAG_KEYS, "DAG") | dict.fromkeys(TASK_KEYS, "task"),
}
"""By layout: keys that belong to something that all topics share, and to what."""


class _Keys(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Elasticsearch(_Keys):
    """Where documents go.

    :param conn_id: id of the Airflow connection.
    :param index: name of the index; ``%Y``, ``%m``, ``%d`` and ``%H`` stand for parts of the
        instant (UTC) a run was due.
    """

    conn_id: ConnId = "elasticsearch_default"
    index: IndexName = "consumer_lag"


class TopicSettings(_Keys):
    """Keys that may stand on a topic, on its mirror, or in ``defaults``.

    :param allowed_lag: lag (messages) of a partition up to which it counts as caught up.
    :param max_lag: lag (messages) of a partition above which it counts as late.
    :param max_lag_seconds: age (whole seconds) of the oldest message not yet mirrored, above
        which a partition counts as late.
    :param sla: time after the scheduled instant by which the document has to be there.
    :param timeout: limit of one try, 10 to 55 seconds.
    :param retries: tries after a failed first one; ``None`` on a level: chosen by the timing.
    :param retry_delay: pause between two tries.
    :param owner: owner of the task; ``None``: Airflow's default.
    :param pool: Airflow pool of the task; ``None``: Airflow's default. The triggerer has no pools,
        so it limits nothing where the task is deferrable.
    :param deferrable: wait in the triggerer instead of a worker.
    :param paused: whether a new DAG is paused at its creation; ``None``: Airflow's default.
    :param start_date: first instant (UTC) of the DAG.
    :param tags: tags besides the two that every DAG has, 100 characters each.
    :param access_control: permissions on the DAG, by role.
    :param sla_miss_callback: import path of the function or notifier that is called after a
        missed ``sla``.
    """

    allowed_lag: Count | None = None
    max_lag: Count | None = None
    max_lag_seconds: Seconds = None
    sla: Duration | None = None
    timeout: Timeout = timedelta(seconds=25)
    retries: Count | None = None
    retry_delay: Duration = timedelta(seconds=5)
    owner: Text | None = None
    pool: Text | None = None
    deferrable: bool = True
    paused: bool | None = None
    start_date: Instant = datetime(2024, 1, 1, tzinfo=UTC)
    tags: Tags = ()
    access_control: Mapping[Text, Permissions] | None = None
    sla_miss_callback: ImportPath | None = None


class MirrorSettings(TopicSettings):
    """Keys that may stand on a mirror or in ``defaults``: those of a topic, and these.

    :param ssh_conn_id: id of the Airflow connection of the host that runs the tool.
    :param bootstrap_servers: brokers to ask, each ``host:port``.
    :param group: id of MirrorMaker's consumer group.
    :param tool: absolute path of kafka-consumer-groups.sh on the host, or a name on its PATH.
    :param command_config: absolute path of the Kafka client's properties file on the host.
    :param layout: one DAG for each topic; or one for the mirror with a task for each topic
        (``mirror``) or with one task for all of them (``group``).
    :param jvm_opts: flags of the tool's JVM, separated by spaces; empty: the tool's own.
    :param class_data_archive: absolute path of a directory on the host for a class data archive;
        ``None``: no archive, and nothing is written on the host.
    """

    ssh_conn_id: ConnId = "ssh_default"
    bootstrap_servers: Servers = ()
    group: Group = ""
    tool: Tool = DEFAULT_TOOL
    command_config: FilePath | None = None
    layout: Literal["topic", "mirror", "group"] = "topic"
    jvm_opts: JvmOpts = DEFAULT_JVM_OPTS
    class_data_archive: ArchiveDirectory | None = None


class Topic(TopicSettings):
    """A topic to watch, all levels merged. Its fields besides those of ``TopicSettings``:

    :param name: the topic's name.
    :param retries: tries after a failed first one; with their time-outs and pauses they end
        before the next minute.
    """

    model_config = ConfigDict(defer_build=True)
    name: str
    retries: int


class Mirror(MirrorSettings):
    """A mirror to watch, all levels merged. Its fields besides those of ``MirrorSettings``:

    :param name: the mirror's name.
    :param topics: its topics, in the order of the file; at least one.
    """

    model_config = ConfigDict(defer_build=True)
    name: str
    topics: tuple[Topic, ...]


def unknown_key(key: str, known: Mapping[str, Any] | frozenset[str]) -> str:
    """Return the message for a key that doesn't belong where it stands."""
    if key in MirrorSettings.model_fields or key == "topics":
        return "can't stand here; move it to its mirror"
    close = difflib.get_close_matches(key.lower(), known, n=1)
    if close:
        return f"is not a known key; did you mean {close[0]}?"
    return f"is not a known key; leave it out, or write one of {', '.join(sorted(known))}"


_PROBLEMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "value_error": lambda context: str(context["error"]),
    "int_type": lambda _: "is not a whole number; write one such as 100, without quotes",
    "greater_than_equal": lambda context: f"is too small; write {context['ge']} or more",
    "less_than_equal": lambda context: f"is too big; write {context['le']} or less",
    "bool_type": lambda _: "is not true or false; write one of the two, without quotes",
    "string_type": lambda _: "is not text; write text, in quotes where YAML reads something else",
    "literal_error": lambda context: f"is unknown here; write {context['expected']}",
    "tuple_type": lambda _: "is not a list; write [one, two]",
    "dict_type": lambda _: "is not a mapping; write it as {Viewer: [can_read]}",
    "too_short": lambda _: "is empty; write at least one",
}


def problem(fault: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the message for one of pydantic's faults.

    :param fault: one item of ``ValidationError.errors()``.
    :param known: the keys that may stand on this level.
    """
    if fault["type"] == "extra_forbidden":
        return unknown_key(str(fault["loc"][-1]), known)
    say = _PROBLEMS.get(fault["type"])
    text = say(fault.get("ctx", {})) if say else f"is wrong: {fault['msg']}"
    # The value itself may be the secret.
    return text if "jvm_opts" in fault["loc"] else f"{shown(fault['input'])} {text}"
