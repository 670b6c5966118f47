"""What is added to an index that is already there, and what it can't hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_lag_provider.hooks.elasticsearch_index import (
    fitting,
    missing_mapping,
    narrow_fields,
)

WANTED = json.loads((Path(__file__).parents[3] / "include" / "mapping.json").read_text())[
    "mappings"
]
OLD_SCRIPT: dict[str, Any] = {
    "properties": {
        "@timestamp": {"type": "date"},
        "topic": {"type": "text"},
        **{f"p{number}": {"type": "integer"} for number in range(18)},
    }
}


def test_an_index_of_our_own_lacks_nothing() -> None:
    """Nothing is put into an index that has the whole mapping, partitions included."""
    present = {**WANTED, "properties": {**WANTED["properties"], "p0": {"type": "long"}}}
    assert missing_mapping(WANTED, present) == {}


def test_the_old_scripts_index_gets_what_it_lacks_and_keeps_what_it_has() -> None:
    """Only new fields and an exact form of the topic are added; nothing changes its type."""
    missing = missing_mapping(WANTED, OLD_SCRIPT)
    added = missing["properties"]
    assert added["topic"]["type"] == "text"
    assert added["topic"]["fields"]["keyword"]["type"] == "keyword"
    assert added["lag"]["properties"]["total"] == {"type": "long"}
    assert not {"@timestamp", "p0", "p17"} & added.keys()
    assert missing["dynamic_templates"] == WANTED["dynamic_templates"]


def test_an_alias_leads_to_the_exact_form_of_a_text_field() -> None:
    """Elastic's own name for the topic can be grouped by, also in the old script's index."""
    kafka = missing_mapping(WANTED, OLD_SCRIPT)["properties"]["kafka"]["properties"]
    assert kafka["topic"]["properties"]["name"]["path"] == "topic.keyword"
    assert kafka["consumergroup"]["properties"]["id"]["path"] == "group"


def test_a_text_field_that_has_an_exact_form_is_left_alone() -> None:
    """The usual text with a keyword below needs nothing."""
    text = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
    present = {"properties": {**OLD_SCRIPT["properties"], "topic": text}}
    assert "topic" not in missing_mapping(WANTED, present)["properties"]


def test_another_exact_form_does_not_stand_for_ours() -> None:
    """Readers look for `.keyword`, so a text field with another exact form gets that one too."""
    text = {"type": "text", "fields": {"raw": {"type": "keyword"}}}
    present = {"properties": {**OLD_SCRIPT["properties"], "topic": text}}
    fields = missing_mapping(WANTED, present)["properties"]["topic"]["fields"]
    assert fields.keys() == {"raw", "keyword"}


def test_templates_of_others_stay_behind_ours() -> None:
    """Adding our template for partitions doesn't remove anybody's."""
    theirs = {"strings": {"match_mapping_type": "string", "mapping": {"type": "keyword"}}}
    missing = missing_mapping(WANTED, {"dynamic_templates": [theirs]})
    assert missing["dynamic_templates"][-1] == theirs
    assert "lag_of_partition" in missing["dynamic_templates"][0]


def test_a_lag_that_an_old_integer_can_not_hold_is_left_out_and_named() -> None:
    """All else stays: the figures that fit, the true ones beside them, and what was counted."""
    narrow = narrow_fields(OLD_SCRIPT)
    source = {
        "p0": 2**31 - 1,
        "p3": 2**31,
        "p5": None,
        "p17": -(2**31) - 1,
        "p18": 2**40,
        "lag": {"max": 2**40},
        "partitions": {"total": 5},
    }
    assert fitting(source, narrow) == {
        "p0": 2**31 - 1,
        "p5": None,
        "p18": 2**40,
        "lag": {"max": 2**40},
        "partitions": {"total": 5, "left_out": [3, 17]},
    }
    assert source["p3"] == 2**31


@pytest.mark.parametrize(
    ("kind", "smallest", "largest"),
    [
        ("byte", -128, 127),
        ("short", -(2**15), 2**15 - 1),
        ("integer", -(2**31), 2**31 - 1),
        ("unsigned_long", 0, 2**64 - 1),
        ("half_float", -(2**11), 2**11),
        ("float", -(2**24), 2**24),
        ("double", -(2**53), 2**53),
    ],
)
def test_a_lag_is_left_out_where_its_field_would_refuse_or_round_it(
    kind: str, smallest: int, largest: int
) -> None:
    """Each type of number holds its own whole numbers; a float beyond them is another number."""
    lags = (smallest, smallest - 1, largest, largest + 1)
    names = [f"p{number}" for number in range(len(lags))]
    narrow = narrow_fields({"properties": {name: {"type": kind} for name in names}})
    source = dict(zip(names, lags, strict=True))
    assert fitting(source, narrow) == {
        "p0": smallest,
        "p2": largest,
        "partitions": {"left_out": [1, 3]},
    }


def test_a_document_that_fits_is_not_touched() -> None:
    """Also one without figures, and one whose index has longs."""
    small = {"p0": 1, "partitions": {"total": 1}}
    assert fitting(small, narrow_fields(OLD_SCRIPT)) is small
    failure = {"error": {"type": "GroupNotFound"}}
    assert fitting(failure, narrow_fields(OLD_SCRIPT)) is failure
    large = {"p0": 2**40}
    assert fitting(large, narrow_fields(WANTED)) is large


def test_only_fields_of_lags_are_measured() -> None:
    """What other fields can hold says nothing, however much their names are like ours."""
    names = ("p0", "port", "p2x", "xp3")
    present = {"properties": {name: {"type": "integer"} for name in names}}
    assert narrow_fields(present) == {"p0": range(-(2**31), 2**31)}
    assert narrow_fields({}) == {}
