"""``python -m lab up`` starts everything and waits for Ctrl-C; ``fetch`` only downloads.

``chaos`` breaks parts at random under a running Airflow, and checks what is left behind.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from lab.cache import fetch_all
from lab.errors import LabError
from lab.laboratory import Laboratory


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download Kafka and Elasticsearch, start nothing")
    up = commands.add_parser("up", help="start everything, print the addresses, wait for Ctrl-C")
    up.add_argument("--logs", type=Path, help="keep the logs of all parts in this directory")
    up.add_argument("--openssh", action="store_true", help="start OpenSSH's sshd too")
    chaos = commands.add_parser("chaos", help="break parts at random, and check what is left")
    chaos.add_argument("--minutes", type=int, default=15)
    chaos.add_argument("--seed", type=int, help="of the faults; by default another one each time")
    chaos.add_argument("--topics", type=int, default=30)
    chaos.add_argument("--logs", type=Path, help="keep logs and evidence there; emptied first")
    arguments = parser.parse_args()
    try:
        if arguments.command == "chaos":
            return _chaos(arguments)
        if arguments.command == "fetch":
            fetch_all(_say)
        else:
            _up(arguments.logs, openssh=arguments.openssh)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("all stopped")
        return 130
    return 0


def _up(logs: Path | None, *, openssh: bool) -> None:
    with Laboratory(progress=_say, logs=logs, openssh=openssh) as lab:
        _say(f"source broker  {lab.source.bootstrap}")
        _say(f"target broker  {lab.target.bootstrap}")
        _say(f"MirrorMaker    group {lab.group}, topics {', '.join(lab.topics)}")
        for server in (lab.sshd, *((lab.openssh,) if openssh else ())):
            _say(
                f"{server.name:<15}ssh -i {server.keys.key_file} -p {server.port}"
                f" -o UserKnownHostsFile={server.keys.known_hosts} {server.user}@{server.host}"
            )
        _say(f"tool           {lab.tool}")
        _say(f"Elasticsearch  {lab.elasticsearch.url}")
        _say(f"logs           {lab.workspace.logs}")
        _say("Ctrl-C ends all of it")
        signal.pause()


def _chaos(arguments: argparse.Namespace) -> int:
    # Imported here: it takes Airflow's libraries, the other commands don't.
    from lab import chaos

    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    logs = arguments.logs or chaos.LOGS
    verdict = chaos.run(
        minutes=arguments.minutes, seed=seed, topics=arguments.topics, say=_say_when, logs=logs
    )
    for line in verdict.lines():
        _say(line)
    _say(f"seed {seed}: {'passed' if verdict.passed else 'FAILED'}; logs in {logs}")
    return 0 if verdict.passed else 1


def _say_when(line: str) -> None:
    _say(f"{datetime.now(UTC):%H:%M:%S}  {line}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
