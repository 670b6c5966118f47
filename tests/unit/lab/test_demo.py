"""The demo's configuration, its screen, and how it ends."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import lab.demo
from airflow_lag_provider import config
from lab.demo import configuration, main
from lab.demo_screen import Screen
from lab.errors import PartError
from lab.workspace import REPOSITORY

# What belongs to a place: the laboratory's are others than the example's. Its pool the demo makes;
# in the example it is a comment, because a pool that nobody made keeps tasks from workers for ever.
_PLACES = {"bootstrap_servers", "tool", "command_config", "pool"}


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def _mirror(configuration: dict[str, dict[str, dict[str, object]]]) -> dict[str, object]:
    mirror = configuration["mirrors"]["oasis"]
    return {key: value for key, value in mirror.items() if key not in _PLACES}


def test_the_demo_runs_the_example_of_the_repository() -> None:
    """The demo's configuration is include/mirrors.yaml, but for the laboratory's places."""
    example = yaml.safe_load((REPOSITORY / "include" / "mirrors.yaml").read_text(encoding="utf-8"))
    ours = configuration(bootstrap="127.0.0.1:1", tool=Path("/a/tool"))
    assert _mirror(ours) == _mirror(example)
    assert {key: ours[key] for key in ours if key != "mirrors"} == {
        key: example[key] for key in example if key != "mirrors"
    }


def test_the_demos_configuration_has_no_mistake(tmp_path: Path) -> None:
    """What the demo writes is a configuration that the package takes."""
    file = tmp_path / "mirrors.yaml"
    file.write_text(yaml.safe_dump(configuration(bootstrap="127.0.0.1:1", tool=Path("/a/tool"))))
    loaded = config.load(file)
    loaded.raise_for_mistakes()
    assert [mirror.name for mirror in loaded.mirrors] == ["oasis"]


def test_without_a_terminal_the_screen_prints_lines_alone() -> None:
    """Without a terminal there is no control character, and brackets stay what they are."""
    output = io.StringIO()
    screen = Screen(Console(file=output, force_terminal=False))
    with screen:
        screen.say("[broker]: up")
        screen.print_table()
    assert output.getvalue() == "   0 s  [broker]: up\n"


def test_a_second_ctrl_c_does_not_disturb_the_end() -> None:
    """The first Ctrl-C interrupts; from then on it is ignored, so that everything is stopped."""
    screen = Screen(Console(file=io.StringIO()))
    signal.signal(signal.SIGINT, screen.interrupt)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_a_part_that_does_not_come_up_is_an_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part's failure ends the demo with 1, its reason and the end of its log."""

    def fail(*_: object, **__: object) -> None:
        error = PartError("broker", "ended with exit code 1", log="no space left")
        error.add_note("The logs of all parts: elsewhere")
        raise error

    monkeypatch.setattr(lab.demo, "_run", fail)
    assert main([]) == 1
    printed = capsys.readouterr().err
    assert "broker: ended with exit code 1" in printed
    assert "no space left" in printed
    assert printed.endswith("The logs of all parts: elsewhere\n")


@pytest.mark.parametrize(("up", "code"), [(True, 0), (False, 130)])
def test_ctrl_c_is_the_way_to_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, up: bool, code: int
) -> None:
    """Ctrl-C ends the running demo with 0, a starting one with 130, and both with one line."""

    def interrupt(screen: Screen, **_: object) -> None:
        screen.up = up
        raise KeyboardInterrupt

    monkeypatch.setattr(lab.demo, "_run", interrupt)
    assert main([]) == code
    assert capsys.readouterr().out == "All of it is stopped.\n"
