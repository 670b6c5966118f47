"""Answers of Elasticsearch, in its own words."""

from __future__ import annotations

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
    kinds: dict[int, type[ApiError]] = {
        400: BadRequestError,
        401: AuthenticationException,
        403: AuthorizationException,
        404: NotFoundError,
    }
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "es-1", 9200))
    body = {"error": {"type": type_, "reason": reason}, "status": status}
    return kinds.get(status, ApiError)(type_, meta=meta, body=body)


SHARDS = (
    "this action would add [2] shards, but this cluster has [10]/[10] maximum normal shards open;"
)
NO_INDEX = ("index_not_found_exception", "no such index [lag]")
NO_WRITE_INDEX = ("illegal_argument_exception", "no write index is defined for alias [lag]. The")
