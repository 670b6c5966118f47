"""SLAs of the configuration as what each version of Airflow has for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_lag_provider import alerts, callbacks

if TYPE_CHECKING:
    from airflow_lag_provider.config import Topic
    from airflow_lag_provider.config_keys import Elasticsearch, TopicSettings


class DeadlineDAG(DAG):
    """A DAG whose deadlines don't break ``airflow dags test``.

    Airflow 3.3.2 crashes at the end of a test run of a DAG with a deadline (apache/airflow#73428).
    A test has no deadline to meet, so it runs without. An integration test says when Airflow no
    longer needs this class.
    """

    def test(self, *args: Any, **kwargs: Any) -> Any:
        """Run the DAG once, as ``airflow.sdk.DAG.test`` does, without its deadlines."""
        deadline, self.deadline = self.deadline, None
        try:
            return super().test(*args, **kwargs)
        finally:
            self.deadline = deadline


def callback_problem(path: str) -> str | None:
    """Return why the function at a path can't be called on this version, or ``None``."""
    try:
        if AIRFLOW_V_3_0_PLUS:
            callbacks.check_for_airflow3(path)
        else:
            callbacks.for_airflow2(path)
    except ValueError as error:
        return str(error)
    return None


def dag_arguments(
    topics: Sequence[Topic], *, mirror: str, callback: str | None, elasticsearch: Elasticsearch
) -> dict[str, Any]:
    """Return the arguments that give a DAG the SLAs of its topics; none without any `sla`.

    On Airflow 3 each distinct `sla` is one deadline.

    :param callback: import path of the user's function, ``None`` for a line in the log.
    :param elasticsearch: where the documents go, which are looked for when a deadline has passed.
    :raises ValueError: the user's function can't be called by Airflow 2.11.
    """
    by_sla: defaultdict[timedelta, list[str]] = defaultdict(list)
    for topic in topics:
        if topic.sla is not None:
            by_sla[topic.sla].append(topic.name)
    if not by_sla:
        return {}
    if not AIRFLOW_V_3_0_PLUS:
        function = alerts.log_sla_miss if callback is None else callbacks.for_airflow2(callback)
        return {"sla_miss_callback": function}
    keywords = {
        "mirror": mirror,
        "elasticsearch_conn_id": elasticsearch.conn_id,
        "index": elasticsearch.index,
        "callback": callback,
    }
    return {
        "deadline": [
            _deadline_alert(sla, {"topics": names, "sla": sla.total_seconds(), **keywords})
            for sla, names in sorted(by_sla.items())
        ]
    }


def task_arguments(topics: Sequence[TopicSettings]) -> dict[str, Any]:
    """Return the arguments that give a task its `sla` where Airflow has SLAs (2.11).

    :param topics: the topics of the task; the shortest `sla` among them counts.
    """
    slas = [topic.sla for topic in topics if topic.sla is not None]
    return {} if AIRFLOW_V_3_0_PLUS or not slas else {"sla": min(slas)}


def _deadline_alert(sla: timedelta, keywords: dict[str, Any]) -> Any:
    # The one place that has all three in 3.1, 3.2 and 3.3.
    from airflow.sdk.definitions.deadline import (  # type: ignore[attr-defined]
        AsyncCallback,
        DeadlineAlert,
        DeadlineReference,
    )

    # Counted from the scheduled instant, so that a late scheduler is seen too.
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=sla,
        # In the triggerer, because a callback on a worker can't read connections.
        callback=AsyncCallback(alerts.deadline_missed, kwargs=keywords),
    )
