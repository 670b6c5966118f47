"""What can go wrong in the laboratory.

LabError
├── MissingToolError     a program of the machine is needed and not there
├── DownloadError        Maven could not fetch the parts
├── PartError            a part did not start, died, or did not do what it was asked to
├── ReadBackError        something written to a part is not there when it is read again
└── CheckError           the demo's check has not seen what it ought to see
"""

from __future__ import annotations


class LabError(Exception):
    """Root of everything that the laboratory raises on its own account."""


class MissingToolError(LabError):
    """A program is not on this machine; the message names the line that installs it."""


class DownloadError(LabError):
    """Maven could not fetch the jars or Elasticsearch; the message ends with Maven's last lines."""


class PartError(LabError):
    """A part of the laboratory failed.

    :param part: the part's name, as its log file has it
    :param reason: one sentence that says what failed
    :param log: the last lines of the part's log, empty if there is none
    """

    def __init__(self, part: str, reason: str, *, log: str = "") -> None:
        self.part = part
        self.reason = reason
        self.log = log
        text = f"{part}: {reason}"
        super().__init__(f"{text}\n--- end of its log ---\n{log}" if log else text)


class ReadBackError(LabError):
    """What was written is not what is read: the fixture can't be relied on."""


class CheckError(LabError):
    """The demo's check has failed; the message says for each topic what was expected and seen."""
