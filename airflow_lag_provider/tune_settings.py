"""One setting of Airflow: what is needed, what is set now, and whether that suffices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Present = Callable[[str, str], str | None]
"""Returns the present value of section and key; ``None`` where Airflow knows no such setting."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of Airflow, needed and present.

    :param needed: the number that suffices, or the text to set.
    :param present: what is set now, ``None`` where Airflow knows no such setting; of the database
        only its kind, since the rest holds a password.
    :param reason: why it is needed, or why the present value suffices.
    :param suffices: whether the present value can stay.
    :param at_most: whether less than `needed` suffices too, instead of more.
    :param example: whether `needed` has parts that only the reader can fill in.
    """

    section: str
    key: str
    needed: int | str
    present: str | None
    reason: str
    suffices: bool
    at_most: bool = False
    example: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"AIRFLOW__{self.section.upper()}__{self.key.upper()}"


def number(
    section: str,
    key: str,
    needed: int,
    reason: str,
    present: Present,
    *,
    no_limit: int | None = None,
) -> Setting:
    """Return a setting whose present value suffices when it is at least as big.

    :param no_limit: a value that means "as many as there are".
    """
    value = present(section, key)
    try:
        found = int(str(value))
    except ValueError:
        suffices = False
    else:
        suffices = found >= needed or found == no_limit
    return Setting(section, key, needed, value, reason, suffices)


def seconds(value: str | None) -> float:
    """Return a present value in seconds; infinite when it is no number."""
    try:
        return float(str(value))
    except ValueError:
        return math.inf
