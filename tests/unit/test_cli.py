"""The command line: where it looks for the configuration, what it prints and how it ends."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_lag_provider import cli, gaps_command
from airflow_lag_provider.errors import ElasticsearchConnectionInvalid, ElasticsearchUnreachable
from airflow_lag_provider.hooks.elasticsearch import LagElasticsearchHook
from airflow_lag_provider.hooks.elasticsearch_spool import configured_spool
from airflow_lag_provider.spool import Spool
from airflow_lag_provider.spool_entry import Entry
from airflow_lag_provider.spool_file import SpoolFile

MISTAKES = Path(__file__).parent / "fixtures" / "config" / "ten_mistakes.yaml"
MIRRORS = """
mirrors:
  oasis:
    bootstrap_servers: [b:9092]
    group: oasis-group
    deferrable: false
    topics: {orders: , payments: }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MIRRORS)
    return path


def test_tune_prints_text(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The load of the given file, and the present values of this Airflow."""
    cli.main(["tune", "--file", str(file)])
    printed = capsys.readouterr()
    assert f"The load of {file} on Airflow" in printed.out
    assert "(0 in the triggerer alone, 2 on workers)" in printed.out
    assert "[scheduler] max_dagruns_to_create_per_loop    10, 2 needed" in printed.out
    assert "airflow pools set lag_oasis 1" in printed.out
    assert "300 -> 60" in printed.out
    assert "not set" not in printed.out
    assert printed.err == ""


def test_tune_knows_the_names_of_this_version(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every setting it names is one that the installed Airflow has, with a value."""
    topics = "".join(f", t{number}: " for number in range(300))
    file.write_text(MIRRORS.replace("payments: ", f"payments: {{deferrable: true}}{topics}"))
    file.write_text(file.read_text().replace("deferrable: false", "layout: mirror"))
    cli.main(["tune", "--file", str(file)])
    printed = capsys.readouterr().out
    assert "not set" not in printed
    interval = "[dag_processor]" if AIRFLOW_V_3_0_PLUS else "[scheduler]"
    assert f"{interval} min_file_process_interval" in printed
    on_triggerer = AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS
    capacity = "capacity" if AIRFLOW_V_3_0_PLUS else "default_capacity"
    assert (f"[triggerer] {capacity} " in printed) == on_triggerer
    assert ("[dag_processor] max_callbacks_per_loop" in printed) == AIRFLOW_V_3_3_PLUS


def test_env_lines_can_be_sourced(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell reads them, and Airflow then finds what was needed."""
    monkeypatch.setenv("AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP", "1")
    cli.main(["tune", "--file", str(file), "--env"])
    lines = capsys.readouterr().out
    script = f"{lines}\necho $AIRFLOW__SCHEDULER__MAX_DAGRUNS_TO_CREATE_PER_LOOP"
    assert subprocess.run(["sh", "-euc", script], capture_output=True).stdout == b"2\n"


def test_the_file_lies_beside_the_dag_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an option it is the file that the DAG files read."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mirrors.yaml").write_text(MIRRORS)
    cli.main(["tune"])
    assert str(tmp_path / "include" / "mirrors.yaml") in capsys.readouterr().out


def test_the_file_of_the_airflow_configuration_comes_first(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[lag] mirrors_file` wins over the DAG folder, and the option over both."""
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    monkeypatch.setenv("AIRFLOW__LAG__MIRRORS_FILE", str(file))
    assert cli.mirrors_file(None) == file
    assert cli.mirrors_file("other.yaml") == Path("other.yaml")


def test_a_bad_configuration_ends_with_1_and_all_mistakes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each mistake is a line on stderr; nothing is advised."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["tune", "--file", str(MISTAKES)])
    # What Python does with it: the text to stderr, exit code 1.
    said = str(ended.value.code).splitlines()
    assert len(said) == 10
    assert all(line.startswith("ten_mistakes.yaml:") for line in said)
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message says which file, and ends the process with 1."""
    with pytest.raises(SystemExit, match=r"nothing\.yaml"):
        cli.main(["tune", "--file", str(tmp_path / "nothing.yaml")])


@pytest.mark.parametrize("words", [[], ["tune", "--unknown"], ["nonsense"], ["tune", "--file"]])
def test_wrong_arguments_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As every command does, with the usage on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: airflow-lag" in capsys.readouterr().err


def test_importing_it_is_light() -> None:
    """Every `airflow` command imports it, so neither Airflow nor pydantic comes with it."""
    code = (
        "import sys, airflow_lag_provider.cli;"
        "print(sorted({'airflow', 'pydantic', 'yaml', 'asyncssh'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout == b"[]\n"


def test_airflow_gets_the_same_commands(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Airflow's own parser takes the same options and prints the same."""
    (group,) = cli.get_commands()
    assert group.name == "lag"
    assert [one.name for one in group.subcommands] == [one.name for one in cli.COMMANDS]
    (tune,) = (one for one in group.subcommands if one.name == "tune")
    parser = argparse.ArgumentParser()
    for argument in tune.args:
        argument.add_to_parser(parser)
    tune.func(parser.parse_args(["--file", str(file)]))
    by_airflow = capsys.readouterr().out
    cli.main(["tune", "--file", str(file)])
    assert by_airflow == capsys.readouterr().out != ""


class TestSpool:
    """`airflow-lag spool`."""

    @pytest.fixture
    def spool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
        monkeypatch.setenv("AIRFLOW__LAG__SPOOL_DIR", str(tmp_path / "spool"))
        found = configured_spool()
        assert found
        yield found
        found.release()

    def test_without_a_directory_it_says_so(self) -> None:
        """Nothing is guessed."""
        with pytest.raises(SystemExit, match="spool_dir"):
            cli.main(["spool"])

    def test_it_shows_an_empty_spool(
        self, spool: Spool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Looking doesn't make the directory."""
        cli.main(["spool"])
        printed = capsys.readouterr().out
        assert printed.splitlines() == [
            f"The spool {spool.directory} holds 0 of at most 1073741824 bytes.",
            "Waiting: nothing",
            "Refused by Elasticsearch: nothing",
        ]
        assert not spool.directory.exists()

    def test_it_shows_what_waits_and_why(
        self, spool: Spool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Files, owners, connections, the oldest document, dead letters, torn lines, losses."""
        spool.append([entry("a", "2026-11-24T15:05:00+00:00"), entry("b", "2026-11-24T15:01:00Z")])
        dead = SpoolFile.create(spool.directory, conn_id="other", kind="waiting")
        dead.append([entry("c", "2026-11-24T15:03:00Z", conn_id="other")])
        dead.close()
        with dead.path.open("ab") as file:
            file.write(b"half a li")
        letters = [entry("d", "2026-11-24T15:04:00Z", reason="p0 is a date.")] * 2
        spool.append(letters, kind="refused")
        (spool.directory / "x.waiting.jsonl.torn").write_text("half")
        spool.count_dropped(7)
        cli.main(["spool"])
        first, waiting, mine, theirs, refused, room, _, reason, torn, lost = (
            capsys.readouterr().out.splitlines()
        )
        assert f"holds {spool.used_bytes()} of" in first
        assert waiting == "Waiting: 3 documents in 2 files, the oldest of 2026-11-24T15:01:00Z"
        assert "2 documents for es, oldest 2026-11-24T15:01:00Z" in mine
        assert f"process {os.getpid()} on " in mine
        assert "1 document for other" in theirs
        assert "1 torn line, its owner is gone" in theirs
        assert refused.startswith("Refused by Elasticsearch: 2 documents in 1 file,")
        assert room == f"  They hold {spool.used_bytes('refused')} of at most 134217728 bytes."
        assert reason == "  2 because: p0 is a date."
        assert torn.endswith("x.waiting.jsonl.torn")
        assert lost.startswith("Lost, because the spool was full: 7 documents between 20")

    @pytest.mark.parametrize(
        ("words", "left"),
        [(["--flush"], {"d"}), (["--refused"], {"a"}), (["--flush", "--refused"], set())],
    )
    def test_it_sends_what_waits_or_was_refused(
        self,
        spool: Spool,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        left: set[str],
    ) -> None:
        """Each is asked for by its own option; the command ends with 0 when all of it was sent."""
        written: list[str] = []

        async def write(*documents: Any) -> Any:
            written.extend(one.id for one in documents)
            return (None,) * len(documents)

        @asynccontextmanager
        async def session(_: Any) -> AsyncIterator[Any]:
            yield SimpleNamespace(write=write)

        monkeypatch.setattr(LagElasticsearchHook, "session", session)
        spool.append([entry("a")])
        spool.append([entry("d", reason="No.")], kind="refused")
        cli.main(["spool", *words])
        assert "1 document written, 0 refused by Elasticsearch." in capsys.readouterr().out
        assert set(written) == {"a", "d"} - left
        assert len(spool.files()) == len(left)

    def test_what_can_not_be_sent_ends_it_with_1(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The reason stands on stderr, the documents stay."""

        @asynccontextmanager
        async def session(_: Any) -> AsyncIterator[Any]:
            raise ElasticsearchUnreachable("No connection.")
            yield

        monkeypatch.setattr(LagElasticsearchHook, "session", session)
        spool.append([entry("a")])
        with pytest.raises(SystemExit, match="No connection"):
            cli.main(["spool", "--flush"])
        assert "Some are left, in 1 file." in capsys.readouterr().out
        assert len(spool.files()) == 1

    @pytest.mark.parametrize("there", [True, False])
    def test_what_a_renamed_connection_left_is_shown_and_sent_where_it_still_exists(
        self,
        spool: Spool,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        there: bool,
    ) -> None:
        """Nobody writes to it any more; where it is gone, the reason says that too."""

        async def write(*documents: Any) -> Any:
            return (None,) * len(documents)

        @asynccontextmanager
        async def session(hook: LagElasticsearchHook) -> AsyncIterator[Any]:
            if not there:
                raise ElasticsearchConnectionInvalid(
                    f"There is no connection {hook.elasticsearch_conn_id!r}."
                )
            yield SimpleNamespace(write=write)

        monkeypatch.setattr(LagElasticsearchHook, "session", session)
        spool.append([entry("a", conn_id="renamed")])
        spool.release()
        (path,) = spool.files()
        os.utime(path, (time.time() - 3600,) * 2)
        cli.main(["spool"])
        *_, words, refused = capsys.readouterr().out.splitlines()
        assert words.startswith("  Documents wait for connection 'renamed' (files: 1), and none")
        assert refused == "Refused by Elasticsearch: nothing"
        if there:
            cli.main(["spool", "--flush"])
        else:
            with pytest.raises(SystemExit, match="There is no connection 'renamed'"):
                cli.main(["spool", "--flush"])
        assert len(spool.files()) == (not there)

    def test_files_of_living_processes_are_not_sent_by_others(
        self, spool: Spool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The command says that there are some."""
        spool.directory.mkdir(mode=0o700)
        theirs = SpoolFile.create(spool.directory, conn_id="es", kind="waiting")
        theirs.append([entry("a")])
        cli.main(["spool", "--flush"])
        theirs.close()
        assert (
            "Owned by living processes, which send it themselves: 1 file."
            in capsys.readouterr().out
        )
        assert len(spool.files()) == 1


def test_the_list_of_gaps_stands_alone_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program reads it there, and Airflow 2 logs to standard output."""

    def report(**_: Any) -> tuple[str, str]:
        print("[2026-11-24T17:00:00] INFO - Retrieving connection")
        return '{"gaps": []}', ""

    monkeypatch.setattr(gaps_command, "report", report)
    cli.main(["gaps", "--json", "--file", str(tmp_path / "mirrors.yaml")])
    assert capsys.readouterr().out == '{"gaps": []}'


def entry(
    name: str, at: str = "2026-11-24T15:00:00Z", *, conn_id: str = "es", reason: str | None = None
) -> Entry:
    return Entry(
        conn_id=conn_id, index="lag", id=name, version=1, source={"@timestamp": at}, reason=reason
    )
