"""Whether the lag that a program reads is the group's lag: plain functions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.readings import Partition, Reading
from lab.offsets import PartitionOffsets


@dataclass(frozen=True)
class Sweep:
    """An independent look at the offsets of all partitions, between two instants."""

    began: float
    ended: float
    offsets: Mapping[Partition, PartitionOffsets]


def exact(reading: Reading, expected: Mapping[Partition, int]) -> int:
    """Return for how many of the expected partitions a reading has the expected lag."""
    return sum(reading.lags.get(key) == lag for key, lag in expected.items())


def bracketed(reading: Reading, sweeps: Sequence[Sweep]) -> int:
    """Return how many partitions have a lag that was possible while the reading was taken.

    Offsets only grow. So the lag lies between the end before it minus the commit after it, and the
    end after it minus the commit before it.

    :param sweeps: in their order. Without one before and one after the reading none of its
        partitions is known to be right.
    """
    before = [sweep for sweep in sweeps if sweep.ended <= reading.began]
    after = [sweep for sweep in sweeps if sweep.began >= reading.ended]
    if not before or not after:
        return 0
    right = 0
    for key, earlier in before[-1].offsets.items():
        later, lag = after[0].offsets[key], reading.lags.get(key)
        if lag is None or earlier.committed is None or later.committed is None:
            continue
        right += earlier.end - later.committed <= lag <= later.end - earlier.committed
    return right
