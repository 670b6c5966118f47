"""What programs print of the lag, read back."""

from __future__ import annotations

from benchmarks.readings import Reading

METRICS = """\
# HELP kafka_consumergroup_group_lag Offset lag for a consumer group partition
# TYPE kafka_consumergroup_group_lag gauge
kafka_consumergroup_group_lag{client_id="",cluster_name="lab",group="g",partition="2",topic="a"} 8
kafka_consumergroup_group_lag{client_id="",cluster_name="lab",group="g",partition="10",topic="a"} 0
kafka_consumergroup_group_lag_retention_ratio{group="g",partition="2",topic="a"} 36.84
kafka_lag_exporter_scrape_duration_seconds 0.003000
"""
UPDATED = """\
# HELP kafka_lag_exporter_last_update_timestamp_seconds Unix timestamp
kafka_lag_exporter_last_update_timestamp_seconds{cluster_name="lab"} 1795526745
"""


def test_a_line_holds_the_whole_reading() -> None:
    """Also a lag that the program does not know."""
    reading = Reading(1.5, 2.5, 1.0, {("a", 0): 5, ("b", 17): None})
    assert Reading.of_line(reading.line()) == reading


def test_metrics_hold_the_lag_of_each_partition() -> None:
    """And the second, rounded down, in which they were read."""
    reading = Reading.of_metrics(METRICS + UPDATED)
    assert reading is not None
    assert reading.lags == {("a", 2): 8, ("a", 10): 0}
    assert (reading.took, reading.ended) == (0.003, 1795526746.0)
    assert reading.began < 1795526745


def test_metrics_before_the_first_reading_are_none() -> None:
    """An exporter that has just been started has numbers, but none of the group."""
    assert Reading.of_metrics(METRICS) is None
    assert Reading.of_metrics(UPDATED) is None
