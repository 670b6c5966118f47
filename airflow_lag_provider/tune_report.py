"""What ``airflow-lag tune`` prints: the advice as text, or as lines of an environment file."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_lag_provider.tune import TRIGGERER_TASKS, Advice
from airflow_lag_provider.tune_load import Load
from airflow_lag_provider.tune_pools import Pool, counted
from airflow_lag_provider.tune_settings import Setting

_WIDTH = 88


@dataclass(frozen=True, slots=True)
class Inventory:
    """The pools and triggerers that an Airflow has.

    :param pools: slots by the pool's name, -1 for one without a limit.
    :param triggerers: how many gave a sign of life lately.
    """

    pools: Mapping[str, int]
    triggerers: int


def text(advice: Advice, *, path: Path, airflow: str, inventory: Inventory | str) -> str:
    """Return the advice for a reader.

    :param path: the configuration file it is about.
    :param airflow: Airflow's version.
    :param inventory: what is there now, or the error because of which that isn't known.
    """
    changes = [one for one in advice.settings if not one.suffices]
    enough = [one for one in advice.settings if one.suffices]
    sections = [
        [f"The load of {path} on Airflow {airflow}, all DAGs switched on:", *_load(advice.load)],
        ["Set these:", *_settings(changes)] if changes else ["No setting has to change."],
        ["These suffice as they are:", *_settings(enough)] if enough else [],
        _triggerers(advice, inventory),
        ["Pools of the tasks that take a worker:", *_pools(advice.pools, inventory)]
        if advice.pools
        else [],
        ["Besides:", *(line for note in advice.notes for line in _wrapped(note, "  "))],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def environment(advice: Advice, *, path: Path, airflow: str, inventory: Inventory | str) -> str:
    """Return the advice as lines for a shell or an environment file, reasons as comments.

    What suffices, and what is no environment variable, is a comment altogether. Parameters as for
    :func:`text`.
    """
    lines = [f"# What {path} needs of Airflow {airflow}; written by: airflow-lag tune --env"]
    lines += [f"# {line.strip()}" for line in _load(advice.load)]
    for setting in advice.settings:
        lines += ["", *_comment(setting.reason)]
        if setting.suffices:
            lines.append(f"# {setting.variable}: {_value(setting)}")
        else:
            lines.append(f"# now: {_now(setting)}")
            line = f"{setting.variable}={setting.needed}"
            lines.append(f"# {line}" if setting.example else line)
    if advice.triggerers:
        lines += ["", *(f"# {line}" for line in _triggerers(advice, inventory))]
    for pool in advice.pools:
        lines += [
            "",
            *_comment(pool.reason),
            f"# now: {_slots_now(pool, inventory)}",
            f"# {_command(pool)}",
            *map("# {}".format, _to_write(pool)),
        ]
    for note in advice.notes:
        lines += ["", *_comment(note)]
    return "\n".join(lines) + "\n"


def _load(load: Load) -> list[str]:
    rows = [
        ("DAGs", load.dags, ""),
        (
            "tasks a minute",
            load.tasks,
            f"{load.triggerer_tasks:,} in the triggerer alone, {load.worker_tasks:,} on workers",
        ),
        ("documents a minute", load.topics, ""),
        ("consumer groups", load.groups, ""),
        (
            "describes a minute",
            load.triggerer_describes + load.worker_describes,
            f"{load.triggerer_describes:,} by each triggerer, {load.worker_describes:,} by workers",
        ),
    ]
    return [
        f"  {name:<20}{number:>6,}{f'  ({words})' if words else ''}" for name, number, words in rows
    ]


def _settings(settings: list[Setting]) -> Iterator[str]:
    width = max(len(_name(setting)) for setting in settings)
    for setting in settings:
        yield f"  {_name(setting):<{width}}  {_value(setting)}"
        yield from _wrapped(setting.reason, "      ")


def _value(setting: Setting) -> str:
    now = _now(setting)
    if not setting.suffices:
        return f"{now} -> {setting.needed}"
    if not isinstance(setting.needed, int):
        return now
    return f"{now}, {'at most ' if setting.at_most else ''}{setting.needed} needed"


def _now(setting: Setting) -> str:
    return "not set" if setting.present is None else setting.present


def _name(setting: Setting) -> str:
    return f"[{setting.section}] {setting.key}"


def _triggerers(advice: Advice, inventory: Inventory | str) -> list[str]:
    if not advice.triggerers:
        return []
    number = advice.triggerers
    now = _unknown(inventory) if isinstance(inventory, str) else inventory.triggerers
    words = (
        f"Triggerers: {number} {'carries' if number == 1 else 'carry'} the load, up to "
        f"{TRIGGERER_TASKS:,} tasks a minute each. One more keeps watching while one is lost, and "
        f"costs one more describe of each group a minute. Running now: {now}."
    )
    return _wrapped(words, "")


def _pools(pools: tuple[Pool, ...], inventory: Inventory | str) -> Iterator[str]:
    for pool in pools:
        yield f"  {_command(pool)}"
        yield f"      Now: {_slots_now(pool, inventory)}."
        yield from _wrapped(pool.reason, "      ")
        yield from (f"      {line}" for line in _to_write(pool))


def _unknown(error: str) -> str:
    return f"not known, Airflow's database could not be asked ({error})"


def _slots_now(pool: Pool, inventory: Inventory | str) -> str:
    if isinstance(inventory, str):
        return _unknown(inventory)
    slots = inventory.pools.get(pool.name)
    if slots is None:
        return "no such pool"
    return "no limit" if slots < 0 else counted(slots, "slot", "slots")


def _command(pool: Pool) -> str:
    words = f"Lag of MirrorMaker, {pool.tasks} tasks a minute"
    return shlex.join(["airflow", "pools", "set", pool.name, str(pool.slots), words])


def _to_write(pool: Pool) -> list[str]:
    return [
        f"To use it, write `pool: {pool.name}` under mirrors.{mirror}." for mirror in pool.unnamed
    ]


def _comment(words: str) -> list[str]:
    return _wrapped(words, "# ")


def _wrapped(words: str, indent: str) -> list[str]:
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
