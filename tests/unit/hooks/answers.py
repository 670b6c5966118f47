"""Answers of Elasticsearch, in its own words."""

from __future__ import annotations

from typing import Any

from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    BadRequestError,
    NotFoundError,
)


def api_error(status: int, type_: str, reason: str) -> ApiError:
    """Return an error as the client raises it."""
    return other_error(status, {"error": {"type": type_, "reason": reason}, "status": status})


def other_error(status: int, body: Any) -> ApiError:
    """Return an error as the client raises it for an answer with any body."""
    kinds: dict[int, type[ApiError]] = {
        400: BadRequestError,
        401: AuthenticationException,
        403: AuthorizationException,
        404: NotFoundError,
    }
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es-1", 9200))
    return kinds.get(status, ApiError)(str(body), meta=meta, body=body)


SHARDS = (
    "this action would add [2] shards, but this cluster has [10]/[10] maximum normal shards open;"
)
FIELDS = ("document_parsing_exception", "failed: Limit of total fields [1000] has been exceeded")
NO_INDEX = ("index_not_found_exception", "no such index [lag]")
NO_WRITE_INDEX = ("illegal_argument_exception", "no write index is defined for alias [lag]. The")
