"""Sees to an index before the first document: creates it, or adds what it lacks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from elasticsearch import (
    ApiError,
    AsyncElasticsearch,
    AuthorizationException,
    BadRequestError,
    NotFoundError,
)

from airflow_lag_provider.hooks.elasticsearch_index import missing_mapping, narrow_fields
from airflow_lag_provider.task_log import told

log = logging.getLogger(__name__)


async def prepare(
    client: AsyncElasticsearch, index: str, *, mapping: Path | None, patience: str
) -> dict[str, range]:
    """Create an index, or add what it lacks; many tasks may do so at the same time.

    Behind an alias the index that is written to counts. The others are searched together with it
    and get their fields too, where they take them: old ones are often read-only.

    :param index: name of an index, or of an alias for some.
    :param mapping: path of the body new indices are created with; the package's own by default.
    :param patience: how long the server may wait for its master, as Elasticsearch writes times.
    :return: what the index that is written to can't hold, see :func:`.narrow_fields`.
    :raises ApiError: Elasticsearch refuses to.
    :raises TransportError: Elasticsearch can't be reached.
    """
    wanted = await asyncio.to_thread(index_body, mapping)
    found = await _mappings(client, index, patience)
    if not found:
        await _create(client, index, wanted, patience)
        # A template of somebody may have had a part in it.
        found = await _mappings(client, index, patience)
    written = await _written(client, index, found)
    for name, present in found.items():
        if missing := missing_mapping(wanted["mappings"], present):
            await _complete(client, name, missing, patience, needed=name == written)
    return narrow_fields(found[written]) if written in found else {}


def index_body(mapping: Path | None = None) -> dict[str, Any]:
    """Return settings and mappings of a new index, from a file of theirs or the package's own."""
    source = mapping or files("airflow_lag_provider") / "mapping.json"
    body: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return body


async def _mappings(
    client: AsyncElasticsearch, index: str, patience: str
) -> dict[str, Mapping[str, Any]]:
    """Return the mapping of an index, or of each behind an alias; none of one that isn't there."""
    try:
        # Not `exists`: the answer to HEAD has no body to negotiate the version by.
        found = await client.indices.get_mapping(index=index, master_timeout=patience)
    except NotFoundError:
        return {}
    return {name: one["mappings"] for name, one in found.items()}


async def _create(
    client: AsyncElasticsearch, index: str, wanted: Mapping[str, Any], patience: str
) -> None:
    try:
        await client.indices.create(
            index=index, timeout=patience, master_timeout=patience, **wanted
        )
    except BadRequestError as error:
        if error.error != "resource_already_exists_exception":
            raise
    else:
        await told(log.info, "Created the index %s.", index)


async def _written(client: AsyncElasticsearch, index: str, names: Collection[str]) -> str | None:
    """Return which of the indices behind a name is written to; ``None`` where an alias names none.

    Elasticsearch refuses the documents itself then.
    """
    if len(names) < 2:
        return next(iter(names), None)
    try:
        found = await client.indices.get_alias(name=index)
    except NotFoundError:
        return None
    chosen = (name for name, one in found.items() if one["aliases"][index].get("is_write_index"))
    return next(chosen, None)


async def _complete(
    client: AsyncElasticsearch,
    index: str,
    missing: Mapping[str, Any],
    patience: str,
    *,
    needed: bool,
) -> None:
    """Add fields to an index.

    :param needed: whether documents are written to it.
    """
    try:
        await client.indices.put_mapping(index=index, master_timeout=patience, **missing)
        await told(log.info, "Added missing fields to the index %s.", index)
    except ApiError as error:
        if not needed:
            await told(
                log.warning,
                "The index %s, which isn't written to, lacks fields of the mapping and doesn't "
                "take them. Searches by these find none of its documents: %s",
                index,
                error.error,
            )
        elif _is_for_want_of_a_right(error):
            # The snapshot is worth more than the types of its fields.
            await told(
                log.warning,
                "The index %s lacks fields of the mapping, and the user may not add them (right "
                "`manage`). Elasticsearch guesses their types now: %s",
                index,
                error.error,
            )
        else:
            raise


def _is_for_want_of_a_right(error: ApiError) -> bool:
    blocked = "cluster_block_exception" in str(error.body)
    return isinstance(error, AuthorizationException) and not blocked
