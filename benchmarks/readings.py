"""What a program that reads lag says of it, as a line of JSON or as metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

Partition = tuple[str, int]
"""A topic's name and a partition's number."""

_METRIC = re.compile(r"^kafka_(\w+)(?:\{([^}]*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reading:
    """What a program said once.

    :param began: seconds since 1970, as `ended`: it was taken between the two.
    :param took: how long that took, seconds.
    :param lags: the lag of each partition; ``None`` where it says that it knows none.
    """

    began: float
    ended: float
    took: float
    lags: Mapping[Partition, int | None]

    def line(self) -> str:
        """Return it as one line of JSON."""
        lags = [[topic, number, lag] for (topic, number), lag in self.lags.items()]
        body = {"began": self.began, "ended": self.ended, "took": self.took, "lags": lags}
        return json.dumps(body)

    @classmethod
    def of_line(cls, line: str) -> Reading:
        """Return the reading that :meth:`line` made into a line."""
        body = json.loads(line)
        lags = {(topic, number): lag for topic, number, lag in body["lags"]}
        return cls(body["began"], body["ended"], body["took"], lags)

    @classmethod
    def of_metrics(cls, text: str) -> Reading | None:
        """Return what klag-exporter's metrics say; ``None`` before its first reading."""
        lags: dict[Partition, int | None] = {}
        numbers: dict[str, float] = {}
        for name, labels, value in _METRIC.findall(text):
            label = dict(_LABEL.findall(labels))
            if name == "consumergroup_group_lag":
                lags[label["topic"], int(label["partition"])] = int(float(value))
            numbers[name] = float(value)
        updated = numbers.get("lag_exporter_last_update_timestamp_seconds")
        took = numbers.get("lag_exporter_scrape_duration_seconds")
        if not lags or updated is None or took is None:
            return None
        # Whole seconds, rounded down.
        return cls(updated - took, updated + 1, took, lags)
