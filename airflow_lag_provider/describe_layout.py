"""How the rows below one header of the describe output are read.

Columns are found by the header, never by counting words: group ids, consumer ids and client ids
may contain blanks, values may be longer than their column, versions add and leave out columns.
"""

from __future__ import annotations

import re
from typing import Literal

_NUMBER = r"-?[0-9]++|-|unknown|none"
# A topic's characters are limited by Kafka itself, so garbage is not taken for a topic.
_CELLS = {
    "TOPIC": r"(?P<topic>[A-Za-z0-9._-]++)",
    "PARTITION": r"(?P<partition>[0-9]++|-)",
    "CURRENT-OFFSET": rf"(?P<committed>{_NUMBER})",
    "LOG-END-OFFSET": rf"(?P<end>{_NUMBER})",
    "LAG": rf"(?P<lag>{_NUMBER})",
}
_CORE = ("topic", "partition", "committed", "end", "lag")
_OWNER_COLUMNS = ["CONSUMER-ID", "HOST", "CLIENT-ID"]
# Kafka 0.10.2 to 1.0 print "%-50s%-30s %s": a long consumer id runs into the host.
_GLUED_WIDTHS = [50, 31]
_GLUED = re.compile(r"(.{50,})(/[^\s/]+)[ \t]+(\S.*)$")
_HOST = re.compile(r"/[^\s/]+")
_LOOSE = re.compile(r"(.*\S)[ \t]+(/\S+|-)[ \t]+(\S.*)$")
_NOBODY = (None, None, None)
# Every version pads the GROUP column to 15 or more; a narrower one was not printed by Kafka.
_MIN_GROUP_WIDTH = 15

Owner = tuple[str | None, str | None, str | None]
"""(consumer, host, client), ``None`` where there is none"""

Row = tuple[tuple[str, ...], Owner]
"""The cells of one row as printed: (topic, partition, committed, end, lag), and its owner's"""


class Layout:
    """One header's columns, and the rows of one group below it.

    :param columns: the header's column names, in order.
    :param starts: where each column starts; empty for Kafka 0.9, which separates by commas.
    :param group: the group whose rows are wanted.
    """

    def __init__(self, columns: list[str], starts: list[int], group: str) -> None:
        gap, other = (r"[ \t]++", r"\S++") if starts else (r",[ \t]*+", r"[^,]*+")
        last = max(columns.index(name) for name in _CELLS)
        self._group = group.rstrip()
        self._owners: dict[str | None, Owner | None] = {}
        self._owner_columns = columns[last + 1 :]
        self._widths = [b - a for a, b in zip(starts[last + 1 :], starts[last + 2 :], strict=False)]
        grouped = columns[0] == "GROUP"
        self.has_group = "GROUP" in columns
        self._after_group = starts[1] if grouped and starts else 0

        def pattern(names: list[str], group_cell: str) -> re.Pattern[str]:
            cells = {**_CELLS, "GROUP": group_cell}
            core = gap.join(cells.get(name, other) for name in names)
            return re.compile(rf"{core}(?:{gap}(?P<owner>.*))?$")

        self._row = pattern(columns[: last + 1], re.escape(self._group))
        self._beside_group = pattern(columns[1 : last + 1], other) if grouped else None
        # The lookbehind lets the search try one place a run of blanks: linear time.
        self._any_row = pattern(columns[: last + 1], r".+?(?<=\S)")

    @classmethod
    def of_header(cls, line: str, group: str) -> Layout | None:
        """Return the layout if the line is a header, else ``None``."""
        if "PARTITION" not in line or "LAG" not in line or line != line.upper():
            return None
        if "," in line:
            columns, starts = [name.strip().replace(" ", "-") for name in line.split(",")], []
        else:
            found = list(re.finditer(r"\S+", line))
            columns, starts = [m.group() for m in found], [m.start() for m in found]
        if len(set(columns)) != len(columns) or not _CELLS.keys() <= set(columns):
            return None
        return cls(columns, starts, group)

    def read(self, line: str) -> Row | Literal["other group"] | None:
        """Return the line's row, ``"other group"`` for a row of another one, ``None`` for neither.

        A line that starts with the group's own cell is never another group's.
        """
        cell = self._group_cell(line)
        if cell is not None and cell != self._group and self._is_beside_group(line):
            return "other group"
        found = self._row.match(line)
        if found and (owner := self._owner(found["owner"])):
            return found.group(*_CORE), owner
        # Tools with an OWNER column describe one group a run, so there it is a spoilt row.
        starts = (f"{self._group} ", f"{self._group},")
        alone = "OWNER" in self._owner_columns and line.startswith(starts)
        if not self.has_group or cell == self._group or alone:
            return None
        found = self._any_row.match(line)
        if not found or not line.replace("\t", " ").isprintable():
            return None
        return "other group" if self._owner(found["owner"]) else None

    def _group_cell(self, line: str) -> str | None:
        """Return the first cell, if the line keeps the header's width of the GROUP column."""
        at = self._after_group
        if at <= _MIN_GROUP_WIDTH or len(self._group) >= at or line[at - 1 : at] != " ":
            return None
        return line[:at].rstrip() if line[at : at + 1].strip() else None

    def _is_beside_group(self, line: str) -> bool:
        found = self._beside_group and self._beside_group.match(line, self._after_group)
        return bool(found and self._owner(found["owner"]))

    def _owner(self, text: str | None) -> Owner | None:
        """Return what follows the numbers, ``None`` if it can't be told apart."""
        # A member owns many partitions: each text is taken apart once.
        if text not in self._owners:
            self._owners[text] = self._owner_of(text)
        return self._owners[text]

    def _owner_of(self, text: str | None) -> Owner | None:
        if not self._owner_columns:
            return None if text else _NOBODY
        cells = self._split(text.rstrip()) if text else None
        if cells is None:
            return None
        named = dict(zip(self._owner_columns, cells, strict=True))
        if "OWNER" in named:
            # <client id>_<host> stands for the member, which had no id of its own to print.
            owner = named["OWNER"]
            client, mark, host = owner.rpartition("_/")
            if owner == "none":
                return _NOBODY
            return (owner, host or None, client or None) if mark else (owner, None, None)
        consumer, host, client = (named.get(name, "") for name in _OWNER_COLUMNS)
        if consumer in ("", "-"):
            return _NOBODY
        # Here a dash is what the member calls itself.
        return consumer, host.removeprefix("/") or None, client or None

    def _split(self, text: str) -> list[str] | None:
        columns = self._owner_columns
        if len(columns) == 1:
            return [text]
        if cells := self._by_width(text):
            return cells
        if (
            columns == _OWNER_COLUMNS
            and self._widths == _GLUED_WIDTHS
            and (cells := _unglued(text))
        ):
            return cells
        words = text.split()
        return words if len(words) == len(columns) else self._loosely(words, text)

    def _by_width(self, text: str) -> list[str] | None:
        """Return the cells if they keep the header's widths; the last one may be empty."""
        names, cells, rest = self._owner_columns, [], text
        for width in self._widths:
            if rest[width - 1 : width].strip() or not rest[width : width + 1].strip():
                break
            cells.append(rest[:width].rstrip())
            rest = rest[width:]
        cells.append(rest)
        if len(cells) == len(names) - 1 and names[-1] == "CLIENT-ID" and rest != "-":
            cells.append("")
        if len(cells) != len(names):
            return None
        ids = ("CONSUMER-ID", "CLIENT-ID")
        single = all(
            cell and " " not in cell
            for name, cell in zip(names, cells, strict=True)
            if name not in ids
        )
        return cells if single and cells[0] else None

    def _loosely(self, words: list[str], text: str) -> list[str] | None:
        """Return the cells of a line without the header's widths, ids with blanks included."""
        before: list[str] = []
        after: list[str] = []
        names = list(self._owner_columns)
        while names and names[0] not in _OWNER_COLUMNS and len(words) > len(names):
            names.pop(0)
            before.append(words.pop(0))
            text = text.split(None, 1)[1]
        while names and names[-1] not in _OWNER_COLUMNS and len(words) > len(names):
            names.pop()
            after.insert(0, words.pop())
            text = text.rsplit(None, 1)[0]
        found = _LOOSE.match(text) if names == _OWNER_COLUMNS else None
        return [*before, *found.groups(), *after] if found else None


def _unglued(text: str) -> list[str] | None:
    """Return the cells of a row whose consumer id is too long for its column of 50."""
    at = text.find("/", 50)
    while at >= 0:
        host = text[at : at + 30].rstrip()
        if text[at + 30 : at + 31] == " " and text[at + 31 : at + 32] and _HOST.fullmatch(host):
            return [text[:at], host, text[at + 31 :]]
        at = text.find("/", at + 1)
    found = _GLUED.match(text)
    return list(found.groups()) if found else None
