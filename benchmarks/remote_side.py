"""What the MirrorMaker host bears: its CPU time and JVMs, by the way that the lag is asked for.

    python -m benchmarks.remote_side --topics 1,10,100

The host is OpenSSH's sshd with the tools of Kafka 3.9.1; everything below it is counted. The broker
is on this machine too, and not counted. Other versions of the tools are not measured here.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from benchmarks import remote_ways, report, wide_group
from benchmarks.remote_ways import Outcome, Stage
from lab.laboratory import Laboratory
from lab.sshd import OpenSshServer

WAYS: dict[str, tuple[str, Callable[[Stage], Outcome]]] = {
    "old": ("a loop per topic", remote_ways.old_loops),
    "each": ("a describe per topic", remote_ways.one_each),
    "shared": ("ours", remote_ways.shared),
    "archive": ("ours, class data archive", remote_ways.shared_with_archive),
}
# What a JVM with the script's own options takes here, and what the rest of the machine needs.
_JVM_MB, _LEFT_MB = 130, 3000


def measure(
    lab: Laboratory, way: str, *, group: str, topics: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Return the row of one way and number of topics."""
    title, run = WAYS[way]
    host = OpenSshServer(workspace=lab.workspace, name=f"openssh-{way}-{len(topics)}")
    host.start()
    try:
        outcome = run(Stage(lab, host, group, topics, seconds))
    finally:
        host.stop()
    return row(title, topics, outcome)


def row(title: str, topics: Sequence[str], outcome: Outcome) -> dict[str, Any]:
    """Return the figures of a way."""
    watch, minutes = outcome.watch, outcome.minutes
    each = sorted(round(outcome.samples[name] / minutes, 1) for name in topics)
    samples = outcome.samples.total()
    return {
        "way": title,
        "topics": len(topics),
        "CPU-s per minute": round(watch.cpu_seconds / minutes, 2),
        "JVMs per minute": round(watch.jvms / minutes, 1),
        "samples per topic and minute": f"{each[0]:g}–{each[-1]:g}",
        "CPU-s per sample": round(watch.cpu_seconds / samples, 4) if samples else None,
        "describe s": round(statistics.median(outcome.waits), 2) if outcome.waits else None,
        "peak MB": round(watch.peak_mb),
        "measured s": round(watch.seconds, 1),
    }


def has_room(way: str, topics: int) -> bool:
    """Tell whether memory suffices; a machine that swaps or kills measures nothing."""
    needed = _LEFT_MB + _JVM_MB * (topics if way == "old" else remote_ways.AT_ONCE)
    free = int(psutil.virtual_memory().available / 1e6)
    if needed > free:
        print(f"{way} with {topics} topics left out: {needed} MB needed, {free} MB free")
    return needed <= free


def main(words: Sequence[str] | None = None) -> None:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", default=",".join(WAYS), help="with commas")
    parser.add_argument("--topics", default="1,10,100", help="how many are asked for")
    parser.add_argument("--group-topics", type=int, default=100, help="how many the group has")
    parser.add_argument("--partitions", type=int, default=18, help="of each topic")
    parser.add_argument("--seconds", type=float, default=60, help="what stands for a minute")
    parser.add_argument("--short", action="store_true", help="shows that it runs, in a minute")
    parser.add_argument("--name", default="remote_side", help="of the JSON file")
    chosen = parser.parse_args(words)
    if chosen.short:
        chosen.topics, chosen.group_topics, chosen.partitions, chosen.seconds = "1,2", 2, 3, 8.0
    rows: list[dict[str, Any]] = []
    with Laboratory(
        progress=print, mirrormaker=False, producer=False, sshd=False, elasticsearch=False,
        topics=(), source_heap=384 + chosen.group_topics * chosen.partitions // 10,
    ) as lab:  # fmt: skip
        wide_group.make_group(lab, topics=chosen.group_topics, partitions=chosen.partitions)
        names = wide_group.topic_names(chosen.group_topics)
        for way in chosen.ways.split(","):
            for count in map(int, chosen.topics.split(",")):
                if has_room(way, count):
                    rows.append(
                        measure(lab, way, group=wide_group.group_name(chosen.group_topics),
                                topics=names[:count], seconds=chosen.seconds)
                    )  # fmt: skip
                    print(rows[-1], flush=True)
    report.publish(
        chosen.name,
        rows,
        group={"topics": chosen.group_topics, "partitions": chosen.partitions},
        seconds=chosen.seconds,
        tool="Kafka 3.9.1; other versions of the tool are not measured",
    )


if __name__ == "__main__":
    main()
