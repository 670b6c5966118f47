"""Writes the tables of docs/failures.md from the package's own error types.

    python -m lab.failures_page

The rest of the page is written by hand, around the two marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow_lag_provider import errors
from airflow_lag_provider.errors import LagError
from lab.workspace import REPOSITORY

PAGE = REPOSITORY / "docs" / "failures.md"
COMMAND = "python -m lab.failures_page"

_BEGIN = f"<!-- from here on made by `{COMMAND}` -->"
_END = "<!-- up to here -->"
# What no class can say of itself: its message has a line for each mistake, and no room for advice.
_ADVICE: dict[type[LagError], str] = {
    errors.ConfigurationError: "Correct the lines that the message names.",
}
_NO_DOCUMENT = (errors.ConfigurationError, errors.StoreError)


def page(written: str) -> str:
    """Return the page with the tables as they have to be.

    :param written: the page as it is.
    :raises ValueError: it lacks the marks.
    """
    before, mark, rest = written.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (mark and end):
        raise ValueError(f"{PAGE.name} lacks the marks {_BEGIN} and {_END}.")
    return f"{before}{mark}\n\n{tables()}\n{end}{after}"


def tables() -> str:
    """Return a table for each family of errors, and one for those without a family."""
    families = [one for one in _children(LagError) if any(_children(one))]
    alone = [one for one in _children(LagError) if one not in families]
    found = [_table(one.__name__, _words(one), kinds(one)) for one in families]
    return "\n".join([*found, _table("Others", "", alone)])


def kinds(family: type[LagError]) -> Iterator[type[LagError]]:
    """Yield the errors of a family that can happen: all but those that only hold others."""
    children = list(_children(family))
    if family.advice or not children:
        yield family
    for child in children:
        yield from kinds(child)


def _children(parent: type[LagError]) -> Iterator[type[LagError]]:
    package = errors.__name__.partition(".")[0]
    return (one for one in parent.__subclasses__() if one.__module__.startswith(f"{package}."))


def _table(name: str, about: str, rows: Iterable[type[LagError]]) -> str:
    lines = [
        f"### {name}",
        "",
        *([about, ""] if about else []),
        "| error | what happened | retried | the document | what to do |",
        "|---|---|---|---|---|",
        *(_row(kind) for kind in rows),
        "",
    ]
    return "\n".join(lines)


def _row(kind: type[LagError]) -> str:
    name = f"`{kind.__name__}`"
    document = "none of its own" if issubclass(kind, _NO_DOCUMENT) else f"`error.type: {name[1:]}"
    cells = [
        name,
        _words(kind),
        "yes" if kind.retriable else "no",
        document,
        _ADVICE.get(kind, kind.advice),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _words(kind: type[LagError]) -> str:
    """Return the first paragraph of a class's docstring, as Markdown."""
    text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return re.sub(r"``(.+?)``", r"`\1`", text)


def main(path: Path = PAGE) -> None:
    """Write the page anew."""
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
