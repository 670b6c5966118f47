"""Ways in which a real Elasticsearch does not take a document, each with its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_lag_provider import errors
from airflow_lag_provider.errors import StoreError
from lab.elasticsearch import Elasticsearch
from tests.integration.hooks.tasks import INDEX, Tasks
from tests.integration.support import WRITER, eventually

WATERMARKS = "cluster.routing.allocation.disk.watermark"
READER = ("lag_reader", "hush-elastic-2")
"""A user who may read the index, and no more."""


@dataclass(frozen=True)
class Fault:
    """What happens to a server, and what a task says of it.

    :param happens: makes it so for as long as the context lasts.
    :param retried: whether another try can help.
    :param words: what the message has to say.
    :param may_be_stored: whether the server may store what it did not answer to.
    """

    happens: Callable[[Elasticsearch, Tasks], AbstractContextManager[None]]
    kind: type[StoreError]
    retried: bool
    words: tuple[str, ...]
    may_be_stored: bool = False


@contextmanager
def down(server: Elasticsearch, _: Tasks) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def hanging(server: Elasticsearch, _: Tasks) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def breaker(_: Elasticsearch, tasks: Tasks) -> Iterator[None]:
    limit = "network.breaker.inflight_requests.limit"
    tasks.change({limit: "1b"})
    try:
        yield
    finally:
        tasks.change({limit: None})


@contextmanager
def disk_full(_: Elasticsearch, tasks: Tasks) -> Iterator[None]:
    """Take the disk for full long before it is; Elasticsearch itself blocks the index then."""
    block = "index.blocks.read_only_allow_delete"
    names = ("low", "high", "flood_stage")
    settings: dict[str, Any] = {f"{WATERMARKS}.{name}": "0.1%" for name in names}
    settings["cluster.info.update.interval"] = "10s"
    settings["cluster.routing.allocation.disk.threshold_enabled"] = True
    tasks.change(settings)
    try:
        eventually(lambda: setting(tasks, block) == "true", "the index is blocked", seconds=60)
        yield
    finally:
        tasks.change(dict.fromkeys(settings))
        tasks.change_index({block: None})


@contextmanager
def closed(_: Elasticsearch, tasks: Tasks) -> Iterator[None]:
    tasks.server.request("POST", f"/{INDEX}/_close")
    try:
        yield
    finally:
        tasks.server.request("POST", f"/{INDEX}/_open")


@contextmanager
def lacking_shards(_: Elasticsearch, tasks: Tasks) -> Iterator[None]:
    """Let the index want a copy of its shard that a single node can't have."""
    wanted = "index.write.wait_for_active_shards"
    tasks.change_index({wanted: "2"})
    try:
        yield
    finally:
        tasks.change_index({wanted: None})


@contextmanager
def as_reader(server: Elasticsearch, tasks: Tasks) -> Iterator[None]:
    user, password = READER
    tasks.connect({**server.connection(WRITER), "login": user, "password": password})
    yield


def blocked(name: str) -> Callable[[Elasticsearch, Tasks], AbstractContextManager[None]]:
    """Return what puts a block on the index, by the last part of its name."""

    @contextmanager
    def happens(_: Elasticsearch, tasks: Tasks) -> Iterator[None]:
        tasks.change_index({f"index.blocks.{name}": True})
        try:
            yield
        finally:
            tasks.change_index({f"index.blocks.{name}": None})

    return happens


def setting(tasks: Tasks, name: str) -> Any:
    """Return a setting of the index, ``None`` when nobody has made it."""
    path = f"/{INDEX}/_settings?flat_settings=true"
    return tasks.server.request("GET", path)[INDEX]["settings"].get(name)


FAULTS = {
    "down": Fault(down, errors.ElasticsearchUnreachable, True, ("No connection",)),
    "hanging": Fault(
        hanging, errors.ElasticsearchTimedOut, True, ("request_timeout",), may_be_stored=True
    ),
    "answering 429": Fault(
        breaker, errors.ElasticsearchOverloaded, True, ("429", "circuit_breaking_exception")
    ),
    "answering 503": Fault(
        lacking_shards, errors.ElasticsearchTimedOut, True, ("503", "Not enough active copies")
    ),
    "read-only": Fault(
        blocked("write"), errors.IndexBlocked, False, ("403", "index.blocks", "FORBIDDEN/8")
    ),
    "not to be looked at": Fault(
        blocked("metadata"), errors.IndexBlocked, False, ("403", "index.blocks", "FORBIDDEN/9")
    ),
    "disk full": Fault(disk_full, errors.IndexBlocked, False, ("429", "flood-stage", "disk space")),
    "closed": Fault(closed, errors.IndexBlocked, False, ("400", "closed")),
    "a role without the right": Fault(
        as_reader, errors.ElasticsearchAccessDenied, False, ("403", "lag_reader", "its role needs")
    ),
}
