"""How long a piece of work takes, again and again, and where the time goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinstrument import Profiler

_LEAST = 3
_MOST = 200
_PROFILE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How the pieces of work are measured.

    :param seconds: how long each is repeated; at least three times, or once where this is 0.
    :param profile: folder for profiles, ``None`` for none. They are taken apart from the times,
        because a profiler makes everything slower.
    """

    seconds: float = 2.0
    profile: Path | None = None

    def row(self, what: str, size: int, unit: str, work: Callable[[], Any]) -> dict[str, Any]:
        """Measure a piece of work and return its row of the table.

        :param size: how many units one call works on.
        :param unit: what the units are, in the singular.
        """
        work()  # so that nothing is imported or compiled while it is measured
        walls: list[float] = []
        cpus: list[float] = []
        end = time.monotonic() + self.seconds
        while len(walls) < (_LEAST if self.seconds else 1) or (
            time.monotonic() < end and len(walls) < _MOST
        ):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            cpus.append(time.process_time() - cpu)
            walls.append(time.perf_counter() - wall)
        if self.profile:
            _profile(self.profile / f"{what}, {size}", work)
        return row(what, size, unit, wall=statistics.median(walls), cpu=statistics.median(cpus))


def row(what: str, size: int, unit: str, *, wall: float, cpu: float, **more: Any) -> dict[str, Any]:
    """Return a row of the table.

    :param wall: seconds that passed.
    :param cpu: seconds of CPU time.
    :param more: ``hold``, for how long an event loop was held at a stretch, as text.
    """
    return {
        "what": what,
        "size": f"{size:,} {unit}s",
        "ms": round(1e3 * wall, 2),
        "CPU ms": round(1e3 * cpu, 2),
        "CPU µs each": round(1e6 * cpu / size, 1),
        "a second": f"{size / cpu:,.0f}",
        "longest hold (garbage) ms": more.get("hold"),
    }


def _profile(file: Path, work: Callable[[], Any]) -> None:
    """Write where the time of repeated work goes, as text and as a page for the browser."""
    profiler = Profiler(interval=0.0005, async_mode="disabled")
    end = time.monotonic() + _PROFILE_SECONDS
    with profiler:
        work()
        while time.monotonic() < end:
            work()
    write_profile(profiler, file)


def write_profile(profiler: Profiler, file: Path) -> None:
    """Write what a profiler saw."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = profiler.output_text(show_all=True, unicode=True, color=False)
    file.with_name(f"{file.name}.txt").write_text(text, encoding="utf-8")
    profiler.write_html(file.with_name(f"{file.name}.html"), show_all=True)
