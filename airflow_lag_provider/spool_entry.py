"""What a line of the spool holds, and what the name of one of its files says."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["waiting", "refused"]

_NAME = re.compile(
    r"(?P<made>\d{20})-(?P<connection>[0-9a-f]{12})-(?P<token>[0-9a-f]{8})"
    r"-(?P<host>[\w.]*)-(?P<pid>\d+)\.(?P<kind>waiting|refused)\.jsonl"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document that waits, with all that it takes to write it. No secret is in it.

    :param conn_id: id of the Airflow connection of Elasticsearch.
    :param id: its ``_id``.
    :param version: its external version.
    :param source: its fields.
    :param reason: why Elasticsearch refused it, ``None`` when it did not.
    """

    conn_id: str
    index: str
    id: str
    version: int
    source: Mapping[str, Any]
    reason: str | None = None

    def to_line(self) -> bytes:
        """Return the entry as a line of a file.

        :raises ValueError: a value isn't one of JSON's.
        """
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Return the entry that a line holds.

        :raises ValueError: it is no whole line, or no entry.
        """
        if not line.endswith(b"\n"):
            raise ValueError("it has no end")
        try:
            entry = cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(str(error)) from error
        if not isinstance(entry.source, dict) or not isinstance(entry.version, int):
            raise ValueError("it is no document")
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """What the name of a file says; names sort by the age of the file.

    :param made: when the file was made, nanoseconds since 1970.
    :param connection: stands for the connection's id, see :func:`connection_key`.
    :param token: tells files of one instant apart.
    :param host: where its owner runs.
    :param pid: its owner's process.
    """

    made: int
    connection: str
    token: str
    host: str
    pid: int
    kind: Kind

    def __str__(self) -> str:
        return (
            f"{self.made:020d}-{self.connection}-{self.token}-{self.host}-{self.pid}"
            f".{self.kind}.jsonl"
        )

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Return what a name says, ``None`` when it is not the name of such a file."""
        if not (match := _NAME.fullmatch(name)):
            return None
        fields: dict[str, Any] = match.groupdict()
        return cls(**{**fields, "made": int(fields["made"]), "pid": int(fields["pid"])})

    @classmethod
    def new(cls, conn_id: str, kind: Kind) -> FileName:
        """Return the name of a new file of this process."""
        return cls(
            made=time.time_ns(),
            connection=connection_key(conn_id),
            token=secrets.token_hex(4),
            host=_host(),
            pid=os.getpid(),
            kind=kind,
        )

    def taken_over(self) -> FileName:
        """Return the name under which this process owns the file."""
        return replace(self, host=_host(), pid=os.getpid())


def connection_key(conn_id: str) -> str:
    """Return what stands for a connection's id, which may be any text, in names of files."""
    return hashlib.sha256(conn_id.encode()).hexdigest()[:12]


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname(), flags=re.ASCII)[:60]
