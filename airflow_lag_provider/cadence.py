"""Which work is asked for minute after minute, so that the next minute's can begin when it is due.

In the first seconds of a minute Airflow's scheduler makes and starts the runs, one after the other.
A describe that began with the first of them would hold up all: it takes longer than at any other
time, since the whole machine is busy.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
# What nobody asked for since then is forgotten.
_FORGET = timedelta(hours=1)


class Cadence:
    """Remembers for each piece of work the last scheduled instant that somebody asked for."""

    def __init__(self) -> None:
        self._last: dict[Hashable, datetime] = {}

    def next_due(self, work: Hashable, due: datetime) -> datetime | None:
        """Return when the work will be due next, as far as the last two minutes tell.

        Whoever comes first in its minute gets an answer, all others ``None``. There is none
        either for work that nobody asked for a minute earlier: it has another rhythm, or it was
        just switched on.

        :param due: the scheduled instant that is asked for.
        """
        last = self._last.get(work)
        if last is not None and due <= last:
            return None
        self._last = {key: at for key, at in self._last.items() if due - at < _FORGET}
        self._last[work] = due
        return due + MINUTE if last is not None and due - last == MINUTE else None
