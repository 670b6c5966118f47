"""What the tool's messages and exit codes mean: each becomes a ``DescribeError``.

The exit code alone says little: most failures of kafka-consumer-groups.sh end with 0 and stand
on stdout as a line that starts with ``Error``. So the text decides, by the table of
``describe_rules``; without a text the exit codes of GNU timeout and of POSIX shells do.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from itertools import islice

from airflow_lag_provider import errors
from airflow_lag_provider.describe_lines import (
    CAUSE_CHARS,
    NAME_CHARS,
    clean,
    is_log,
    quoted,
    sentence,
    stated,
    without_prefix,
)
from airflow_lag_provider.describe_rules import RULES
from airflow_lag_provider.errors import DescribeError

_NO_CLIENT = re.compile(r"Failed to (?:create new|construct)")
_ADDRESS = re.compile(
    r"Connection to node \S{1,20} \((?P<node>[^()\s]{1,200})\)[^()]{0,80} could not be established"
    r"|Couldn't resolve server (?P<name>\S{1,200}) from"
)
_JAVA = re.compile(r"(?:^|[\s/'\"‘])java['\"’]?: ")
_UNCAUGHT = 'Exception in thread "main"'
_EVIDENCE_LINES = 2000


def reported(lines: Sequence[str], stderr: str, group: str) -> DescribeError:
    """Return the error for a failure that the tool reported.

    :param lines: the report's first line and what followed it on the same stream.
    :param stderr: the tool's stderr, for the causes that its report leaves out.
    :param group: the group that was asked for.
    """
    evidence = [*islice(lines, _EVIDENCE_LINES), *_lines(stderr)]
    cause = without_prefix(lines[0])
    if _NO_CLIENT.search(cause[:2000]):
        cause = _root_cause(evidence) or cause
        known = _classify(cause, evidence, group)
        # Below the client's construction a missing file is a key store, not command_config.
        if isinstance(known, errors.BrokerUnreachable):
            return known
        return errors.ClientConfigInvalid(
            f"The tool could not make its Kafka client: {sentence(cause)}"
        )
    known = _classify(cause, evidence, group)
    if isinstance(known, errors.JavaFailed) or known is None:
        cause = _with_next(lines, cause)
        known = _classify(cause, evidence, group)
    if isinstance(known, errors.BrokerUnreachable):
        known = _behind_time_out(evidence, group) or known
    return known or errors.DescribeFailed(
        f"The tool reported for group {quoted(group)}: {sentence(cause)}"
    )


def ended(exit_code: int, stdout: str, stderr: str, group: str, rows: int) -> DescribeError:
    """Return the error for an exit code other than 0 without a report on stdout.

    :param exit_code: of the shell's command; 128+n and -n stand for signal n.
    :param rows: how many rows of the group stood on stdout.
    """
    errs = _lines(stderr)
    told = [line for line in errs if line.strip() and not is_log(line) and not stated(line)]
    if exit_code == 124:
        return errors.DescribeTimedOut(
            f"The describe of group {quoted(group)} was ended by its time limit{_tried(errs)}."
        )
    if exit_code in (126, 127):
        return _not_run(exit_code, told)
    # What ended the tool decides, not the exceptions that its logger showed before.
    main = next((n for n, line in enumerate(told) if line.startswith(_UNCAUGHT)), 0)
    for position, line in enumerate(told[main : main + 50], start=main):
        cause = without_prefix(line)
        if _NO_CLIENT.search(cause[:2000]) or _classify(cause, errs, group) is not None:
            return reported(told[position:], stderr, group)
    if exit_code == 137:
        return errors.DescribeKilled(
            f"The describe of group {quoted(group)} was ended by signal 9 (SIGKILL): by its time "
            "limit, when it did not react to SIGTERM, or by the host, when that ran out of memory."
        )
    if name := _signal_name(exit_code):
        return errors.DescribeKilled(
            f"The describe of group {quoted(group)} was ended by {name} (exit code {exit_code})."
        )
    hint = next(iter(told), "") or next((s for s in stdout.split("\n", 50) if s.strip()), "")
    said = f", saying: {sentence(without_prefix(hint))}" if hint and not rows else ""
    return errors.DescribeFailed(
        f"The describe of group {quoted(group)} ended with exit code {exit_code} after {rows} "
        f"rows{said or ' and no error text'}"
    )


def nothing_printed(state: str, stderr: str, group: str) -> DescribeError:
    """Return the error for a run with exit code 0 and neither header nor row on stdout."""
    lines = _lines(stderr)
    for position, line in enumerate(lines):
        if line.startswith("Error"):
            return reported(lines[position:], stderr, group)
    what = f"The tool printed no partition of group {quoted(group)}"
    if state == "empty":
        return errors.NothingPrinted(f"{what}, which has no active members.")
    if state == "rebalancing":
        return errors.NothingPrinted(f"{what}, which is rebalancing.")
    told = next((line for line in lines if line.strip() and not is_log(line)), "")
    return errors.NothingPrinted(f"{what}; stderr says: {sentence(told)}" if told else f"{what}.")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n", _EVIDENCE_LINES)[:_EVIDENCE_LINES]]


def _classify(cause: str, evidence: Iterable[str], group: str) -> DescribeError | None:
    """Return the error of the first rule that the cause fits, or ``None``."""
    text = cause[:2000]
    for pattern, error, template in RULES:
        found = pattern.match(text)
        if not found:
            continue
        named = {key: value for key, value in found.groupdict().items() if value}
        path = named.get("path") or named.get("file") or text
        return error(
            template.format(
                group=quoted(group),
                cause=sentence(cause),
                path=clean(path),
                at=_at(evidence),
            )
        )
    return None


def _addresses(evidence: Iterable[str]) -> str:
    """Return up to three addresses that the client's log says it could not reach."""
    seen: dict[str, None] = {}
    for line in evidence:
        if found := _ADDRESS.search(line[:1000]):
            seen[clean((found["node"] or found["name"]).lstrip("/"), NAME_CHARS)] = None
    return ", ".join(islice(seen, 3))


def _at(evidence: Iterable[str]) -> str:
    addresses = _addresses(evidence)
    return f" ({addresses})" if addresses else ""


def _tried(evidence: Iterable[str]) -> str:
    addresses = _addresses(evidence)
    return f" while it could not connect to {addresses}" if addresses else ""


def _root_cause(evidence: Iterable[str]) -> str:
    """Return the first and the last telling cause below a client that could not be made."""
    causes = [
        line.removeprefix("Caused by: ").strip()
        for line in evidence
        if line.startswith("Caused by: ")
    ]
    causes = [c for c in causes if not _NO_CLIENT.search(c[:300])]
    if len(causes) > 1 and causes[-1] not in causes[0]:
        return f"{causes[0][: CAUSE_CHARS // 2]}: {causes[-1]}"
    return causes[0] if causes else ""


def _with_next(lines: Sequence[str], cause: str) -> str:
    """Return the cause and the line after it: the JVM tells its reason in two lines."""
    following = (line.strip("# \t\r") for line in lines[1:20] if not is_log(line))
    second = next((line for line in following if line), "")
    return f"{cause.rstrip('.')}: {second}" if second else cause


def _behind_time_out(evidence: Sequence[str], group: str) -> DescribeError | None:
    """Return what really lies behind a request that timed out, if the log tells."""
    text = "\n".join(evidence)
    if "OutOfMemoryError" in text and "NetworkReceive" in text:
        # The first bytes of a TLS alert, read as the length of an answer, exceed any heap.
        return errors.ClientConfigInvalid(
            f"The answer of the brokers{_at(evidence)} is not Kafka's plain protocol: they seem "
            "to want TLS, which command_config does not switch on."
        )
    for line in evidence:
        if line.startswith("Caused by: ") and "Coordinator" in line[:300]:
            known = _classify(line.removeprefix("Caused by: "), evidence, group)
            if isinstance(known, errors.CoordinatorNotAvailable):
                return known
    return None


def _not_run(exit_code: int, told: Sequence[str]) -> DescribeError:
    """Return the error for a program that the shell or timeout could not start (126, 127)."""
    line = told[-1] if told else ""
    for candidate in told[:50]:
        if _JAVA.search(candidate[:2000]):
            return errors.JavaNotFound(f"The tool could not start Java: {sentence(candidate)}")
        if "kafka-run-class" in candidate and exit_code == 127:
            return errors.ToolBroken(f"The tool lacks its own helper: {sentence(candidate)}")
    if re.search(r"\btimeout: (?:command )?not found", line[:2000]):
        return errors.ToolNotFound("The host has no command 'timeout' (GNU coreutils).")
    said = f": {sentence(line)}" if line else "."
    if exit_code == 127 or "Not a directory" in line:
        return errors.ToolNotFound(f"The host could not find the tool{said}")
    return errors.ToolNotExecutable(f"The host may not run the tool{said}")


def _signal_name(exit_code: int) -> str:
    """Return the signal's name for 128+n (shells) and -n (Python), or nothing."""
    number = exit_code - 128 if exit_code > 128 else -exit_code
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return ""
