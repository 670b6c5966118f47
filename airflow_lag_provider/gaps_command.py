"""The command ``airflow-lag gaps``: configuration, Elasticsearch and Airflow put together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_lag_provider import config, gaps_airflow, gaps_report
from airflow_lag_provider.config import Configuration
from airflow_lag_provider.dag_factory import dag_id
from airflow_lag_provider.errors import InvalidRequest
from airflow_lag_provider.gaps import Runs, Seen, Series, instants, missing
from airflow_lag_provider.remarks import named

DAY = timedelta(days=1)
# Until then the last tries of a run may still write.
_UNDER_WAY = timedelta(minutes=3)
_EXAMPLE = "write it as 2026-11-22T13:00 or 2026-11-22T13:00:00+01:00"


def report(
    *,
    path: Path,
    start: str | None,
    end: str | None,
    mirror: str | None,
    topic: str | None,
    as_json: bool,
) -> tuple[str, str | None]:
    """Return what the command prints, and why that isn't all, ``None`` when it is.

    :param path: the configuration, which names connection, index, mirrors and topics.
    :param start: the first instant, ISO 8601; `end`, before which the last one lies.
    :param mirror: this one alone, and `topic`, that one alone.
    :raises LagError: an argument or the configuration can't be used, or Elasticsearch not asked.
    """
    # Imported here, because it brings the client.
    from airflow_lag_provider.hooks.elasticsearch_gaps import seen_series

    first, last = _span(start, end, now=datetime.now(UTC))
    configuration = config.load(path)
    seen = asyncio.run(
        seen_series(
            elasticsearch_conn_id=configuration.elasticsearch.conn_id,
            index=configuration.elasticsearch.index,
            start=first,
            end=last,
        )
    )
    configured = dict(_configured(configuration))
    for series, one in seen.items():
        one.every_minute = series in configured or _is_generated(series, one.dag_id)
    for series, dag in configured.items():
        seen.setdefault(series, Seen(dag))
    unread, unfinished = _unread(configuration)
    wanted = {it for it in seen if mirror in (None, it.mirror) and topic in (None, it.topic)}
    if not wanted:
        raise InvalidRequest(
            f"Nothing is watched with --mirror {mirror or 'any'} and --topic {topic or 'any'}: "
            f"neither {path} nor the index has it.{f' {unread}' if unread else ''}"
        )
    # Of all series, since the others' documents tell something too.
    runs, unasked = _asked_airflow(seen, start=first, end=last)
    found = [
        one
        for one in missing(seen, start=first, end=last, runs=runs)
        if Series(one.mirror, one.topic) in wanted
    ]
    written = gaps_report.as_json if as_json else gaps_report.text
    sentences = (unasked, unread, _not_known({it: seen[it] for it in wanted}))
    note = "\n".join(words for words in sentences if words) or None
    return written(found, start=first, end=last, note=note), unfinished


def _span(start: str | None, end: str | None, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the time to look at, on full minutes."""
    latest = now - _UNDER_WAY
    last = latest if end is None else min(_instant("--to", end), latest)
    first = last - DAY if start is None else _instant("--from", start)
    full = tuple(next(instants(at, at + DAY)) for at in (first, last))
    if full[0] >= full[1]:
        raise InvalidRequest(
            f"--from {full[0]:%FT%R} does not lie before --to {full[1]:%FT%R} (UTC; at the latest "
            "three minutes ago, since runs may still be under way)."
        )
    return full[0], full[1]


def _instant(option: str, written: str) -> datetime:
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise InvalidRequest(f"{option} {written!r} is no time; {_EXAMPLE}.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _configured(configuration: Configuration) -> Iterator[tuple[Series, str]]:
    """Yield each configured topic and the DAG that watches it."""
    for mirror in configuration.mirrors:
        for topic in mirror.topics:
            name = topic.name if mirror.layout == "topic" else None
            yield Series(mirror.name, topic.name), dag_id(mirror.name, name)


def _is_generated(series: Series, dag: str | None) -> bool:
    """Return whether a DAG is one that the factory makes, with its run each minute."""
    return dag in (dag_id(series.mirror, series.topic), dag_id(series.mirror))


def _not_known(seen: dict[Series, Seen]) -> str | None:
    """Return a sentence that names what has no gaps because nobody knows when it is due."""
    others = sorted(it for it, one in seen.items() if not one.every_minute)
    words = named([f"{it.mirror}/{it.topic} ({seen[it].dag_id})" for it in others])
    if not others:
        return None
    return f"Not looked at for gaps, since the schedules of your own DAGs aren't known: {words}."


def _unread(configuration: Configuration) -> tuple[str | None, str | None]:
    """Return the mistakes because of which mirrors are left out, and that there are some."""
    if not configuration.mistakes:
        return None, None
    head = "Of mirrors with mistakes only topics with documents are listed:"
    mistakes = [str(one) for one in configuration.mistakes]
    unfinished = f"The list isn't complete, because {configuration.path} has mistakes."
    return "\n".join([head, *mistakes]), unfinished


def _asked_airflow(
    seen: dict[Series, Seen], *, start: datetime, end: datetime
) -> tuple[Runs | None, str | None]:
    """Return what Airflow knows, or a sentence on why it can't be asked."""
    dag_ids = {one.dag_id for one in seen.values() if one.dag_id}
    try:
        return gaps_airflow.runs_of(dag_ids, start=start, end=end), None
    except Exception as error:
        # The documents alone say enough to go on.
        kind = type(error).__name__
        return None, f"Airflow's database could not be asked which runs it made ({kind})."
