"""What an index that is already there lacks, the old script's for instance.

Missing fields are added; nothing that is present is changed, because Elasticsearch can't.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EXACT = {"type": "keyword", "ignore_above": 256}


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
