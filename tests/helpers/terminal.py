"""A terminal for commands that tests run in their own process."""

import os
import pty
import select
import sys
import threading
from contextlib import contextmanager

CURSOR_SHOWN = "\x1b[?25h"


@contextmanager
def terminal(monkeypatch):
    """Make stderr a terminal inside the block; yield the list of texts shown on it."""
    ours, theirs = pty.openpty()
    shown = []

    is_over = threading.Event()

    def read():
        """Read until the block is over: processes started in it may keep the terminal open."""
        while (ready := select.select([ours], [], [], 0.05)[0]) or not is_over.is_set():
            try:
                shown.append(os.read(ours, 1 << 16).decode(errors="replace") if ready else "")
            except OSError:  # on Linux, the end of a terminal
                return

    reader = threading.Thread(target=read)
    reader.start()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    try:
        with os.fdopen(theirs, "w") as screen, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", screen)
            yield shown
    finally:
        is_over.set()
        reader.join()
        os.close(ours)
