"""The commands ``airflow-lag …``, on Airflow 3 ``airflow lag …`` too.

Every ``airflow`` command imports this module, so what a command needs is imported when it runs.
A new command is one more entry in :data:`COMMANDS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_lag_provider.errors_base import LagError

if TYPE_CHECKING:
    from airflow_lag_provider.spool import Spool
    from airflow_lag_provider.spool_entry import Kind
    from airflow_lag_provider.tune_report import Inventory


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a command, as ``argparse`` takes it.

    :param flags: such as ``--file``.
    :param arguments: the other arguments of ``add_argument``.
    """

    flags: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    :param help: what it does, one line.
    :param options: its options.
    :param run: does it, given the parsed options.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    run: Callable[[argparse.Namespace], None]

    def __call__(self, arguments: argparse.Namespace) -> None:
        """Run it; an error of this package ends the process with 1 and its words on stderr."""
        try:
            self.run(arguments)
        except LagError as error:
            sys.exit(str(error))


def mirrors_file(given: str | None) -> Path:
    """Return the configuration file: the given one, or where the DAG files look for theirs."""
    from airflow.configuration import conf

    configured = given or conf.get("lag", "mirrors_file", fallback="")
    dags_folder = Path(conf.get_mandatory_value("core", "dags_folder"))
    return Path(configured or dags_folder.parent / "include" / "mirrors.yaml")


def tune(arguments: argparse.Namespace) -> None:
    """Print the Airflow settings that the configured load needs.

    :raises ConfigurationError: the configuration has mistakes.
    """
    from airflow import __version__ as airflow
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    from airflow_lag_provider import config, tune_host, tune_report
    from airflow_lag_provider.tune import advise
    from airflow_lag_provider.tune_load import load_of

    configuration = config.load(mirrors_file(arguments.file))
    configuration.raise_for_mistakes()
    # Without it Airflow 2 doesn't know the defaults of other providers' settings.
    ProvidersManager().initialize_providers_configuration()  # type: ignore[no-untyped-call]
    major, minor = airflow.split(".")[:2]
    version = int(major), int(minor)
    advice = advise(
        load_of(configuration, version=version),
        version=version,
        present=lambda section, key: conf.get(section, key, fallback=None),
        socket_buffer=tune_host.socket_buffer(),
    )
    report = tune_report.environment if arguments.env else tune_report.text
    found = _inventory()
    sys.stdout.write(report(advice, path=configuration.path, airflow=airflow, inventory=found))


def _inventory() -> Inventory | str:
    """Return what pools and triggerers there are, or the kind of error that hides it."""
    from airflow_lag_provider.tune_airflow import inventory

    try:
        with _with_database():
            return inventory()
    except Exception as error:
        # Whatever it is, the advice is worth as much without.
        return type(error).__name__


def spool(arguments: argparse.Namespace) -> None:
    """Print what waits in the spool, or send it.

    :raises SpoolUnusable: there is no spool, or it can't be read.
    """
    from airflow_lag_provider import spool_report
    from airflow_lag_provider.errors import SpoolUnusable
    from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool

    found = configured_spool()
    if found is None:
        raise SpoolUnusable("`[lag] spool_dir` is not set, so nothing waits anywhere.")
    kinds: dict[Kind, bool] = {"waiting": arguments.flush, "refused": arguments.refused}
    if not any(kinds.values()):
        sys.stdout.write(spool_report.text(found))
        return
    unfinished = [why for kind, wanted in kinds.items() if wanted for why in _flush(found, kind)]
    if unfinished:
        sys.exit("\n".join(unfinished))


def _flush(found: Spool, kind: Kind) -> list[str]:
    """Send what waits; return why something is still there."""
    import asyncio

    from airflow_lag_provider.hooks.elasticsearch_flush import flush
    from airflow_lag_provider.spool_report import counted

    with _with_database():
        flushed = asyncio.run(flush(found, kind=kind))
    sys.stdout.write(
        f"{kind.capitalize()}: {counted(len(flushed.sent), 'document')} written, "
        f"{len(flushed.refused)} refused by Elasticsearch.\n"
    )
    if flushed.left:
        sys.stdout.write(f"Some are left, in {counted(flushed.left, 'file')}.\n")
    if flushed.owned:
        sys.stdout.write(
            f"Owned by living processes, which send it themselves: "
            f"{counted(flushed.owned, 'file')}.\n"
        )
    if flushed.refused:
        flushed.reasons.append("`airflow-lag spool` shows what was refused, and why.")
    return flushed.reasons


@contextmanager
def _with_database() -> Iterator[None]:
    """Let Airflow ask its database, and keep its log lines from standard output.

    Airflow 3 else looks for connections in the environment alone, not in its database, and
    Airflow 2 logs to standard output, where only what a command prints belongs.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with redirect_stdout(sys.stderr):
        yield


def gaps(arguments: argparse.Namespace) -> None:
    """Print which minutes of which topics have no snapshot, and what is known of why.

    :raises LagError: an argument or the configuration can't be used, or Elasticsearch not asked.
    """
    with _with_database():
        from airflow_lag_provider import gaps_command

        written, unfinished = gaps_command.report(
            path=mirrors_file(arguments.file),
            start=arguments.start,
            end=arguments.end,
            mirror=arguments.mirror,
            topic=arguments.topic,
            as_json=arguments.json,
        )
    sys.stdout.write(written)
    if unfinished:
        sys.exit(unfinished)


_FILE = Option(
    ("--file",),
    {
        "metavar": "PATH",
        "help": "the configuration file; by default [lag] mirrors_file, or include/mirrors.yaml "
        "beside the DAG folder",
    },
)

COMMANDS = (
    Command(
        "tune",
        "Print the Airflow settings that the configured load needs, each with its reason",
        (
            _FILE,
            Option(
                ("--env",),
                {"action": "store_true", "help": "as lines for an environment file"},
            ),
        ),
        tune,
    ),
    Command(
        "spool",
        "Print which documents wait in the spool for Elasticsearch, or send them",
        (
            Option(
                ("--flush",),
                {"action": "store_true", "help": "send what waits, of processes that are gone"},
            ),
            Option(
                ("--refused",),
                {
                    "action": "store_true",
                    "help": "send again what Elasticsearch refused, once the reason is mended",
                },
            ),
        ),
        spool,
    ),
    Command(
        "gaps",
        "List the minutes without a snapshot, by mirror and topic, each with what is known of why",
        (
            Option(
                ("--from",),
                {
                    "dest": "start",
                    "metavar": "TIME",
                    "help": "such as 2026-11-22T13:00, in UTC unless it says otherwise; by default "
                    "a day before --to",
                },
            ),
            Option(
                ("--to",),
                {"dest": "end", "metavar": "TIME", "help": "by default three minutes ago"},
            ),
            Option(("--mirror",), {"metavar": "NAME", "help": "only this mirror"}),
            Option(("--topic",), {"metavar": "NAME", "help": "only this topic"}),
            Option(("--json",), {"action": "store_true", "help": "as JSON"}),
            _FILE,
        ),
        gaps,
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``airflow-lag``.

    :param arguments: the words after the command's name; by default the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="airflow-lag", description="Lag of Kafka MirrorMaker in Elasticsearch"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.help, description=command.help)
        for option in command.options:
            one.add_argument(*option.flags, **option.arguments)
        one.set_defaults(run=command)
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)


def get_commands() -> list[Any]:
    """Return the commands for Airflow's own command line (provider info, key ``cli``)."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name="lag",
            help="Lag of Kafka MirrorMaker in Elasticsearch",
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    func=command,
                    args=[
                        Arg(option.flags, **option.arguments)  # type: ignore[no-untyped-call]
                        for option in command.options
                    ],
                )
                for command in COMMANDS
            ],
        )
    ]
