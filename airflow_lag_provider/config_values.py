"""What the values of ``mirrors.yaml`` may look like, as types that pydantic checks.

A check raises ``ValueError`` with what is wrong and what to write; the value itself is put before
it where the mistake is reported.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from keyword import iskeyword
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from airflow_lag_provider.yaml_lines import shown

_UNITS = {"s": 1, "m": 60, "h": 3600}
# What Unicode calls control characters, line separators and paragraph separators.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _line_of_text(most: int) -> AfterValidator:
    """Accept text without control characters and line breaks, up to a number of characters."""

    def check(value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; write a name")
        if len(value) > most:
            raise ValueError(f"is too long; write at most {most} characters")
        if _CONTROL.search(value):
            raise ValueError("holds a control character or line break; leave it out")
        return _no_template(value)

    return AfterValidator(check)


def _no_template(value: str) -> str:
    """Refuse what Airflow would render in a task's fields: another group would be described."""
    if re.search(r"\{[{%#]", value):
        raise ValueError("holds {{, {% or {#, which Airflow would render as a template")
    return value


def _seconds_written(value: object) -> int | None:
    written = re.fullmatch(r"([0-9]{1,6})([smh])", value) if isinstance(value, str) else None
    return int(written[1]) * _UNITS[written[2]] if written else None


def _duration(value: object) -> timedelta:
    if not (seconds := _seconds_written(value)):
        raise ValueError("is not a duration; write a number above 0 with its unit: 90s, 5m or 2h")
    return timedelta(seconds=seconds)


def _timeout(value: timedelta) -> timedelta:
    if not timedelta(seconds=10) <= value <= timedelta(seconds=55):
        raise ValueError("is out of range; write a duration from 10s to 55s")
    return value


def _seconds(value: object) -> object:
    seconds = _seconds_written(value)
    return value if seconds is None else seconds


def _instant(value: object) -> datetime:
    hint = "is not a date; write 2024-01-31 or 2024-01-31T06:00:00Z"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(hint) from None
    if not isinstance(value, date):
        raise ValueError(hint)
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError(hint) from None


def _conn_id(value: str) -> str:
    # What Airflow takes, less letters that look like others.
    if not re.fullmatch(r"[\w#!()\-.:/\\]{1,200}", value, re.ASCII):
        raise ValueError("is no connection id; write the id as Airflow lists it, without spaces")
    return value


def _import_path(value: str) -> str:
    parts = value.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and not iskeyword(part) for part in parts):
        raise ValueError("is not an import path; write it as package.module.function")
    return value


def _servers(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _server(value: str) -> str:
    hint = "is not host:port; write a name, IPv4 or [IPv6] address and a port from 1 to 65535"
    host, _, port = value.rpartition(":")
    port_ok = re.fullmatch(r"[0-9]{1,5}", port) and 1 <= int(port) <= 65535
    if not port_ok or not _is_host(host):
        raise ValueError(hint)
    return value


def _is_host(host: str) -> bool:
    try:
        if re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", host):
            IPv6Address(host[1:-1])
        elif re.fullmatch(r"[0-9.]+", host):
            IPv4Address(host)
        else:
            label = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
            return len(host) <= 253 and bool(re.fullmatch(rf"{label}(?:\.{label})*\.?", host))
    except ValueError:
        return False
    return True


def _absolute_path(value: str) -> str:
    if not value.startswith("/") or value.endswith("/"):
        raise ValueError("is not an absolute path of a file; write it from / on (~ and $ stay)")
    return value


def _archive_directory(value: str) -> str:
    # Kafka's scripts cut JVM flags at white space and the shell replaces * ? [; Java cuts at :.
    if not re.fullmatch(r"(?:/[A-Za-z0-9._+=@-]+)+", value):
        raise ValueError(
            "is no directory for an archive; write an absolute path of A-Z a-z 0-9 . _ + = @ - "
            "without spaces, and no / at its end (~ and $ are not replaced)"
        )
    return value


def _tool(value: str) -> str:
    if value.startswith("/"):
        return _absolute_path(value)
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]*", value):
        raise ValueError(
            "is neither an absolute path nor the bare name of a program; "
            "write /path/to/kafka-consumer-groups.sh (~ and $ are not replaced)"
        )
    return value


def _jvm_opts(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("holds a control character or line break; write the flags on one line")
    for flag in value.split():
        name = flag.partition("=")[0]
        if re.search(r"passw|secret|token|jaas\.config", name, re.IGNORECASE):
            raise ValueError(
                f"{shown(name)} shows a secret to every user of the host; "
                "put it into the command_config file"
            )
        if not flag.startswith("-"):
            raise ValueError("holds a word that is no flag; write JVM flags such as -Xmx128M")
    return _no_template(value)


def _index(value: str) -> str:
    # Each field stands for its length in digits, so that the length is the real one.
    name = re.sub("%[mdH]", "00", value.replace("%Y", "0000"))
    if (
        name in {".", ".."}
        or name != name.lower()
        or name[:1] in {"-", "_", "+"}
        or re.search(r'[\\/*?"<>|\s,#:%]', name)
    ):
        raise ValueError(
            "is no index name; write lower-case letters, digits, - and _, starting with a letter; "
            "%Y, %m, %d and %H stand for the time"
        )
    if len(name.encode()) > 255:
        raise ValueError("is too long for an index name; write at most 255 bytes")
    return value


Text = Annotated[str, _line_of_text(250)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Timeout = Annotated[Duration, AfterValidator(_timeout)]
Seconds = Annotated[Count | None, BeforeValidator(_seconds)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Tags = Annotated[tuple[Annotated[str, _line_of_text(100)], ...], Field(strict=False)]
Permissions = Annotated[
    tuple[Literal["can_read", "can_edit", "can_delete"], ...], Field(strict=False)
]
ImportPath = Annotated[str, AfterValidator(_import_path)]
ConnId = Annotated[str, AfterValidator(_conn_id)]
IndexName = Annotated[str, _line_of_text(1000), AfterValidator(_index)]
Servers = Annotated[
    tuple[Annotated[str, AfterValidator(_server)], ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_servers),
]
Group = Annotated[str, _line_of_text(1000)]
Tool = Annotated[str, _line_of_text(4000), AfterValidator(_tool)]
FilePath = Annotated[str, _line_of_text(4000), AfterValidator(_absolute_path)]
ArchiveDirectory = Annotated[str, _line_of_text(1000), AfterValidator(_archive_directory)]
JvmOpts = Annotated[str, AfterValidator(_jvm_opts)]

_mirror_name = re.compile(r"[A-Za-z0-9_-]{1,60}")
_topic_name = re.compile(r"[A-Za-z0-9._-]{1,249}")


def mirror_name_problem(name: str) -> str | None:
    """Return why a mirror can't have this name, or ``None``."""
    if name == "watch":
        return "is reserved; write another name"
    if not _mirror_name.fullmatch(name):
        return "is no name for a mirror; write 1 to 60 of A-Z a-z 0-9 _ -"
    return None


def topic_name_problem(name: str) -> str | None:
    """Return why Kafka can't have a topic of this name, or ``None``."""
    if name in {".", ".."} or not _topic_name.fullmatch(name):
        return "is no topic name of Kafka; write 1 to 249 of A-Z a-z 0-9 . _ - (not . or ..)"
    return None
