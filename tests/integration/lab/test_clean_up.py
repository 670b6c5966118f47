"""Nothing of a laboratory outlives the process that holds it, and what can't start says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import reaper
from lab.errors import PartError
from lab.kafka import Broker, write_distribution
from lab.process import Process
from lab.workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.integration

_HOLDER = """
from lab.laboratory import Laboratory
with Laboratory(elasticsearch=False, openssh=True, kafka=KAFKA) as lab:
    print(lab.workspace.lab_id, lab.workspace.path, flush=True)
    import time
    time.sleep(60)
"""

_STARTER = """
import sys
from lab.workspace import Workspace
import lab.workspace as module
class Told(Workspace):
    def __init__(self, **options):
        super().__init__(**options)
        print(self.lab_id, self.path, flush=True)
import lab.laboratory
lab.laboratory.Workspace = Told
with lab.laboratory.Laboratory(mirrormaker=False):
    pass
"""


def _holder(code: str) -> tuple[subprocess.Popen[str], str, Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )
    assert process.stdout
    lab_id, path = process.stdout.readline().split()
    return process, lab_id, Path(path)


def _nothing_left(lab_id: str, path: Path, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while reaper.members(lab_id) or path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(
    ("number", "kafka", "processes"),
    [(signal.SIGKILL, True, 6), (signal.SIGTERM, False, 3), (signal.SIGINT, False, 3)],
)
def test_nothing_is_left_after_a_signal(
    number: signal.Signals, *, kafka: bool, processes: int
) -> None:
    """After SIGKILL, SIGTERM or Ctrl-C of its holder no process or file of a laboratory is left."""
    process, lab_id, path = _holder(_HOLDER.replace("KAFKA", str(kafka)))
    assert len(reaper.members(lab_id)) >= processes
    process.send_signal(number)
    process.wait(timeout=20)
    assert _nothing_left(lab_id, path, seconds=15)


def test_ctrl_c_ends_a_half_started_laboratory_at_once() -> None:
    """Ctrl-C while parts are starting ends them all, without waiting for any of them."""
    process, lab_id, path = _holder(_STARTER)
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert time.monotonic() - began < 8
    assert _nothing_left(lab_id, path, seconds=5)


def test_a_stubborn_child_in_a_session_of_its_own_ends_too(tmp_path: Path) -> None:
    """A process that ignores SIGTERM, left its session and lost its parent is found and killed."""
    stubborn = "trap '' TERM; while :; do sleep 1; done"
    with Workspace(logs=tmp_path) as workspace:
        Process(
            workspace=workspace, name="parent", command=["setsid", "-f", "sh", "-c", stubborn]
        ).run(timeout=5)
        assert reaper.members(workspace.lab_id)
    assert not reaper.members(workspace.lab_id)


def test_a_part_that_dies_fails_at_once_and_shows_its_log() -> None:
    """A broker with a setting it refuses fails long before the time-out, with its own words."""
    with Workspace() as workspace:
        home = write_distribution(workspace, print)
        broker = Broker(
            workspace=workspace, name="broken", home=home, settings={"num.partitions": "none"}
        )
        began = time.monotonic()
        with pytest.raises(PartError, match=r"num\.partitions") as caught:
            broker.start()
        assert time.monotonic() - began < 15
        assert caught.value.part.startswith("kafka-broken")


def test_a_part_that_never_gets_ready_fails_at_the_time_out() -> None:
    """A part that lives but isn't ready fails at its time-out, with what it has printed."""
    with Workspace() as workspace:
        part = Process(
            workspace=workspace, name="idle", command=["sh", "-c", "echo warming up; sleep 30"]
        )
        part.start()
        with pytest.raises(PartError, match=r"not ready within 0.5 s[\s\S]*warming up"):
            part.wait_until(lambda: False, timeout=0.5, what="ready")


def test_a_missing_program_is_an_error_of_the_part() -> None:
    """A command that can't be executed is named as such."""
    with (
        Workspace() as workspace,
        pytest.raises(PartError, match="can't be executed"),
    ):
        Process(workspace=workspace, name="ghost", command=["/nowhere/at-all"]).start()


def test_a_paused_part_can_be_stopped() -> None:
    """Stopping a part that is paused takes no longer than stopping one that runs."""
    with Workspace() as workspace:
        part = Process(workspace=workspace, name="sleeper", command=["sleep", "30"])
        part.start()
        part.pause()
        began = time.monotonic()
        part.stop()
        assert time.monotonic() - began < 2
        assert not part.running


def test_the_laboratorys_environment_hides_the_callers_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A part does not see the Kafka and Airflow settings of whoever starts it."""
    monkeypatch.setenv("KAFKA_HEAP_OPTS", "-Xmx1M")
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    with Workspace() as workspace:
        environment = workspace.environment()
    assert not {"KAFKA_HEAP_OPTS", "AIRFLOW_HOME"} & environment.keys()
    assert environment[reaper.ENV_VARIABLE] == workspace.lab_id
    assert os.environ["AIRFLOW_HOME"] == "/elsewhere"
