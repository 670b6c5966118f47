"""The keys of an SSH server and its one user."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from lab.network import HOST


@dataclass(frozen=True)
class SshKeys:
    """Files and texts that a client or a server needs; all of it made for one laboratory."""

    host_key_file: Path
    """The server's private key."""

    host_key: str
    """The server's public key, ``ssh-ed25519 AAAA…``, as Airflow's extra ``host_key`` has it."""

    authorized_keys: Path
    """The public keys that may log in."""

    key_file: Path
    """The user's private key."""

    protected_key_file: Path
    """A second private key of the user, encrypted with `passphrase`."""

    passphrase: str
    """Opens `protected_key_file`."""

    stranger_key_file: Path
    """A private key that may not log in."""

    known_hosts: Path
    """A client's list of known hosts that holds the server."""

    @property
    def key_text(self) -> str:
        """The user's private key itself, as Airflow's extra ``private_key`` has it."""
        return self.key_file.read_text(encoding="ascii")


def make_keys(directory: Path, *, port: int) -> SshKeys:
    """Make the keys for a server on 127.0.0.1.

    :param directory: where to; nobody else may read it
    :param port: the server's port, which the known hosts name
    """
    directory.mkdir(mode=0o700)
    host, user, protected, stranger = (asyncssh.generate_private_key("ssh-ed25519") for _ in "1234")
    passphrase = secrets.token_urlsafe(12)
    # Without the comment: Airflow takes two words.
    host_key = " ".join(_public(host).split()[:2])
    return SshKeys(
        host_key_file=_write(directory / "host_key", host.export_private_key()),
        host_key=host_key,
        authorized_keys=_write(
            directory / "authorized_keys", f"{_public(user)}{_public(protected)}".encode()
        ),
        key_file=_write(directory / "id_ed25519", user.export_private_key()),
        protected_key_file=_write(
            directory / "id_ed25519_protected",
            # The fewest rounds without a warning; asyncssh's own 128 cost a second and more.
            protected.export_private_key(passphrase=passphrase, rounds=50),
        ),
        passphrase=passphrase,
        stranger_key_file=_write(directory / "id_ed25519_stranger", stranger.export_private_key()),
        known_hosts=_write(directory / "known_hosts", f"[{HOST}]:{port} {host_key}\n".encode()),
    )


def _public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip() + "\n"


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path
