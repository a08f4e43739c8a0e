"""A terminal for commands that tests run in their own process."""

import os
import pty
import sys
import threading
from contextlib import contextmanager

CURSOR_SHOWN = "\x1b[?25h"


@contextmanager
def terminal(monkeypatch):
    """Make stderr a terminal inside the block; what it shows is in the yielded list of texts."""
    ours, theirs = pty.openpty()
    shown = []

    def read():
        try:
            while text := os.read(ours, 1 << 16):
                shown.append(text.decode(errors="replace"))
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
        reader.join()
        os.close(ours)
