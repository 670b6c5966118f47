"""What the demo shows: lines that stay, and below them, in a terminal, what changes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_STOPPING = "stopping everything"
# Of the table in a file or a pipe, where nobody can tell how wide the reader's screen is.
_PLAIN_WIDTH = 100


class Screen:
    """Lines with the seconds since the start, a table and a spinner; a context manager.

    In a terminal, table and spinner are drawn anew four times a second. Elsewhere there are lines
    alone, and the table whenever somebody prints it.

    :param console: by default stdout
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        if not self.console.is_terminal:
            self.console.width = _PLAIN_WIDTH
        self.table: Callable[[], RenderableType] | None = None
        """Makes the table as it is at this moment; None while there is none."""
        self.up = False
        """Whether the start is over, so that Ctrl-C is the way it ends."""
        self._began = time.monotonic()
        self._waits_for = ""
        self._stopping = False
        self._spinner = Spinner("dots")
        self._ended = False
        self._live = (
            Live(get_renderable=self._render, console=self.console, refresh_per_second=4)
            if self.console.is_interactive
            else None
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the table where it is, without the spinner."""
        self._ended = True
        if self._live:
            self._live.stop()

    @property
    def interactive(self) -> bool:
        """Whether there is a terminal that can be drawn on."""
        return self._live is not None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def restart_clock(self) -> None:
        """Let the seconds count from now on."""
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line that says what goes on; the spinner repeats it until the next one."""
        self._waits_for = line
        self.print(f"{self.seconds:4.0f} s  {line}")

    def wait_for(self, what: str) -> None:
        """Let the spinner say what is waited for."""
        self._waits_for = what

    def print(self, line: str = "") -> None:
        """Print a line that stays, as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def print_table(self) -> None:
        """Print the table as it is at this moment, if there is one."""
        if self.table:
            self.console.print(self.table())

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C: let everything be stopped, and let nothing disturb that.

        :raises KeyboardInterrupt: always
        """
        # Ending takes seconds, in which an impatient second Ctrl-C would leave parts behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._stopping = True
        raise KeyboardInterrupt

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self.table()] if self.table else []
        if not self._ended:
            words = _STOPPING if self._stopping else self._waits_for
            self._spinner.update(text=Text(f"{self.seconds:.0f} s  {words}", style="dim"))
            parts.append(self._spinner)
        return Group(*parts)
