"""The command line: where it looks for the configuration, what it prints and how it ends."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_lag_provider import cli

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
