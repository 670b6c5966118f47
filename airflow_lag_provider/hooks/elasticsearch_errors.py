"""What Elasticsearch and its client say, as errors of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elastic_transport import ConnectionTimeout, SerializationError, TransportError
from elasticsearch import ApiError, UnsupportedProductError

from airflow_lag_provider.errors import (
    DocumentRefused,
    DocumentUnreadable,
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchNotTrusted,
    ElasticsearchOverloaded,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
    IndexBlocked,
    IndexUnusable,
    StoreError,
)

# What TLS says of a certificate that no known CA has signed, or that is for another name.
_NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
# What a 503 says when the server has waited for a shard or a master. Without a master the whole
# cluster is blocked: nobody has blocked the index.
_WAITED_IN_VAIN = (
    "unavailable_shards_exception",
    "master_not_discovered_exception",
    "process_cluster_event_timeout_exception",
    "cluster_block_exception",
)
FIELDS_USED_UP = "Limit of total fields"
"""What an error says when the index takes no more fields; documents with fewer may still fit."""
_BLOCKED = ("cluster_block_exception", "index_closed")
# What an error says whose cause is the state of the index or of the cluster, not a document.
_OF_THE_INDEX = (
    "index_not_found_exception",
    "no write index is defined",
    "maximum normal shards open",
    FIELDS_USED_UP,
)
# How the client says that it could not write a request; of an answer it says "deserialize".
_NOT_SENT = "Unable to serialize"
# The request was too large; whoever says so, the documents can be sent one by one.
_TOO_LARGE = 413


def store_error(error: Exception, *, where: str) -> StoreError:
    """Return this package's error for one of the client's.

    :param error: an ``ApiError``, a ``TransportError`` or a ``TimeoutError``.
    :param where: connection and hosts, for the message.
    """
    if isinstance(error, ConnectionTimeout | TimeoutError):
        return ElasticsearchTimedOut(f"No answer in time from Elasticsearch, {where}.")
    if isinstance(error, SerializationError):
        if error.message.startswith(_NOT_SENT):
            return DocumentRefused(
                f"It is no JSON, so it was not sent: {_shortened(error.message)}."
            )
        return _not_elasticsearch(where)
    if isinstance(error, TransportError):
        kind = (
            ElasticsearchNotTrusted if _NOT_TRUSTED in error.message else ElasticsearchUnreachable
        )
        return kind(f"No connection to Elasticsearch, {where}: {_shortened(error.message)}.")
    if not isinstance(error, ApiError):
        raise TypeError(f"not an error of the client: {error!r}")
    return _answer_error(error, where)


def _answer_error(error: ApiError, where: str) -> StoreError:
    message = f"Elasticsearch, {where}, said {error.status_code}: {_reason(error)}."
    if isinstance(error, UnsupportedProductError):
        return ElasticsearchConnectionInvalid(message)
    kind = _kind(error.status_code, str(error.body))
    if kind is DocumentRefused and error.status_code != _TOO_LARGE and not _has_a_type(error.body):
        return _not_elasticsearch(where, f" It said {error.status_code}: {_reason(error)}.")
    return kind(message)


def _not_elasticsearch(where: str, said: str = "") -> StoreError:
    return ElasticsearchUnreachable(
        f"What answered at {where} is not Elasticsearch, perhaps a proxy.{said}"
    )


def _has_a_type(body: Any) -> bool:
    """Return whether an answer names the type of its error, as all of Elasticsearch's do."""
    details = body.get("error") if isinstance(body, dict) else None
    return isinstance(details, dict) and "type" in details


def item_error(item: Mapping[str, Any]) -> StoreError | None:
    """Return why one document of a bulk request was not written, ``None`` when it was.

    :param item: the server's word on the document. A conflict (409) means that a document of this
        id, with this version or a higher one, is there already.
    """
    status = item["status"]
    if status < 300 or status == 409:
        return None
    message = f"Elasticsearch, index {item['_index']}, said {status}: {_words(item['error'])}."
    return _kind(status, str(item["error"]))(message)


def _kind(status: int, error: str) -> type[StoreError]:
    """Return what an answer means, of a request or of one document in it.

    :param error: the text of the answer's body.
    """
    kinds: tuple[tuple[bool, type[StoreError]], ...] = (
        (status == 503 and _names(error, _WAITED_IN_VAIN), ElasticsearchTimedOut),
        (_names(error, _BLOCKED), IndexBlocked),
        (_names(error, _OF_THE_INDEX), IndexUnusable),
        (status in (401, 403), ElasticsearchAccessDenied),
        (status == 429 or status >= 500, ElasticsearchOverloaded),
    )
    return next((kind for holds, kind in kinds if holds), DocumentRefused)


def _names(error: str, words: Sequence[str]) -> bool:
    return any(one in error for one in words)


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
