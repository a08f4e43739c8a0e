"""Show the progress of long work on stderr, with rate and remaining time.

Progress is a bar on a terminal, a line rewritten in place in a notebook, and plain lines in a log.
Nested work has a bar each on a terminal. Rate and remaining time are estimated from the second step
on, because the first includes the start of worker processes.

Contents: `track`, for the items of a loop; `Steps`, for other loops and for work without a known
number of steps; `Listening`, for long recordings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Listening", "Steps", "track"]

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.5  # in a notebook
SECONDS_WITHOUT_BAR = 1.0  # work on a recording that takes longer has a bar
BAR_WIDTH = 20  # characters; leaves room for text on a narrow terminal


def track(items: Iterable[Item], *, total: int, what: str, unit: str = "files") -> Iterator[Item]:
    """Yield `items`, and show progress on stderr.

    Parameters
    ----------
    items : iterable of `total` items
    total : number of items
    what : name of the work, shown first
    unit : name of the items, in the plural
    """
    with Steps(what, total, unit) as steps:
        for item in items:
            yield item
            steps.advance()


class Steps:
    """Show the progress of work on stderr inside the block.

    Parameters
    ----------
    what : name of the work
    total : number of steps; None if unknown, which is shown on a terminal only
    unit : name of the steps, in the plural

    Examples
    --------
    >>> with Steps("epoch 1", total=2, unit="batches") as steps:
    ...     for _ in range(2):
    ...         steps.advance()
    """

    # Active instances, outermost first; on a terminal, they share one display.
    running: ClassVar[list[Steps]] = []

    def __init__(self, what: str, total: int | None = None, unit: str = "") -> None:
        self.what, self.total, self.unit = what, total, unit
        self.n = 0
        self.audio = 0.0  # s
        self.bar: Progress | None = None
        self.cell = NotebookLine() if in_notebook() else None

    def __enter__(self) -> Steps:
        self.restart(self.total)
        if self.cell is None and sys.stderr.isatty():
            self.bar = self.running[0].bar if self.running else _start_display()
        if self.bar:
            self.task = self.bar.add_task(self.what, total=self.total, counted="")
            self.bar.refresh()
        self.running.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.running.remove(self)
        if self.bar:
            self.bar.remove_task(self.task)
            if not self.running:
                self.bar.stop()
        if self.cell:
            self.cell.show("")

    def restart(self, total: int | None) -> None:
        """Count from 0 again, up to `total`."""
        self.n, self.audio, self.total = 0, 0.0, total
        self.printed = time.monotonic()
        if self.bar:
            self.bar.reset(self.task, total=total, counted="")

    def advance(self, audio: float = 0.0, *, n: int = 1, what: str | None = None) -> None:
        """Count steps.

        Parameters
        ----------
        audio : duration of the recordings in these steps, s, to show the rate
        n : number of steps
        what : new name of the work
        """
        now = time.monotonic()
        self.what = what or self.what
        rate = ""
        if not self.n:
            self.start, self.n_start = now, n
        else:
            self.audio += audio
            per_second = (self.n + n - self.n_start) / max(now - self.start, 1e-6)
            rate = f" {per_second:{'.1f' if per_second >= 1 else '.2g'}} {self.unit}/s"
            if self.audio:
                rate += f", {self.audio / 3600 / max(now - self.start, 1e-6):.2g} hours of audio/s"
        self.n += n
        if self.bar:
            counted = f"{self.n}/{self.total}{rate}"
            self.bar.update(self.task, completed=self.n, description=self.what, counted=counted)
        elif self.total and now - self.printed >= self._pause and self.n < self.total:
            self.printed = now
            text = f"{self.what}: {self.n} of {self.total}"
            if rate:
                text += f",{rate}, {(self.total - self.n) / per_second:.0f} s left"
            if self.cell:
                self.cell.show(text)
            else:
                print(text, file=sys.stderr, flush=True)

    @property
    def _pause(self) -> float:
        return SECONDS_BETWEEN_UPDATES if self.cell else SECONDS_BETWEEN_LINES


class Listening:
    """Show the progress of reading each recording that takes longer than a second.

    The bar is shown on terminals only, on stderr, and removed at the end of each recording.

    Parameters
    ----------
    n_files : number of recordings
    """

    def __init__(self, n_files: int) -> None:
        self.n_files, self.number = n_files, 0
        self.bar: Progress | None = None

    @contextmanager
    def to(self, name: str, duration: Callable[[], float | None]) -> Iterator[None]:
        """Show the progress of one recording inside the block.

        Parameters
        ----------
        name : name of the recording
        duration : function that returns the duration in s, or None if it is unknown; called only
            for long work
        """
        self.number += 1
        self.name, self.duration, self.start = name, duration, time.monotonic()
        try:
            yield
        finally:
            if self.bar:
                self.bar.stop()
                self.bar = None

    def heard(self, seconds: float) -> None:
        """Update the progress to `seconds` of the recording read so far."""
        elapsed = time.monotonic() - self.start
        if elapsed < SECONDS_WITHOUT_BAR or not sys.stderr.isatty():
            return
        if self.bar is None:
            text = TextColumn("{task.description}", markup=False)
            columns = (text, BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
            self.bar = Progress(
                *columns,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            of = f" ({self.number} of {self.n_files})" if self.n_files > 1 else ""
            self.task = self.bar.add_task(f"{self.name}{of}", total=self.duration(), rate="")
            self.bar.start()
        rate = f"{seconds / 60:.0f} min of audio, {seconds / elapsed:.0f} × real time"
        self.bar.update(self.task, completed=seconds, rate=rate)


class _Time(ProgressColumn):
    """Show the remaining time, or the elapsed time if the number of steps is unknown."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed if task.total is None else task.time_remaining
        if seconds is None:
            return Text("")
        return Text(f"{timedelta(seconds=round(seconds))}{' left' if task.total else ''}")


def _start_display() -> Progress:
    display = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[counted]}", markup=False),
        _Time(),
        console=Console(stderr=True),
        transient=True,
        # Print other output to the terminal above the bars; do not redirect output to a file.
        redirect_stdout=sys.stdout.isatty(),
    )
    display.start()
    return display


class NotebookLine:
    """Line of text in a notebook cell that is rewritten in place, without widgets."""

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, text: str) -> None:
        """Replace the text of the line; the first call displays it."""
        from IPython.display import display

        content = {"text/plain": text}
        if self.handle is None and text:
            self.handle = display(content, raw=True, display_id=True)
        elif self.handle is not None:
            self.handle.update(content, raw=True)


def in_notebook() -> bool:
    """Return whether output is shown in a notebook, not on a terminal or in a log."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")
