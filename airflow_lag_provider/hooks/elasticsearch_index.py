"""What an index that is already there lacks or can't hold, the old script's for instance.

Missing fields are added; nothing that is present is changed, because Elasticsearch can't.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_EXACT = {"type": "keyword", "ignore_above": 256}
_LAG_OF_PARTITION = re.compile(r"p\d+")
# Types of fields that can't hold every lag, and the whole numbers that each of them holds exactly.
# Others Elasticsearch refuses, together with their whole document, or rounds.
_NARROW = {
    "byte": range(-(2**7), 2**7),
    "short": range(-(2**15), 2**15),
    "integer": range(-(2**31), 2**31),
    "unsigned_long": range(2**64),
    "half_float": range(-(2**11), 2**11 + 1),
    "float": range(-(2**24), 2**24 + 1),
    "double": range(-(2**53), 2**53 + 1),
}


def missing_mapping(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping to add to an index, empty when it has everything.

    A text field where an exact one is wanted gets a multi-field ``keyword``, which readers use.

    :param wanted: the ``mappings`` of include/mapping.json.
    :param present: the index's own ``mappings``.
    """
    fields = present.get("properties", {})
    missing: dict[str, Any] = {}
    properties = _missing_fields(wanted["properties"], fields, texts=_texts(wanted, fields))
    if properties:
        missing["properties"] = properties
    templates = present.get("dynamic_templates", [])
    known = {name for template in templates for name in template}
    new = [one for one in wanted.get("dynamic_templates", []) if not known & one.keys()]
    if new:
        missing["dynamic_templates"] = [*new, *templates]
    return missing


def _texts(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> frozenset[str]:
    """Return the top-level fields that should be exact and are text."""
    return frozenset(
        name for name in wanted["properties"] if present.get(name, {}).get("type") == "text"
    )


def _missing_fields(
    wanted: Mapping[str, Any], present: Mapping[str, Any], *, texts: frozenset[str]
) -> dict[str, Any]:
    missing: dict[str, Any] = {}
    for name, field in wanted.items():
        there = present.get(name)
        if "properties" in field:
            inner = (there or {}).get("properties", {})
            if below := _missing_fields(field["properties"], inner, texts=texts):
                missing[name] = {"properties": below}
        elif there is None:
            missing[name] = _pointing_at_exact(field, texts)
        elif field["type"] == "keyword" and _has_no_exact_form(there):
            multi = {**there.get("fields", {}), "keyword": _EXACT}
            missing[name] = {**there, "fields": multi}
    return missing


def _has_no_exact_form(field: Mapping[str, Any]) -> bool:
    return field.get("type") == "text" and "keyword" not in field.get("fields", {})


def _pointing_at_exact(field: Mapping[str, Any], texts: frozenset[str]) -> dict[str, Any]:
    """Return the field; an alias of a text field leads to its exact form instead."""
    if field["type"] == "alias" and field["path"] in texts:
        return {**field, "path": f"{field['path']}.keyword"}
    return dict(field)


def narrow_fields(present: Mapping[str, Any]) -> dict[str, range]:
    """Return the fields ``p0``, ``p1``, … that can't hold every lag, with those that they can.

    :param present: the ``mappings`` of the index that is written to.
    """
    return {
        name: _NARROW[field["type"]]
        for name, field in present.get("properties", {}).items()
        if field.get("type") in _NARROW and _LAG_OF_PARTITION.fullmatch(name)
    }


def fitting(source: Mapping[str, Any], narrow: Mapping[str, range]) -> Mapping[str, Any]:
    """Return a document without the lags that its index can't hold.

    For one of them Elasticsearch would refuse the whole document, or store another number.
    ``partitions.left_out`` has the numbers of these partitions; ``lag`` and ``partition`` keep the
    true figures.

    :param narrow: see :func:`narrow_fields`.
    """
    left_out = {name for name, lags in narrow.items() if not _fits(source.get(name), lags)}
    if not left_out:
        return source
    kept = {name: value for name, value in source.items() if name not in left_out}
    numbers = sorted(int(name.removeprefix("p")) for name in left_out)
    return {**kept, "partitions": {**source.get("partitions", {}), "left_out": numbers}}


def _fits(value: Any, lags: range) -> bool:
    return not isinstance(value, int) or value in lags
