"""`langid` and `langid-train`: parse, call, print. The work is done by the library.

Heavy imports stand inside the commands, so that ``--help`` comes at once.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

import langid_fastai
from langid_fastai.cli import compare, corpus, predict, serve, train

__all__ = ["app", "main", "train_main"]

app = typer.Typer(
    help="Teach a computer which language is spoken in a recording, and test it honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"langid_fastai {langid_fastai.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of `langid` itself, each done by its callback; and who may be several."""
    from langid_fastai.errors import RunError

    if ctx.invoked_subcommand != "train" and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise RunError(
            f"several processes were launched, and `langid {ctx.invoked_subcommand}` is for one; "
            "start it without torchrun or accelerate launch (in a shell that has WORLD_SIZE, "
            "unset it)"
        )


app.command()(train.train)
app.command()(train.prepare)
app.command()(train.evaluate)
app.command()(compare.compare)
app.command()(predict.predict)
app.command()(predict.export)
app.command("app")(serve.serve)
app.add_typer(corpus.app, name="corpus")

STOPPED = 130  # exit code after an interrupt, as shells have it


def main() -> NoReturn:
    """Run `langid`; an error that the user can fix becomes one line and exit code 1."""
    _run(app)


def train_main() -> NoReturn:
    """Run `langid-train`, which is `langid train`."""
    train_app = typer.Typer(pretty_exceptions_enable=False)
    train_app.command()(train.train)
    _run(train_app)


def _run(command: typer.Typer) -> NoReturn:
    import warnings

    # fastai's own imports warn of torch functions it still uses; nothing a user can fix.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    for stream in (sys.stdout, sys.stderr):  # a name in another script must not end the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except SystemExit as end:  # typer turns an interrupt into this
        if end.code == STOPPED:
            print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    except Exception as error:
        line = _explain(error)
        if line is None:  # a bug: keep the traceback
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _explain(error: Exception) -> str | None:
    """Describe in one line what the user can repair; None for anything else."""
    from langid_fastai.errors import LangidError
    from langid_fastai.utils.dependencies import broken_library
    from langid_fastai.utils.files import DENIED

    if isinstance(error, LangidError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DENIED:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; fix that, and the same command resumes from here"
    return broken_library(error)
