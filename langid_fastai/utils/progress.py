"""Show progress of a long step, with rate and remaining time.

A bar on a terminal, one line that is rewritten in a notebook, plain lines in a log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Listening", "Steps", "track"]

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.5  # of the line in a notebook
SECONDS_WITHOUT_BAR = 1.0  # of work on one recording


def track(items: Iterable[Item], *, total: int, what: str, unit: str = "files") -> Iterator[Item]:
    """Pass `items` through and show progress on stderr.

    Parameters
    ----------
    items : any iterable of `total` items
    what : name of the step, for the start of the line
    unit : name of an item, in the plural
    """
    with Steps(what, total, unit) as steps:
        for item in items:
            yield item
            steps.advance()


class Steps:
    """Show progress on stderr, for loops that run inside another library.

    Parameters
    ----------
    what : name of the work
    total : number of steps
    unit : name of a step, in the plural
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.n = 0
        self.audio = 0.0  # s
        self.bar: Progress | None = None
        self.cell = NotebookLine() if in_notebook() else None

    def __enter__(self) -> Steps:
        self.start = self.printed = time.monotonic()
        if self.cell is None and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.what, total=self.total, rate="")
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()
        if self.cell:
            self.cell.show("")

    def advance(self, audio: float = 0.0) -> None:
        """Count one step.

        Parameters
        ----------
        audio : s, the duration of its recording, for the rate
        """
        self.n += 1
        self.audio += audio
        now = time.monotonic()
        per_second = self.n / max(now - self.start, 1e-6)
        rate = f"{per_second:{'.1f' if per_second >= 1 else '.2g'}} {self.unit}/s"
        if self.audio:
            rate += f", {self.audio / 3600 / max(now - self.start, 1e-6):.2g} hours of audio/s"
        if self.bar:
            self.bar.update(self.task, completed=self.n, rate=rate)
        elif now - self.printed >= self._pause and self.n < self.total:
            self.printed = now
            left = (now - self.start) / self.n * (self.total - self.n)
            text = f"{self.what}: {self.n} of {self.total}, {rate}, {left:.0f} s left"
            if self.cell:
                self.cell.show(text)
            else:
                print(text, file=sys.stderr, flush=True)

    @property
    def _pause(self) -> float:
        return SECONDS_BETWEEN_UPDATES if self.cell else SECONDS_BETWEEN_LINES


class Listening:
    """Show on a terminal how far each recording is read, if it takes longer than a second.

    The bar is on stderr, and is removed at the end of each recording.

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
        name : of the recording
        duration : returns it in s, or None if it is unknown; only called for long work
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
        """Report how much of the recording has been read so far, s."""
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


class NotebookLine:
    """A line of text in the output of a notebook cell, rewritten in place; no widgets needed."""

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, text: str) -> None:
        """Replace the line; nothing is displayed before the first text."""
        from IPython.display import display

        content = {"text/plain": text}
        if self.handle is None and text:
            self.handle = display(content, raw=True, display_id=True)
        elif self.handle is not None:
            self.handle.update(content, raw=True)


def in_notebook() -> bool:
    """Whether the output goes to a notebook, and not to a terminal or a log."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")
