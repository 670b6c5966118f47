"""What a chaos run does to which part, and when: drawn up front from a seed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

Kind = Literal["stop", "hang", "kill"]

KINDS: tuple[Kind, ...] = ("stop", "hang", "kill")
"""Shut down in order, held still (SIGSTOP), or ended without a warning (SIGKILL)."""

COMING_UP: Mapping[str, float] = MappingProxyType(
    {
        "MirrorMaker": 8.0,
        "broker": 10.0,
        "sshd": 1.0,
        "Elasticsearch": 20.0,
        "triggerer": 12.0,
        "scheduler": 12.0,
    }
)
"""The parts, and how long each takes to come up again, in seconds, roughly."""

PARTS = tuple(COMING_UP)

# MirrorMaker only counts as up when its group is stable, which takes a broker.
_NEVER_TOGETHER = {"MirrorMaker", "broker"}
# The last faults are over so long before the end, seconds.
_CALM_SECONDS = 10.0
_SHORTEST_SECONDS = 8.0
# The time for a fault and the rest before it, seconds; whoever runs for long gets more faults.
_LEAST_SHARE, _MOST_SHARE = 12.0, 70.0
_REST = (0.1, 0.3)
_LASTS = (0.15, 0.7)
# In a long run some last so long that no retry gets a run over them.
_LONG_SECONDS = (60.0, 100.0)
_SHARE_FOR_LONG = 125.0
_LONG = 0.3
# Two at once want room, or there is no time in which all is well.
_SHARE_FOR_TWO = 40.0
_TWO_AT_ONCE = 0.3

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Fault:
    """One part that does not do its work for some time.

    :param at: when it begins, seconds from the start of the run.
    :param lasts: seconds until the part is started again, or goes on.
    :param beside: whether it begins while another part is at fault; all others wait until every
        part is well again.
    """

    part: str
    kind: Kind
    at: float
    lasts: float
    beside: bool = False

    @property
    def over(self) -> float:
        """When the part should be well again, seconds from the start of the run."""
        return self.at + self.lasts + (0 if self.kind == "hang" else COMING_UP[self.part])


class _Deck(Generic[_T]):
    """Draws at random, and nothing twice before everything was drawn once."""

    def __init__(self, random: Random, cards: tuple[_T, ...]) -> None:
        self._random = random
        self._cards = cards
        self._left: list[_T] = []

    def draw(self) -> _T:
        if not self._left:
            self._left = list(self._cards)
            self._random.shuffle(self._left)
        return self._left.pop()


def plan(seed: int, *, seconds: float) -> tuple[Fault, ...]:
    """Return the faults of a run, in the order in which they begin.

    Each part has one before any has its second, and each part's are of all kinds before one comes
    again. In a longer run some last a minute or more, and some begin while another part is at
    fault.

    :param seed: of the same seed and length the faults are the same.
    :param seconds: how long the run is; from about 2.5 minutes on there is time for all parts.
    """
    random = Random(seed)
    end = seconds - _CALM_SECONDS
    room = (end - sum(COMING_UP.values())) / len(PARTS)
    share = min(max(room, _LEAST_SHARE), _MOST_SHARE)
    parts = _Deck(random, PARTS)
    kinds = {part: _Deck(random, KINDS) for part in PARTS}
    faults: list[Fault] = []
    well_at = 0.0
    while True:
        first = parts.draw()
        at = well_at + random.uniform(*_REST) * share
        kind = kinds[first].draw()
        long = room >= _SHARE_FOR_LONG and random.random() < _LONG
        lasts = random.uniform(*_LONG_SECONDS) if long else _lasts(random, share)
        together = [Fault(first, kind, at, lasts)]
        if share >= _SHARE_FOR_TWO and random.random() < _TWO_AT_ONCE:
            second = random.choice(_beside(first))
            at += random.uniform(0, lasts / 2)
            together.append(
                Fault(second, kinds[second].draw(), at, _lasts(random, share), beside=True)
            )
        well_at = max(one.over for one in together)
        if well_at > end:
            return tuple(faults)
        faults += together


def _beside(part: str) -> list[str]:
    return [one for one in PARTS if one != part and {one, part} != _NEVER_TOGETHER]


def _lasts(random: Random, share: float) -> float:
    least, most = (part * share for part in _LASTS)
    return random.uniform(max(least, _SHORTEST_SECONDS), most)
