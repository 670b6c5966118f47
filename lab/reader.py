"""An independent client that reads all offsets all the time, to judge snapshots by."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from lab.demo_snapshots import Reading
from lab.errors import LabError
from lab.offsets import read_group


class Reader:
    """Reads committed and end offsets of all topics, again and again, from a thread.

    :param bootstrap: ``host:port`` of the source broker
    :param group: MirrorMaker's consumer group
    :param topics: the topics
    :param every: seconds from the end of a reading to the next one
    """

    def __init__(
        self, *, bootstrap: str, group: str, topics: Sequence[str], every: float = 1.0
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = tuple(topics)
        self._every = every
        self._readings: list[Reading] = []
        self._stopping = threading.Event()
        # A daemon: a broker that is gone would hold it, and the end of the demo, for seconds.
        self._thread = threading.Thread(target=self._run, name="lab-reader", daemon=True)
        self.trouble: LabError | None = None
        """Why the last reading failed; None if it did not."""

    @property
    def running(self) -> bool:
        """Whether it reads; not any more after an error that nobody has thought of."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start reading; return when each topic has been read.

        :raises LabError: the broker does not answer
        """
        self._read_all()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join(timeout=3)

    def readings(self) -> tuple[Reading, ...]:
        """Return all readings so far, oldest first."""
        return tuple(self._readings)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self._read_all()
                self.trouble = None
            except LabError as error:
                self.trouble = error

    def _read_all(self) -> None:
        began = datetime.now(UTC)
        found = read_group(self._bootstrap, self._group, self._topics)
        ended = datetime.now(UTC)
        self._readings += [
            Reading(topic, began, ended, offsets) for topic, offsets in found.items()
        ]
