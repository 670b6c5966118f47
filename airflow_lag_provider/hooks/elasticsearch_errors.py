"""What Elasticsearch and its client say, as errors of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elastic_transport import ConnectionTimeout, SerializationError, TransportError
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    UnsupportedProductError,
)

from airflow_lag_provider.errors import (
    DocumentRefused,
    DocumentUnreadable,
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchOverloaded,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
    IndexBlocked,
    IndexUnusable,
    StoreError,
)

# What an error says whose cause is the state of the index or of the cluster, not a document.
_OF_THE_INDEX = (
    "index_not_found_exception",
    "no write index is defined",
    "maximum normal shards open",
)


def store_error(error: Exception, *, where: str) -> StoreError:
    """Return this package's error for one of the client's.

    :param error: an ``ApiError``, a ``TransportError`` or a ``TimeoutError``.
    :param where: connection and hosts, for the message.
    """
    if isinstance(error, ConnectionTimeout | TimeoutError):
        return ElasticsearchTimedOut(f"No answer in time from Elasticsearch, {where}.")
    if isinstance(error, SerializationError):
        return ElasticsearchUnreachable(
            f"What answered at {where} is not Elasticsearch, perhaps a proxy."
        )
    if isinstance(error, TransportError):
        return ElasticsearchUnreachable(
            f"No connection to Elasticsearch, {where}: {_shortened(error.message)}."
        )
    if not isinstance(error, ApiError):
        raise TypeError(f"not an error of the client: {error!r}")
    message = f"Elasticsearch, {where}, said {error.status_code}: {_reason(error)}."
    blocked = "cluster_block_exception" in str(error.body) or "index_closed" in str(error.body)
    kinds: tuple[tuple[bool, type[StoreError]], ...] = (
        (blocked, IndexBlocked),
        (_is_of_the_index(error.body), IndexUnusable),
        (isinstance(error, AuthenticationException), ElasticsearchAccessDenied),
        (isinstance(error, AuthorizationException), ElasticsearchAccessDenied),
        (_is_passing(error.status_code), ElasticsearchOverloaded),
        (isinstance(error, UnsupportedProductError), ElasticsearchConnectionInvalid),
    )
    return next((kind for holds, kind in kinds if holds), DocumentRefused)(message)


def item_error(item: Mapping[str, Any]) -> StoreError | None:
    """Return why one document of a bulk request was not written, ``None`` when it was.

    :param item: the server's word on the document. A conflict (409) means that a document of this
        id, with this version or a higher one, is there already.
    """
    status = item["status"]
    if status < 300 or status == 409:
        return None
    message = f"Elasticsearch, index {item['_index']}, said {status}: {_words(item['error'])}."
    kinds: tuple[tuple[bool, type[StoreError]], ...] = (
        ("cluster_block_exception" in str(item) or "index_closed" in str(item), IndexBlocked),
        (_is_of_the_index(item["error"]), IndexUnusable),
        (status in (401, 403), ElasticsearchAccessDenied),
        (_is_passing(status), ElasticsearchOverloaded),
    )
    return next((kind for holds, kind in kinds if holds), DocumentRefused)(message)


def _is_of_the_index(error: Any) -> bool:
    """Return whether the next document of the index would meet the same error."""
    return any(words in str(error) for words in _OF_THE_INDEX)


def _is_passing(status: int) -> bool:
    """Return whether a status says that the server could not take the request at the moment."""
    return status == 429 or status >= 500


def read_error(item: Mapping[str, Any]) -> StoreError | None:
    """Return why it can't be said whether a document is there, ``None`` when it can.

    :param item: the server's word on the document. An index that isn't there has no documents.
    """
    error = item.get("error")
    if not error or error.get("type") == "index_not_found_exception":
        return None
    return DocumentUnreadable(f"Elasticsearch, index {item['_index']}, said: {_words(error)}.")


def _reason(error: ApiError) -> str:
    """Return the server's own words: its root reason where there is one."""
    body = error.body
    details = body.get("error") if isinstance(body, dict) else None
    return _words(details or error.message)


def _words(details: Any) -> str:
    if isinstance(details, dict):
        cause = details.get("caused_by") or {}
        reasons = [details.get("type"), details.get("reason"), cause.get("reason")]
        return _shortened(": ".join(str(reason) for reason in reasons if reason))
    return _shortened(str(details))


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
