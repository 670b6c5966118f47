"""A YAML file as plain Python values, with the line of every key and the mistakes found in it.

It differs from ``yaml.safe_load`` in three ways: keys stay the text that was written (a topic
``007``, ``on`` or ``null`` keeps its name), a key that stands twice is a mistake instead of a
silent override, and a value that can't be read spoils itself only, not the rest of the file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from airflow_lag_provider.errors import ConfigurationError

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the file down to a value."""

UNREADABLE = object()
"""Stands for a value whose mistake is already noted."""

if yaml.__with_libyaml__:

    class _Loader(yaml.composer.Composer, yaml.CSafeLoader):
        """Takes the events from libyaml and makes the nodes in Python, eight times as fast.

        libyaml's own composer overflows its stack where the nesting is deep, which ends Python.
        """

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            yaml.composer.Composer.__init__(self)

else:
    _Loader = yaml.SafeLoader  # type: ignore[assignment, misc]

_MOST_NODES = 100_000
_TAG = "tag:yaml.org,2002:"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake of a configuration file.

    :param file: the file's name, without its directory.
    :param line: number of the line to correct, from 1.
    :param path: the key, from the top of the file, such as ``mirrors.oasis.timeout``.
    :param message: what is wrong and what to write instead, one line.
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}: {self.message}"


class YamlFile:
    """The content of a YAML file.

    :param name: the file's name, for its mistakes.
    :param top: the node at the top of the file.
    :ivar root: the file's value: ``dict`` with ``str`` keys, ``list``, or a scalar's value.
    :ivar mistakes: each mistake with the mirror that it spoils, or ``None`` if it spoils the file.
    """

    def __init__(self, name: str, top: yaml.Node) -> None:
        self.name = name
        self.mistakes: list[tuple[str | None, Mistake]] = []
        self._lines: dict[KeyPath, int] = {}
        self._unreadable: set[KeyPath] = set()
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()
        self.root = self._plain(top, (), ())

    def add(self, path: KeyPath, message: str, *, mirror: str | None = None) -> None:
        """Note a mistake at a key, unless a value above it is known to be wrong as a whole.

        :param path: the key; one that isn't in the file has the line of the nearest key above it.
        :param message: what is wrong and what to write instead.
        :param mirror: the mirror that it spoils; by default the one that the path leads into.
        """
        above = (path[:length] for length in range(len(path) + 1))
        if self._unreadable.isdisjoint(above):
            self._note(path, self.line(path), message, mirror)

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or of the nearest one above it that is in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def mapping(self, path: KeyPath, value: object, example: str) -> dict[str, object]:
        """Return the mapping at a key; one left empty, or a wrong value (noted), is ``{}``.

        :param example: what to write, for the mistake.
        """
        if isinstance(value, dict):
            return value
        if value is not None:
            self.add(path, f"{shown(value)} is not a mapping of keys; write {example}")
            self._unreadable.add(path)
        return {}

    def _note(self, path: KeyPath, line: int, message: str, mirror: str | None = None) -> None:
        if mirror is None and len(path) > 1 and path[0] == "mirrors":
            mirror = str(path[1])
        self.mistakes.append((mirror, Mistake(self.name, line, path_text(path), message)))

    def _plain(self, node: yaml.Node, path: KeyPath, above: tuple[yaml.Node, ...]) -> object:
        """Turn a node into a value; ``above`` are the nodes around it."""
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise ConfigurationError(
                f"{self.name}: has more than {_MOST_NODES:,} values once its aliases are followed; "
                "write fewer."
            )
        if any(node is other for other in above):
            return self._spoilt(path, node, "is an alias of something it is part of; write it out")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            values = []
            for number, item in enumerate(node.value):
                self._lines[(*path, number)] = item.start_mark.line + 1
                values.append(self._plain(item, (*path, number), (*above, node)))
            return values
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._spoilt(path, node, f"has the unknown tag {shown(node.tag)}; leave it out")

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]
    ) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or _SURROGATES.search(key.value):
                self._note(path, line, "a key has to be plain text; write `name: value`")
                continue
            here = (*path, key.value)
            if key.tag == _TAG + "merge":
                message = "merge keys are not supported; write the keys out or use `defaults`"
                self._note(here, line, message)
            elif key.value in values:
                first = self._lines[here]
                self._note(here, line, f"stands here again, first in line {first}; keep one")
            else:
                self._lines[here] = line
                values[key.value] = self._plain(value, here, above)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind = node.tag.removeprefix(_TAG)
        if _SURROGATES.search(node.value):
            return self._spoilt(
                path, node, "holds half a character (\\ud800 to \\udfff); leave it out"
            )
        if kind in {"str", "value", "merge"}:
            return node.value
        if kind not in {"null", "bool", "int", "float", "timestamp"}:
            return self._spoilt(path, node, f"has the unknown tag {shown(node.tag)}; leave it out")
        if kind == "int" and not re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", node.value):
            # YAML 1.1 reads 010 as 8 and 1:30 as 90.
            problem = f"{shown(node.value)} is no plain number; write decimal digits, or quote it"
            return self._spoilt(path, node, problem)
        try:
            return self._scalars.construct_object(node)
        except (ValueError, LookupError, AttributeError, OverflowError):
            # PyYAML lets through whatever int(), float() or datetime() raise.
            problem = f"{shown(node.value)} is no {kind} that can be read; correct it, or quote it"
            return self._spoilt(path, node, problem)

    def _spoilt(self, path: KeyPath, node: yaml.Node, message: str) -> object:
        self._note(path, self._lines.get(path, node.start_mark.line + 1), message)
        self._unreadable.add(path)
        return UNREADABLE


def read(path: Path) -> YamlFile:
    """Read a YAML file.

    :raises ConfigurationError: the file is missing, can't be read, or is not YAML in UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path.name}:{line}: is not UTF-8 text; save it in that encoding."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{path}: can't be read: {reason}. Put the file there, readable for Airflow's user, "
            "or set `[lag] mirrors_file` in the Airflow configuration."
        ) from error
    try:
        top = _composed(text)
        return YamlFile(path.name, top or yaml.ScalarNode(_TAG + "null", "", _start(), _start()))
    except yaml.YAMLError as error:
        raise ConfigurationError(_syntax_message(path.name, text, error)) from error
    except RecursionError as error:
        raise ConfigurationError(
            f"{path.name}: is nested too deeply; write fewer levels"
        ) from error


def _composed(text: str) -> yaml.Node | None:
    """Return the node at the top of a text, ``None`` when it is empty."""
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        # The slower loader takes half characters too, and says better what is wrong.
        return yaml.compose(text, Loader=yaml.SafeLoader)


def path_text(path: KeyPath) -> str:
    """Return a key path on one line: ``mirrors.oasis.tags[0]``; odd keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = re.fullmatch(r"[\w.-]{1,249}", part)
            text += f".{part if plain else shown(part)}"
    return text.removeprefix(".") or "top level"


def shown(value: object) -> str:
    """Return a value for a message: one line, ASCII, shortened to about 80 characters."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a mapping"
    text = json.dumps(value[:100] if isinstance(value, str) else value, default=str)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _start() -> yaml.Mark:
    return yaml.Mark("", 0, 0, 0, None, 0)


def _syntax_message(name: str, text: str, error: yaml.YAMLError) -> str:
    """Say in one line, with its number, why a text is not YAML."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = getattr(error, "position", 0)
    line = mark.line + 1 if mark else text.count("\n", 0, position) + 1
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
    hint = "; indent with spaces, not with tabs" if "\\t" in str(problem) else "; correct it"
    return f"{name}:{line}: is not YAML: {' '.join(str(problem).split())}{hint}."
