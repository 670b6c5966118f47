"""Airflow's home for the tests: a folder of their own, whatever the machine has."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

_HOME = tempfile.mkdtemp(prefix="airflow-lag-tests-")
# Before anything imports Airflow, which reads its configuration once.
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

# A shell that runs its commands in the background lets them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)
