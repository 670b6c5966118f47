"""What kafka-consumer-groups.sh prints for a wide group, in the formats of its versions."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

GROUP = "oasis-group"
PARTITIONS = 18
VERSIONS = ("1.0", "2.6", "3.9", "4.3")
_PARTITIONS_OF_MEMBER = 90


def output(version: str, rows: int) -> str:
    """Return the output of one describe of an active group.

    :param version: one of ``VERSIONS``. 1.0 has no group column and lets the consumer id run into
        the host; 3.9 ends without a line break; 4.3 sorts.
    """
    form = _OLD if version == "1.0" else _NEW
    heads = _HEADS[1:] if version == "1.0" else _HEADS
    lines = [form.format(*heads)]
    cells = list(_rows(rows))
    if version != "4.3":
        random.Random(rows).shuffle(cells)
    lines += [form.format(*(one[1:] if version == "1.0" else one)) for one in cells]
    return "\n" + "\n".join(lines) + ("" if version == "3.9" else "\n")


def topic(number: int) -> str:
    """Return the name of a topic of the group."""
    return f"mirrored.topic-{number:05}"


_HEADS = (
    "GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG",
    "CONSUMER-ID", "HOST", "CLIENT-ID",
)  # fmt: skip
_NEW = "{:<15} {:<20} {:<10} {:<15} {:<15} {:<15} {:<50} {:<15} {}"
_OLD = "{:<30} {:<10} {:<15} {:<15} {:<10} {:<50}{:<30} {}"


def _rows(count: int) -> Iterator[tuple[str, ...]]:
    chance = random.Random(count)  # noqa: S311 - the same output in every run, no secret
    client = member = ""
    for number in range(count):
        if number % _PARTITIONS_OF_MEMBER == 0:
            client = f"{GROUP}-{number // _PARTITIONS_OF_MEMBER}"
            member = f"{client}-{uuid.UUID(int=chance.getrandbits(128))}"
        end, lag = chance.randrange(10**9, 10**10), chance.randrange(5000)
        yield (
            GROUP, topic(number // PARTITIONS), str(number % PARTITIONS),
            str(end - lag), str(end), str(lag), member, "/10.20.30.40", client,
        )  # fmt: skip
