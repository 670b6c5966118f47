"""The configuration, read again only when its file has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from airflow_lag_provider import config
from airflow_lag_provider.config import Configuration
from airflow_lag_provider.errors import ConfigurationError
from airflow_lag_provider.shared_work import PerLoop, SharedWork

log = logging.getLogger(__name__)

_Check = Callable[[str], str | None]
_Stamp = tuple[int, int]

# How long a triggerer may go on with what it knows of a file, seconds.
_RECENT_SECONDS = 5.0

_recent: PerLoop[SharedWork[frozenset[str] | None]] = PerLoop(
    lambda: SharedWork(keep=_RECENT_SECONDS)
)
_loaded: dict[tuple[Path, _Check], tuple[_Stamp, Configuration]] = {}


def no_problem(_: str) -> None:
    """Find nothing wrong with a callback."""


def load(path: Path | str, *, callback_problem: _Check = no_problem) -> Configuration:
    """Return what :func:`config.load` returns, from memory while the file stays the same.

    :raises ConfigurationError: nothing of the file can be used.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError:
        return config.load(path, callback_problem=callback_problem)
    # Taken before reading: what is written meanwhile is found the next time.
    stamp = (status.st_mtime_ns, status.st_size)
    known = _loaded.get((path, callback_problem))
    if known and known[0] == stamp:
        return known[1]
    configuration = config.load(path, callback_problem=callback_problem)
    _loaded[path, callback_problem] = (stamp, configuration)
    return configuration


async def recent_topics(path: str, mirror: str) -> frozenset[str] | None:
    """Return what :func:`configured_topics` returned a few seconds ago, or returns now.

    The topics of a minute ask at the same time, and looking at a file takes a thread.
    """
    key = (path, mirror)
    # A lane of its own: nothing to wait for.
    return await _recent.get().result(
        key, lane=key, patience=1.0, work=lambda: asyncio.to_thread(configured_topics, *key)
    )


def configured_topics(path: str, mirror: str) -> frozenset[str] | None:
    """Return the topics that the file names for a mirror's group; ``None`` when it can't say."""
    try:
        configuration = load(path)
    except ConfigurationError as error:
        log.warning("%s can't be read, so unconfigured topics are not named: %s", path, error)
        return None
    for one in configuration.mirrors:
        if one.name == mirror:
            return configuration.configured_topics(one)
    return None
