"""One process of the laboratory, in a session of its own and with a log file of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab import reaper
from lab.errors import PartError
from lab.workspace import REPOSITORY, Workspace

_POLL_SECONDS = 0.1
_TAIL_LINES = 40
_LINE_LENGTH = 400


def log_tail(path: Path, *, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log, their first 400 characters; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 65_536))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:_LINE_LENGTH] for line in text.splitlines()[-lines:])


class Process:
    """A program that is started, watched and ended together with all below it.

    It gets a session of its own, so that a Ctrl-C on the terminal reaches only the Python process
    that holds the laboratory, which then ends its parts in order.

    :param workspace: the laboratory it belongs to
    :param name: what logs and messages call it
    :param command: the program and its arguments
    :param environment: variables besides the workspace's
    :param cwd: working directory, by default the root of the repository
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
    ) -> None:
        self.name = name
        self._workspace = workspace
        self.log = workspace.log_file(name)
        self._command = [str(word) for word in command]
        self._environment = {**workspace.environment(), **(environment or {})}
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The process number.

        :raises PartError: when it does not run
        """
        if self._popen is None or self._popen.poll() is not None:
            raise PartError(self.name, "is not running", log=log_tail(self.log))
        return self._popen.pid

    def start(self) -> None:
        """Start the program; its output is appended to its log.

        :raises PartError: when it runs already, or can't be executed
        """
        if self.running:
            raise PartError(self.name, "runs already")
        with self._workspace.launching(self.name) as children, self.log.open("ab") as log:
            try:
                self._popen = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    cwd=self._cwd,
                    env=self._environment,
                )
            except OSError as error:
                raise PartError(self.name, f"can't be executed: {error}") from error
            children.append(self._popen)

    def run(self, *, timeout: float) -> None:
        """Start the program and wait until it has ended well.

        :param timeout: seconds
        :raises PartError: it ends with another exit code than 0, or not in time
        """
        self.start()
        popen = self._popen
        try:
            code = popen.wait(timeout) if popen else None
        except subprocess.TimeoutExpired:
            self.kill()
            raise PartError(
                self.name, f"not done within {timeout:g} s", log=log_tail(self.log)
            ) from None
        self._popen = None
        if code:
            raise PartError(self.name, f"ended with {_exit(code)}", log=log_tail(self.log))

    def wait_until(self, ready: Callable[[], bool], *, timeout: float, what: str) -> None:
        """Wait until `ready` returns true.

        :param ready: asked ten times a second; returns false while it is too early
        :param timeout: seconds
        :param what: ends the sentence "not … within N s"
        :raises PartError: at once when the process has ended, else at the time-out
        """
        deadline = time.monotonic() + timeout
        while not ready():
            code = self._popen.poll() if self._popen else None
            if self._popen is None or code is not None:
                reason = f"ended with {_exit(code)} before it was {what}"
                raise PartError(self.name, reason, log=log_tail(self.log))
            if time.monotonic() > deadline:
                reason = f"not {what} within {timeout:g} s"
                raise PartError(self.name, reason, log=log_tail(self.log))
            time.sleep(_POLL_SECONDS)

    def stop(self, *, grace: float = 10) -> None:
        """Terminate it and all below it, and kill what is left after `grace` seconds."""
        self._end(grace)

    def kill(self) -> None:
        """Kill it and all below it without a warning."""
        self._end(None)

    def pause(self) -> None:
        """Stop the process and all below it, so that it holds its connections and answers none.

        :raises PartError: when it does not run
        """
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on.

        :raises PartError: when it does not run
        """
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for key in reaper.descendants(self.pid):
            os.kill(key.pid, number)

    def _end(self, grace: float | None) -> None:
        if self._popen is None:
            return
        family = reaper.descendants(self._popen.pid) if self.running else set()
        if grace is None:
            reaper.kill(family)
        else:
            # Only the head is asked: it may have an order in which it ends what it started.
            head = {key for key in family if key.pid == self._popen.pid}
            reaper.send(family, signal.SIGCONT)
            reaper.end(head, grace=grace)
            reaper.end(family - head, grace=min(grace, 2))
        self._popen.wait()
        self._popen = None


def _exit(code: int | None) -> str:
    if code is None:
        return "nothing: it was never started"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class Part:
    """A part of the laboratory that is one process; the parts add how they start."""

    _process: Process

    @property
    def log(self) -> Path:
        """Its log file."""
        return self._process.log

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._process.running

    @property
    def pid(self) -> int:
        """Number of its process, below which all others of it are.

        :raises PartError: when it does not run
        """
        return self._process.pid

    def stop(self) -> None:
        """Shut it down in order."""
        self._process.stop()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def pause(self) -> None:
        """Let it hold its connections and answer nothing, as one that hangs."""
        self._process.pause()

    def resume(self) -> None:
        """End a pause; what was sent meanwhile is carried out now."""
        self._process.resume()
