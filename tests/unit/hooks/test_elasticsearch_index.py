"""What is added to an index that is already there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_lag_provider.hooks.elasticsearch_index import missing_mapping

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
