"""``python -m lab up`` starts everything and waits for Ctrl-C; ``fetch`` only downloads."""

from __future__ import annotations

import argparse
import signal
import sys
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
    arguments = parser.parse_args()
    try:
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


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
