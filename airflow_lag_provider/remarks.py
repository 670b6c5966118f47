"""What somebody who reads a task's log should not overlook, in sentences of bounded length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from airflow_lag_provider.describe import GroupDescription
from airflow_lag_provider.describe_lines import quoted
from airflow_lag_provider.snapshot import TopicSnapshot

_MOST_NAMED = 20
_CHANGES = {
    "grew": "has partitions that the snapshot before lacked",
    "shrank": "lacks partitions that the snapshot before had",
    "recreated": "was made anew: the end offset of a partition fell",
}


def about(
    description: GroupDescription,
    snapshots: Iterable[TopicSnapshot],
    unconfigured: Sequence[str] | None,
) -> Iterator[str]:
    """Yield sentences about a group, and about those topics of it that a task watches.

    :param unconfigured: the group's topics that the configuration doesn't name; ``None``: not
        known.
    """
    group = quoted(description.group)
    if description.state == "empty":
        yield f"Group {group} has no members: nobody mirrors its topics."
    if description.state == "rebalancing":
        yield f"Group {group} is rebalancing: its members don't mirror until that ends."
    if unconfigured:
        yield (
            f"Topics of group {group} that the configuration doesn't name, so that nobody watches "
            f"them ({len(unconfigured)}): {named(unconfigured)}."
        )
    for one in snapshots:
        yield from _about_topic(one)


def _about_topic(snapshot: TopicSnapshot) -> Iterator[str]:
    topic = f"Topic {snapshot.topic}"
    if snapshot.changed:
        yield f"{topic} {_CHANGES[snapshot.changed]}."
    if snapshot.missing:
        yield (
            f"{topic}: partitions that earlier snapshots had are missing "
            f"({len(snapshot.missing)}): {named(snapshot.missing)}."
        )
    if beyond := [row.partition for row in snapshot.partitions if (row.known_lag or 0) < 0]:
        yield f"{topic}: the group has committed beyond the end of partitions {named(beyond)}."
    if mismatches := snapshot.mismatches:
        yield (
            f"{topic}: the tool's LAG is not its LOG-END-OFFSET less its CURRENT-OFFSET in "
            f"partitions {named(mismatches)}."
        )


def named(things: Sequence[object]) -> str:
    """Return the first of some things, and how many more there are."""
    text = ", ".join(str(one) for one in things[:_MOST_NAMED])
    left = len(things) - _MOST_NAMED
    return f"{text} and {left} more" if left > 0 else text
