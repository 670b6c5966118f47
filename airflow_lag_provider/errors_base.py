"""The root of this package's errors; the tree is drawn in ``errors.py``."""

from __future__ import annotations

from typing import ClassVar


class LagError(Exception):
    """Root of all errors of this package.

    :param message: what is wrong and where (file, key, host, group, topic), one sentence.
    """

    retriable: ClassVar[bool] = False
    advice: ClassVar[str] = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".rstrip()
