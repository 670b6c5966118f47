"""What a single line of the tool's output is, and how text of the tool is shown in a message.

Texts are those of Kafka 0.9 to 4.x, of log4j, SLF4J and of the JVM's launcher.
"""

from __future__ import annotations

import re
from typing import Literal

_REPORT = re.compile(
    r"Error\b|(?:The )?[Cc]onsumer group ['`].*['`] does not exist|Exception in thread \"main\""
    r"|# (?:There is insufficient memory|A fatal error has been detected)"
    r"|(?:Terminating|Aborting) due to java\.lang\.|Classpath is empty"
)
_PREFIX = re.compile(
    r"(?:Error: Executing consumer group command failed due to"
    r"|Error while executing consumer group command"
    r"|Exception in thread \"[^\"]*\"|Caused by:|Error:|#(?= ))\s*"
)
_LOG = re.compile(
    r"\[\d{4}-\d\d-\d\d[ T]|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|\[\d+[.,]\d+m?s\]\["
    r"|(?:log4j|SLF4J|reload4j|StatusLogger)(?:\([A-Z]\))?:|.{0,60}\bVM warning:|WARNING: "
    r"|(?:NOTE: )?Picked up (?:JAVA_TOOL|_JAVA|JDK_JAVA)_OPTIONS:|Listening for transport "
    r"|(?:main )?(?:TRACE|DEBUG|INFO|WARN|ERROR|FATAL)\b:? +(?![0-9-]+ )|Note: This will "
    r"|The \[new-consumer\] option is deprecated"
)
# Only log entries of several lines start with a tab or indent like this; a row never does.
_TRACE = re.compile(r"\t|Caused by: |\s*\.\.\. \d+ (?:more|common)|\s*at [\w.$/<>@]+\(")
_EXCEPTION = re.compile(r"(?:[a-z]\w*\.){2,10}[\w$]+(?:Exception|Error)(?:: |$)")
_STATE = re.compile(
    r"(?:Warning: )?Consumer group ['`](?P<group>.*)['`] "
    r"(?P<what>has no active members|is rebalancing)\.?\s*$"
)
_PACKAGE = re.compile(r"\b(?:[a-z]\w*\.)+(?=[A-Z])")
# Instants in milliseconds: they tell nobody anything and make each message its own.
_INSTANT = re.compile(r", (?:deadlineMs|nextAllowedTryMs)=\d+| at \d{13}(?= )")
# Its value is one word of a shell, whose parts may stand in quotes, as `set -x` and JAAS print it.
_SECRET = re.compile(
    r"""(?i)(passw\w*|secret\w*)(["']?\s*[=:]\s*)"""
    r"""(?:"(?:\\.|[^"\\])*"?|'[^']*'?|\\.|[^\s"'\\])+"""
)

CAUSE_CHARS = 220
NAME_CHARS = 80


def clean(text: str, limit: int = CAUSE_CHARS) -> str:
    """Return ``text`` on one line, printable, without secrets, at most ``limit`` characters."""
    line = _SECRET.sub(r"\1\2***", " ".join(text[: 4 * limit].split()))
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[: limit + 1]
    )
    whole = len(shown) <= limit and len(text) <= 4 * limit
    return shown if whole else shown[: limit - 1] + "…"


def quoted(name: str) -> str:
    """Return a group's or topic's name in quotes, printable and bounded."""
    return f"'{clean(name, NAME_CHARS)}'"


def sentence(cause: str) -> str:
    """Return a cause for a message: :func:`clean`, no Java packages, ending like a sentence."""
    shorter = _INSTANT.sub("", cause[: 4 * CAUSE_CHARS])
    text = clean(_PACKAGE.sub("", shorter))
    return text if text.endswith((".", "…")) else text + "."


def without_prefix(line: str) -> str:
    """Return what a report says after ``Error: …`` or ``Exception in thread …``."""
    prefix = _PREFIX.match(line)
    return line[prefix.end() if prefix else 0 :].strip()


def is_report(line: str) -> bool:
    """Tell whether a line of stdout is the report of a failure, by the tool or its JVM."""
    return _REPORT.match(line) is not None


def is_log(line: str) -> bool:
    """Tell whether a line comes from a logger, the JVM's warnings or inside a stack trace."""
    return _LOG.match(line) is not None or _TRACE.match(line) is not None


def is_noise(line: str) -> bool:
    """Tell whether a line is a log line, or the head of the stack trace that a logger printed."""
    return is_log(line) or _EXCEPTION.match(line) is not None


def stated(line: str) -> tuple[str, Literal["empty", "rebalancing"]] | None:
    """Return (group, state) if the line tells a group's state, else ``None``."""
    found = _STATE.match(line)
    if not found:
        return None
    return found["group"], "empty" if found["what"].startswith("has no") else "rebalancing"
