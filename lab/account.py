"""The account of parts that refuse to run as root, where the laboratory runs as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from lab.cache import require
from lab.errors import LabError

SYSTEM_USER = "eslab"
"""Elasticsearch and PostgreSQL run as this user, which is made when it is not there."""


def as_other_user() -> list[str]:
    """Return the words before a command that make it run as somebody who isn't root."""
    if os.getuid() != 0:
        return []
    account = _account()
    # Not runuser: a JVM below it that was stopped stays dead when it is told to go on.
    setpriv = require("setpriv", package="util-linux")
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
    return [setpriv, *ids, "--clear-groups", "--no-new-privs"]


def own(*directories: Path) -> None:
    """Give directories, with all that is in them, to the other user where there is one."""
    if os.getuid() == 0:
        _account()
        subprocess.run(["chown", "-R", f"{SYSTEM_USER}:", *directories], check=True)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return _create_user()


def _create_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise LabError(f"user {SYSTEM_USER} can't be made: {done.stderr.strip()}") from None
