"""Read ``mirrors.yaml``: the mirrors to watch, and every mistake with its line.

A mistake inside a mirror takes out that mirror alone, so that it can't stop the watch over the
others. What concerns all of them (syntax, ``elasticsearch``, ``defaults``) raises at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_lag_provider import yaml_lines
from airflow_lag_provider.config_keys import (
    SHARED_KEYS,
    Elasticsearch,
    Mirror,
    MirrorSettings,
    Topic,
    TopicSettings,
    problem,
    unknown_key,
)
from airflow_lag_provider.config_values import mirror_name_problem, topic_name_problem
from airflow_lag_provider.errors import ConfigurationError
from airflow_lag_provider.yaml_lines import KeyPath, Mistake, YamlFile

__all__ = ["Configuration", "Elasticsearch", "Mirror", "Mistake", "Topic", "load"]

_TOP_KEYS = frozenset({"elasticsearch", "defaults", "mirrors"})
_TIMING_KEYS = ("retries", "timeout", "retry_delay")
_LAG_KEYS = ("allowed_lag", "max_lag")
_REQUIRED = {
    "bootstrap_servers": "[broker-1:9092, broker-2:9092]",
    "group": "the id of MirrorMaker's consumer group",
}
_MINUTE = timedelta(minutes=1)
# Given to each topic, because pydantic copies a default each time that it fills one in.
_DEFAULTS = {name: field.default for name, field in TopicSettings.model_fields.items()}

_GroupKey = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a configuration file says.

    :param path: the file.
    :param elasticsearch: where documents go.
    :param mirrors: the mirrors without a mistake, in the order of the file.
    :param mistakes: the mistakes of the other mirrors, sorted by line.
    """

    path: Path
    elasticsearch: Elasticsearch
    mirrors: tuple[Mirror, ...]
    mistakes: tuple[Mistake, ...]
    _topics_of_groups: Mapping[_GroupKey, frozenset[str]] = field(default_factory=dict, repr=False)

    def raise_for_mistakes(self, *more: str) -> None:
        """Do nothing if the file has no mistake.

        :param more: what others found wrong with it, a line each.
        :raises ConfigurationError: with one line for each mistake, sorted by line.
        """
        if self.mistakes or more:
            raise ConfigurationError("\n".join([*map(str, self.mistakes), *more]))

    def configured_topics(self, mirror: Mirror) -> frozenset[str]:
        """Return the topics that the file names for a mirror's group on the same brokers.

        Mirrors with mistakes count too as far as they can be read: a topic that somebody wrote
        down isn't forgotten. The order of the brokers doesn't matter.
        """
        key = (mirror.group, frozenset(mirror.bootstrap_servers))
        own = frozenset(topic.name for topic in mirror.topics)
        return own | self._topics_of_groups.get(key, frozenset())


@dataclass(frozen=True, slots=True)
class _Level:
    """The right values of one level of the file, and which of its keys have a mistake."""

    path: KeyPath
    values: dict[str, Any]
    faulty: frozenset[str]


def load(
    path: Path | str, *, callback_problem: Callable[[str], str | None] = lambda _: None
) -> Configuration:
    """Read and check a configuration file.

    :param path: the file.
    :param callback_problem: says why the function at an import path can't be called when an
        `sla` is missed, ``None`` when it can; importing it is not the business of this module.
    :raises ConfigurationError: nothing of the file can be used: it can't be read, isn't YAML, has
        no mirrors, or has a mistake that concerns all mirrors. The message has a line for each
        mistake, those of single mirrors too.
    """
    path = Path(path)
    file = yaml_lines.read(path)
    top = file.mapping((), file.root, "elasticsearch, defaults and mirrors, each with its keys")
    for key in top.keys() - _TOP_KEYS:
        file.add((key,), unknown_key(key, _TOP_KEYS))
    elasticsearch = _level(file, Elasticsearch, ("elasticsearch",), top.get("elasticsearch"))
    defaults = _level(file, MirrorSettings, ("defaults",), top.get("defaults"))
    raw_mirrors = file.mapping(("mirrors",), top.get("mirrors"), "each mirror as `name:`")
    if not raw_mirrors:
        file.add(("mirrors",), "names no mirror; write at least one as `name:` with its keys")

    mirrors = []
    groups: dict[_GroupKey, frozenset[str]] = {}
    callbacks = cache(callback_problem)
    for name, raw in raw_mirrors.items():
        mirror = _mirror(file, name, raw, defaults, callbacks)
        group = (mirror.group, frozenset(mirror.bootstrap_servers))
        groups[group] = groups.get(group, frozenset()) | {topic.name for topic in mirror.topics}
        mirrors.append(mirror)

    mistakes = tuple(sorted(mistake for _, mistake in file.mistakes))
    spoilt = {name for name, _ in file.mistakes}
    if None in spoilt:
        raise ConfigurationError("\n".join(map(str, mistakes)))
    return Configuration(
        path=path,
        elasticsearch=Elasticsearch(**elasticsearch.values),
        mirrors=tuple(mirror for mirror in mirrors if mirror.name not in spoilt),
        mistakes=mistakes,
        _topics_of_groups=groups,
    )


def _level(
    file: YamlFile,
    model: type[Elasticsearch] | type[TopicSettings],
    path: KeyPath,
    raw: object,
) -> _Level:
    """Check the keys of one level by themselves; wrong ones are noted and left out."""
    given = file.mapping(path, raw, "keys with their values, or nothing")
    faulty: set[str] = set()
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            at = tuple(part for part in fault["loc"] if part != "[key]")
            file.add((*path, *at), problem(fault, model.model_fields))
            faulty.add(str(at[0]))
        checked = model.model_validate({k: v for k, v in given.items() if k not in faulty})
    values = {key: getattr(checked, key) for key in checked.model_fields_set}
    return _Level(path, values, frozenset(faulty))


def _mirror(
    file: YamlFile,
    name: str,
    raw: object,
    defaults: _Level,
    callback_problem: Callable[[str], str | None],
) -> Mirror:
    """Check one mirror and merge its levels; what it returns is right if nothing was noted."""
    path = ("mirrors", name)
    if wrong := mirror_name_problem(name):
        file.add(path, wrong)
    given = file.mapping(path, raw, "the mirror's keys with their values")
    own = {key: value for key, value in given.items() if key != "topics"}
    level = _level(file, MirrorSettings, path, own)
    merged = defaults.values | level.values
    for key, example in _REQUIRED.items():
        if key not in merged and key not in level.faulty | defaults.faulty:
            file.add((*path, key), f"is missing; write {key}: {example}")

    raw_topics = file.mapping((*path, "topics"), given.get("topics"), "each topic as `name:`")
    if not raw_topics:
        file.add((*path, "topics"), "names no topic; write at least one as `name:`")
    layout = None if "layout" in level.faulty else merged.get("layout", "topic")
    topics = []
    for topic_name, raw_topic in raw_topics.items():
        topic, levels = _topic(file, topic_name, raw_topic, (defaults, level), layout)
        _check_timing(file, topic, levels)
        _check_lags(file, topic, levels)
        _check_callback(file, topic, levels, callback_problem)
        topics.append(topic)
    merged["retries"] = _retries(_DEFAULTS | merged)
    return Mirror.model_construct(**merged | {"name": name, "topics": tuple(topics)})


def _topic(
    file: YamlFile, name: str, raw: object, above: tuple[_Level, _Level], layout: str | None
) -> tuple[Topic, tuple[_Level, ...]]:
    """Check one topic and merge it with the levels above, ``defaults`` and the mirror.

    :return: the topic, and the levels it is merged from.
    """
    path = (*above[-1].path, "topics", name)
    if wrong := topic_name_problem(name):
        file.add(path, wrong)
    level = _level(file, TopicSettings, path, raw)
    shared = SHARED_KEYS.get(layout or "", {})
    for key in sorted(shared.keys() & (level.values.keys() | level.faulty)):
        message = f"belongs to the {shared[key]}, which all topics share in layout {layout}; "
        file.add((*path, key), message + "move it to the mirror")
    levels = (*above, level)
    merged = dict(_DEFAULTS)
    for each in levels:
        own = each.values.keys() & TopicSettings.model_fields.keys()
        merged |= {key: each.values[key] for key in own}
    merged["retries"] = _retries(merged)
    return Topic.model_construct(**merged | {"name": name}), levels


def _retries(settings: Mapping[str, Any]) -> int:
    """Return the retries of a level; by default one, where its end leaves the minute free."""
    retries: int | None = settings["retries"]
    if retries is not None:
        return retries
    return 1 if 2 * settings["timeout"] + settings["retry_delay"] < _MINUTE else 0


def _check_timing(file: YamlFile, topic: Topic, levels: tuple[_Level, ...]) -> None:
    """Note it when the tries can't end before the next minute, in which the next run is due."""
    at = _most_specific(levels, _TIMING_KEYS)
    timeout, delay = (int(span.total_seconds()) for span in (topic.timeout, topic.retry_delay))
    total = (topic.retries + 1) * timeout + topic.retries * delay
    if at and total >= _MINUTE.total_seconds():
        message = (
            f"timeout {timeout}s, retries {topic.retries} and retry_delay {delay}s can take "
            f"{total} s together; write less, so that it is below 60 s"
        )
        _add_once(file, at, levels, message)


def _check_lags(file: YamlFile, topic: Topic, levels: tuple[_Level, ...]) -> None:
    """Note it when a lag is allowed that is already too much."""
    at = _most_specific(levels, _LAG_KEYS)
    if at and None not in (topic.allowed_lag, topic.max_lag):
        allowed, most = int(topic.allowed_lag or 0), int(topic.max_lag or 0)
        if allowed > most:
            message = f"allowed_lag {allowed} is above max_lag {most}; write at most max_lag"
            _add_once(file, at, levels, message)


def _check_callback(
    file: YamlFile,
    topic: Topic,
    levels: tuple[_Level, ...],
    callback_problem: Callable[[str], str | None],
) -> None:
    """Note it when Airflow couldn't call the topic's callback."""
    at = _most_specific(levels, ("sla_miss_callback",))
    if at and topic.sla_miss_callback and (wrong := callback_problem(topic.sla_miss_callback)):
        _add_once(file, at, levels, wrong)


def _most_specific(levels: tuple[_Level, ...], keys: tuple[str, ...]) -> KeyPath | None:
    """Return the lowest place where one of the keys stands; ``None`` if one is wrong in itself."""
    if any(level.faulty.intersection(keys) for level in levels):
        return None
    places = [
        (*level.path, key) for level in reversed(levels) for key in keys if key in level.values
    ]
    return places[0] if places else None


def _add_once(file: YamlFile, at: KeyPath, levels: tuple[_Level, ...], message: str) -> None:
    """Note a mistake of a topic where its cause stands: once, however many topics it concerns."""
    mirror = str(levels[1].path[-1])
    if at[0] == "defaults":
        # It spoils the mirrors that don't override it, not the file.
        message = f"in mirror {mirror}, {message}"
    known = {(mistake.path, mistake.message) for _, mistake in file.mistakes}
    if (yaml_lines.path_text(at), message) not in known:
        file.add(at, message, mirror=mirror)
