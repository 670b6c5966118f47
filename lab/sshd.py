"""Two SSH servers with one face: one of asyncssh that needs no root, and OpenSSH's sshd."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import reaper
from lab.cache import require
from lab.network import HOST, free_port, is_listening
from lab.process import Part, Process
from lab.ssh_keys import SshKeys, make_keys
from lab.workspace import Workspace

_START_SECONDS = 20.0


@dataclass(frozen=True)
class SshCounts:
    """What a server has done since it was made."""

    connections: int
    """Connections that passed the authentication."""

    commands: int
    """Commands that were started."""


class SshServer(Part, ABC):
    """An SSH server on 127.0.0.1 that runs commands as the user that runs the laboratory.

    :param workspace: the laboratory it belongs to
    :param name: names its log and its directory
    """

    host = HOST
    password: str | None = None
    """The user's password, None where only keys may log in."""

    def __init__(self, *, workspace: Workspace, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.user = getpass.getuser()
        self.keys: SshKeys = make_keys(workspace.secrets / name, port=self.port)
        self._directory = workspace.secrets / name
        self._lab_id = workspace.lab_id
        self._process = Process(workspace=workspace, name=name, command=self._command())

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def connection(
        self, *, password: str | None = None, extra: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Return an Airflow connection to it, as ``AIRFLOW_CONN_*`` takes it as JSON.

        :param password: the connection's password
        :param extra: its extras; by default the key file and the host key
        """
        if extra is None:
            extra = {"key_file": str(self.keys.key_file), "host_key": self.keys.host_key}
        fields: dict[str, object] = {
            "conn_type": "ssh",
            "host": self.host,
            "port": self.port,
            "login": self.user,
            "extra": dict(extra),
        }
        return fields if password is None else {**fields, "password": password}

    def start(self) -> None:
        """Start it, or start it again on the same port with the same keys.

        :raises PartError: it does not come up
        """
        self._process.start()
        self._process.wait_until(
            lambda: is_listening(self.port), timeout=_START_SECONDS, what="listening"
        )

    def stop(self) -> None:
        """End it, its connections and their commands."""
        self._process.stop(grace=3)

    @abstractmethod
    def drop_connections(self) -> None:
        """Cut all connections, in the middle of what they do; the server goes on.

        Commands that run are left alone, as they are when a network breaks.

        :raises PartError: it does not run
        """

    @abstractmethod
    def counts(self) -> SshCounts:
        """Return how many connections and commands there were."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...


class AsyncsshServer(SshServer):
    """asyncssh in a process of its own: no root needed, and it writes down every command.

    :param workspace: the laboratory it belongs to
    :param name: names its log and its directory
    :param password: whether the user may log in with a password too, which it makes up
    """

    def __init__(self, *, workspace: Workspace, name: str = "sshd", password: bool = False) -> None:
        self.password = secrets.token_urlsafe(12) if password else None
        super().__init__(workspace=workspace, name=name)

    def drop_connections(self) -> None:
        """Cut all connections; commands that run are left alone."""
        before = self._events("dropped")
        os.kill(self._process.pid, signal.SIGUSR1)
        self._process.wait_until(
            lambda: len(self._events("dropped")) > len(before), timeout=5, what="dropping"
        )

    def counts(self) -> SshCounts:
        """Return how many connections and commands there were."""
        return SshCounts(len(self._events("connection")), len(self.commands()))

    def commands(self) -> tuple[str, ...]:
        """Return every command that a client sent, as it came, oldest first."""
        return tuple(self._events("command"))

    def _events(self, kind: str) -> list[str]:
        try:
            lines = (self._directory / "events.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        events = (json.loads(line) for line in lines)
        return [text for found, text in events if found == kind]

    def _command(self) -> Sequence[str | Path]:
        settings = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "host_key_file": str(self.keys.host_key_file),
            "authorized_keys": str(self.keys.authorized_keys),
            "events": str(self._directory / "events.jsonl"),
        }
        file = self._directory / "settings.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(settings), encoding="utf-8")
        return [sys.executable, "-m", "lab.asyncssh_server", file]


class OpenSshServer(SshServer):
    """OpenSSH's sshd with its usual limits; keys only.

    :param workspace: the laboratory it belongs to
    :param name: names its log and its directory
    :param max_sessions: how many commands one connection may run at once; 10 is sshd's own default
    :raises MissingToolError: openssh-server is not installed
    """

    def __init__(
        self, *, workspace: Workspace, name: str = "openssh", max_sessions: int = 10
    ) -> None:
        self._max_sessions = max_sessions
        super().__init__(workspace=workspace, name=name)

    def start(self) -> None:
        """Start it, or start it again on the same port with the same keys.

        :raises PartError: it does not come up
        """
        if os.getuid() == 0:
            # sshd keeps its unprivileged half there, and a container has nobody who makes it.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        super().start()

    def drop_connections(self) -> None:
        """Cut all connections; commands that run are left alone."""
        reaper.kill(self._connections())

    def silence_connections(self) -> None:
        """Let all connections answer nothing and stay open; the server goes on.

        :meth:`drop_connections` ends them.

        :raises PartError: it does not run
        """
        reaper.send(self._connections(), signal.SIGSTOP)

    def _connections(self) -> list[reaper.ProcessKey]:
        titles = {key: _title(key.pid) for key in reaper.descendants(self._process.pid)}
        return [
            key
            for key, title in titles.items()
            if title.startswith("sshd: ") and "[listener]" not in title
        ]

    def counts(self) -> SshCounts:
        """Return how many connections and commands there were."""
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return SshCounts(
            log.count("Accepted publickey for "), log.count("Starting session: command")
        )

    def _command(self) -> Sequence[str | Path]:
        sshd = require("sshd", package="openssh-server")
        configuration = self._directory / "sshd_config"
        configuration.write_text("".join(f"{line}\n" for line in self._lines()), encoding="utf-8")
        # The shell in between stays recognisable as the laboratory's: sshd overwrites its own
        # environment. It is told to run a second command so that it doesn't become sshd.
        command = shlex.join([sshd, "-D", "-e", "-f", str(configuration)])
        return ["/bin/sh", "-c", f"trap 'kill $!' TERM; {command} & wait $!; exit $?"]

    def _lines(self) -> list[str]:
        environment = {reaper.ENV_VARIABLE: self._lab_id}
        if java_home := _java_home_to_tell():
            environment["JAVA_HOME"] = java_home
        pairs = " ".join(f'"{name}={value}"' for name, value in environment.items())
        return [
            f"ListenAddress {self.host}",
            f"Port {self.port}",
            f"HostKey {self.keys.host_key_file}",
            f"AuthorizedKeysFile {self.keys.authorized_keys}",
            "PidFile none",
            "UsePAM no",
            # The keys lie below the directory for temporary files, which everybody may write.
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "X11Forwarding no",
            "PrintMotd no",
            "LogLevel VERBOSE",
            f"MaxSessions {self._max_sessions}",
            f"SetEnv {pairs}",
        ]


def _java_home_to_tell() -> str | None:
    """Return JAVA_HOME where Java is not on the path that sshd gives to a command."""
    if shutil.which("java", path="/usr/local/bin:/usr/bin:/bin"):
        return None
    if home := os.environ.get("JAVA_HOME"):
        return home
    java = require("java", package="openjdk-17-jre-headless")
    return str(Path(java).resolve().parent.parent)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (OSError, UnicodeDecodeError):
        return ""
