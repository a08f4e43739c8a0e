"""The commands `langid` and `langid-train`: they parse options, call the library and print.

Large libraries are imported inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import typer

__all__ = ["main", "train_main"]

STOPPED = 130  # exit code after Ctrl-C, as in shells


def main() -> NoReturn:
    """Run `langid`; for an error that the user can fix, print one line and exit with code 1."""
    from langid_fastai.cli.group import app

    _run(app)


def train_main() -> NoReturn:
    """Run `langid-train`, which is `langid train`."""
    from langid_fastai.cli import train

    train_app = typer.Typer(pretty_exceptions_enable=False)
    train_app.command()(train.train)
    _run(train_app)


def _run(command: typer.Typer) -> NoReturn:
    import warnings

    # fastai's imports warn about torch functions that it still uses; users cannot fix that.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    for stream in (sys.stdout, sys.stderr):  # file names that cannot be printed must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except SystemExit as end:  # typer raises this after Ctrl-C
        if end.code == STOPPED:
            print("stopped; repeat the command to continue with what is saved", file=sys.stderr)
        raise
    except Exception as error:
        line = _explain(error)
        if line is None:  # a bug; show the traceback
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _explain(error: Exception) -> str | None:
    """Return a one-line message for an error that the user can fix; None for any other."""
    from langid_fastai.errors import LangidError
    from langid_fastai.utils.dependencies import broken_library
    from langid_fastai.utils.files import DENIED

    if isinstance(error, LangidError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DENIED:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; fix that, and repeat the command to resume from here"
    return broken_library(error)
