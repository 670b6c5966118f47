"""What a program that reads lag says of it, as a line of JSON or as metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

Partition = tuple[str, int]
"""A topic's name and a partition's number."""

_LAG = re.compile(r"kafka_consumergroup_group_lag\{([^}]*)\} (\S+)")
_UPDATED = re.compile(r"kafka_lag_exporter_last_update_timestamp_seconds(?:\{[^}]*\})? (\S+)")
_DURATION = re.compile(r"kafka_lag_exporter_scrape_duration_seconds(?:\{[^}]*\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reading:
    """What a program said once.

    :param began: seconds since 1970, as `ended`.
    :param lags: the lag of each partition; ``None`` where it says that it knows none.
    """

    began: float
    ended: float
    lags: Mapping[Partition, int | None]

    def line(self) -> str:
        """Return it as one line of JSON."""
        lags = [[topic, number, lag] for (topic, number), lag in self.lags.items()]
        return json.dumps({"began": self.began, "ended": self.ended, "lags": lags})

    @classmethod
    def of_line(cls, line: str) -> Reading:
        """Return the reading that :meth:`line` made into a line."""
        body = json.loads(line)
        lags = {(topic, number): lag for topic, number, lag in body["lags"]}
        return cls(body["began"], body["ended"], lags)

    @classmethod
    def of_metrics(cls, text: str) -> Reading | None:
        """Return what klag-exporter's metrics say; ``None`` before its first reading."""
        updated, duration = _UPDATED.search(text), _DURATION.search(text)
        if updated is None or duration is None:
            return None
        lags: dict[Partition, int | None] = {}
        for labels, value in _LAG.findall(text):
            label = dict(_LABEL.findall(labels))
            lags[label["topic"], int(label["partition"])] = int(float(value))
        ended = float(updated[1])
        return cls(ended - float(duration[1]), ended, lags) if ended else None
