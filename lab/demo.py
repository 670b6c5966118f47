"""The demo: everything real on this machine, and a table of the lag that Elasticsearch has.

``python -m lab.demo`` runs until Ctrl-C. With ``--check`` it waits for right snapshots and for a
lag that rises without MirrorMaker, and ends with 0, or with 1 and what was missing.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from airflow_lag_provider.tune_pools import HOST_SLOTS
from lab.airflow import Airflow
from lab.airflow_api import AirflowApi
from lab.airflow_settings import Login
from lab.cache import fetch_all
from lab.demo_check import Check
from lab.demo_index import INDEX, Newest, newest
from lab.demo_screen import Screen
from lab.demo_table import render, rows, state
from lab.errors import LabError
from lab.laboratory import Laboratory
from lab.mirrormaker import GROUP, TOPICS
from lab.workspace import REPOSITORY

MIRROR = "oasis"
"""The demo's mirror, as it stands in include/mirrors.yaml."""

POOL = f"lag_{MIRROR}"
"""The pool of that mirror's tasks, should they take workers; the demo makes it."""

_LOGS = REPOSITORY / ".demo" / "logs"
_POLL_SECONDS = 3.0
_DAGS_SECONDS = 120.0


def configuration(*, bootstrap: str, tool: Path) -> dict[str, Any]:
    """Return what the demo's mirrors.yaml says: include/mirrors.yaml with the laboratory's places.

    :param bootstrap: ``host:port`` of the source broker
    :param tool: path of kafka-consumer-groups.sh
    """
    limits = {"allowed_lag": 10, "max_lag": 5000, "max_lag_seconds": 120, "sla": "90s"}
    return {
        "elasticsearch": {"conn_id": "elasticsearch_default", "index": INDEX},
        "defaults": {"timeout": "30s"},
        "mirrors": {
            MIRROR: {
                "ssh_conn_id": "mirrormaker_oasis",
                "bootstrap_servers": [bootstrap],
                "group": GROUP,
                "tool": str(tool),
                "layout": "topic",
                "pool": POOL,
                "topics": {topic: limits if topic == "payments" else None for topic in TOPICS},
            }
        },
    }


class Demo:
    """A laboratory with an Airflow that watches it.

    :param lab: the laboratory, started
    :param screen: where it shows what it does
    """

    def __init__(self, lab: Laboratory, screen: Screen) -> None:
        self._lab = lab
        self._screen = screen
        self._found: dict[str, Newest] = {}
        self._complete = False
        file = lab.workspace.directory("demo") / "mirrors.yaml"
        text = yaml.safe_dump(
            configuration(bootstrap=lab.source.bootstrap, tool=lab.tool), sort_keys=False
        )
        file.write_text(text, encoding="utf-8")
        self._airflow = Airflow(
            workspace=lab.workspace,
            bin=Path(sys.executable).parent,
            dags_folder=REPOSITORY / "dags",
            connections={
                "mirrormaker_oasis": lab.sshd.connection(),
                "elasticsearch_default": lab.elasticsearch.connection(),
            },
            environment={"AIRFLOW__LAG__MIRRORS_FILE": str(file)},
        )

    def run(self, *, check: bool) -> None:
        """Start Airflow and show the table, until Ctrl-C or until everything was checked.

        :raises LabError: a part does not come up, or something to be checked is missing
        """
        login = self._airflow.start_standalone(self._screen.say)
        self._screen.say("Airflow: waiting for the DAGs")
        api = AirflowApi(login)
        api.make_pool(POOL, slots=HOST_SLOTS, description="Lag of MirrorMaker, tasks on workers")
        self._screen.say(
            f"Airflow: pool {POOL} with {HOST_SLOTS} slots is made, for tasks on workers"
        )
        dag_ids = [f"consumer_lag.{MIRROR}.{topic}" for topic in self._lab.topics]
        api.wait_for_dags(dag_ids, timeout=_DAGS_SECONDS)
        checking = self._check_begun() if check else None
        # Only now: a task that is due before its API server is up would fail for good.
        for dag_id in dag_ids:
            api.switch_on(dag_id)
        self._screen.say(f"Airflow: {len(dag_ids)} DAGs are on, a run of each is due every minute")
        self._screen.up = not check
        self._say_where(login)
        self._screen.table = lambda: render(rows(self._lab.topics, self._found, datetime.now(UTC)))
        if checking:
            checking.run()
            self._screen.say("all of it was seen")
            self._screen.print_table()
        else:
            self._watch()

    def _check_begun(self) -> Check:
        check = Check(self._lab, self._airflow, say=self._screen.say, meanwhile=self._look)
        check.start()
        return check

    def _say_where(self, login: Login) -> None:
        documents = f"{self._lab.elasticsearch.url}/{INDEX}/_search?sort=@timestamp:desc"
        lines = (
            "",
            f"Airflow        {login.url}  user {login.user}, password {login.password}",
            f"Elasticsearch  {documents}",
            "To stop        Ctrl-C",
            "",
        )
        for line in lines:
            self._screen.print(line)

    def _watch(self) -> None:
        """Keep the table up to date until Ctrl-C."""
        before = printed = state(self._found)
        while True:
            # Raises, with the end of its log, when Airflow has gone.
            _ = self._airflow.component("standalone").pid
            self._look()
            now = state(self._found)
            # The runs of one minute end one by one: without a terminal, wait for the last.
            if not self._screen.interactive and now != printed and now == before:
                self._screen.print_table()
                printed = now
            before = now
            time.sleep(_POLL_SECONDS)

    def _look(self) -> None:
        """Read the index; say so when all topics have a snapshot."""
        try:
            self._found = newest(self._lab.elasticsearch)
        except LabError as error:
            self._screen.wait_for(str(error).splitlines()[0])
            return
        snapshots = [one.snapshot for one in self._found.values() if one.snapshot]
        if not self._complete and len(snapshots) == len(self._lab.topics):
            self._complete = True
            self._screen.say("all topics have their first snapshot")
        self._screen.wait_for("the table is read from Elasticsearch; Ctrl-C stops everything")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    :param words: by default those of the process
    """
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="check everything, then end")
    arguments = parser.parse_args(words)
    screen = Screen()
    signal.signal(signal.SIGINT, screen.interrupt)
    try:
        with screen:
            _run(screen, check=arguments.check)
    except LabError as error:
        print("\n".join([str(error), *getattr(error, "__notes__", ())]), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        screen.print("All of it is stopped.")
        return 0 if screen.up else 130
    return 0


def _run(screen: Screen, *, check: bool) -> None:
    fetch_all(screen.say)
    screen.restart_clock()
    with (
        Laboratory(progress=screen.say, topics=TOPICS, group=GROUP) as lab,
        _logs_kept_of_a_failure(lab.workspace.logs),
    ):
        Demo(lab, screen).run(check=check)


@contextmanager
def _logs_kept_of_a_failure(logs: Path) -> Iterator[None]:
    """Save the logs from the laboratory's end when something went wrong, and say where."""
    try:
        yield
    except LabError as error:
        shutil.rmtree(_LOGS, ignore_errors=True)
        # A log that is being written, or goes meanwhile, is none to worry about.
        with suppress(shutil.Error, OSError):
            shutil.copytree(logs, _LOGS, symlinks=True)
        error.add_note(f"The logs of all parts: {_LOGS}")
        raise


if __name__ == "__main__":
    sys.exit(main())
