"""A producer that never rests, with a rate of its own for each topic and partition."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer as Client

from lab import client
from lab.errors import LabError

_TICK_SECONDS = 0.2


def rate(topic_number: int, partition: int) -> float:
    """Return how many messages a second a partition gets.

    The topic with number t (0, 1, 2 …) has 2^t messages a second on its slowest partitions;
    partition p gets 1 + p % 6 times that. So topics differ by factors of two, partitions of a topic
    by up to six, and no two neighbours are alike: an exchange of two partitions shows.
    """
    return float(2**topic_number * (1 + partition % 6))


class Producer:
    """Writes to topics at the rates of `rate` from a thread, until it is stopped.

    :param bootstrap: ``host:port`` of the broker
    :param topics: the topics, which exist; their order makes their rates
    :param partitions: number of partitions of each
    :param rate: messages a second by number of the topic and partition; those above by default
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        topics: Sequence[str],
        partitions: int,
        rate: Callable[[int, int], float] = rate,
    ) -> None:
        self._bootstrap = bootstrap
        self._rates = {
            (topic, partition): rate(number, partition)
            for number, topic in enumerate(topics)
            for partition in range(partitions)
        }
        self._stopping = threading.Event()
        self._flush = True
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it writes; not any more after an error that nobody has thought of."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start writing.

        :raises LabError: it writes already
        """
        if self._thread:
            raise LabError("the producer runs already")
        self._stopping.clear()
        # A daemon: a laboratory that is left without a stop must not keep its process alive.
        self._thread = threading.Thread(target=self._run, name="lab-producer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop writing; return when the broker has all that was written. Does nothing twice."""
        self._end(flush=True)

    def abandon(self) -> None:
        """Stop writing and forget what the broker doesn't have yet."""
        self._end(flush=False)

    def _end(self, *, flush: bool) -> None:
        if self._thread:
            self._flush = flush
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def produce(self, topic: str, partition: int, count: int) -> None:
        """Write some messages at once; see `lab.client.produce`."""
        client.produce(self._bootstrap, topic, partition, count)

    def _run(self) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": self._bootstrap,
            "linger.ms": 50,
            # What is written while the broker is away for a test is written when it is back.
            "message.timeout.ms": 120_000,
            "log_level": 0,
        }
        sink = Client(settings)
        due = dict.fromkeys(self._rates, 0.0)
        while not self._stopping.wait(_TICK_SECONDS):
            for key, per_second in self._rates.items():
                due[key] += per_second * _TICK_SECONDS
                count, due[key] = int(due[key]), due[key] % 1
                self._write(sink, key, count)
            sink.poll(0)
        if self._flush:
            sink.flush(5)
        else:
            sink.purge()

    @staticmethod
    def _write(sink: Client, key: tuple[str, int], count: int) -> None:
        topic, partition = key
        for number in range(count):
            try:
                sink.produce(topic, value=b"%d" % number, partition=partition)
            except BufferError:
                # The broker is away and the queue full: these messages never existed.
                return
