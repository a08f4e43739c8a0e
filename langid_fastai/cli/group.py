"""The command `langid` and its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

import langid_fastai
from langid_fastai.cli import compare, corpus, predict, push, train
from langid_fastai.cli.app import serve

__all__ = ["app"]

app = typer.Typer(
    help="Train, test and use models that identify which language is spoken in a recording.",
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
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Handle the options of `langid`; allow only `langid train` in distributed processes."""
    from langid_fastai.errors import RunError
    from langid_fastai.utils.environment import n_launched

    if ctx.invoked_subcommand != "train" and n_launched() > 1:
        raise RunError(
            f"several processes were launched, but `langid {ctx.invoked_subcommand}` runs in one; "
            "start it without torchrun or accelerate launch (if WORLD_SIZE is set in this shell, "
            "unset it)"
        )


app.command()(train.train)
app.command()(train.prepare)
app.command()(train.evaluate)
app.command()(compare.compare)
app.command()(predict.predict)
app.command()(predict.export)
app.command()(push.push)
app.command("app")(serve)
app.add_typer(corpus.app, name="corpus")
