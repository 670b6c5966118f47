"""A group whose lag is known while it stands still, and traffic that moves it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.agreement import Sweep
from benchmarks.readings import Partition
from lab import client
from lab.offsets import read_offsets

_COMMIT_EVERY = 5
_SWEEP_EVERY = 1.0


class Traffic:
    """A message a second on each partition, and a commit every five seconds.

    Each partition has a backlog of its own, so that an exchange of two shows.

    :param partitions: they exist and are empty.
    """

    def __init__(self, bootstrap: str, group: str, partitions: Sequence[Partition]) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._backlog = {key: 3 + number for number, key in enumerate(partitions)}
        self._written: Counter[Partition] = Counter()
        self._committed: dict[Partition, int] = {}
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._producer = Producer({**settings, "linger.ms": 50})
        self._consumer = Consumer({**settings, "group.id": group, "enable.auto.commit": False})

    def fill(self) -> None:
        """Write and commit for the first time."""
        for key, backlog in self._backlog.items():
            self._write(key, backlog + 1)
        self._producer.flush(60)
        self._committed = dict.fromkeys(self._backlog, 1)
        client.commit_offsets(self._bootstrap, self._group, self._committed)

    def lags(self) -> dict[Partition, int]:
        """Return each partition's lag, known from what was written and committed."""
        return {key: self._written[key] - done for key, done in self._committed.items()}

    def run(self, stopping: threading.Event) -> None:
        """Move until told to stop; then it stands still, and the broker has all of it."""
        second = 0
        while not stopping.wait(1):
            second += 1
            for key in self._backlog:
                self._write(key, 1)
            self._producer.flush(10)
            if second % _COMMIT_EVERY == 0:
                self._commit()
        self._commit()

    def _write(self, key: Partition, count: int) -> None:
        topic, number = key
        for _ in range(count):
            self._producer.produce(topic, value=b"x", partition=number)
            self._producer.poll(0)
        self._written[key] += count

    def _commit(self) -> None:
        new = {key: self._written[key] - backlog for key, backlog in self._backlog.items()}
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in new.items()]
        self._consumer.commit(offsets=offsets, asynchronous=False)
        self._committed = new


class Sweeps:
    """Looks at all offsets about once a second, as the laboratory does it."""

    def __init__(self, bootstrap: str, group: str, topics: Sequence[str]) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = topics
        self.found: list[Sweep] = []

    def run(self, stopping: threading.Event) -> None:
        """Look until told to stop."""
        while True:
            self.found.append(self.look())
            if stopping.wait(_SWEEP_EVERY):
                return

    def look(self) -> Sweep:
        """Return what one look finds."""
        began = time.time()
        offsets = {
            (topic, number): found
            for topic in self._topics
            for number, found in read_offsets(self._bootstrap, self._group, topic).items()
        }
        return Sweep(began, time.time(), offsets)


class Running:
    """Functions that run in threads of their own until the block is left; a context manager."""

    def __init__(self, *functions: Callable[[threading.Event], None]) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=function, args=(self._stopping,), daemon=True)
            for function in functions
        ]

    def __enter__(self) -> None:
        """Start them."""
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        """Stop them and wait for their end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
