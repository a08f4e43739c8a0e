"""Options that several commands share and that are not fields of a settings dataclass.

The other options are built from the dataclasses, see `langid_fastai.cli.signature`.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from langid_fastai.mel_config import MelConfig

# Fields of `CorpusSettings` that are not options of commands which only read a corpus.
OF_THE_SPLIT = ("valid", "test", "seed", "allow_leaks", "hold_out", "label")
# Order in the help of commands that train: an option → the related option that it follows.
ORDER = {"root": "hold_out", "speaker": "root", "label": "speaker", "win_length": "n_fft"}
ALL_CORES = -1


class Log(StrEnum):
    """Tools that training can be logged to."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"


OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Output folder of the run.", show_default="runs/<name of the corpus>"
    ),
]
AlarmOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.5,
        help="Fraction of recordings in known languages that may be rejected as 'unknown'.",
        show_default="0.05, or the previous value of the run",
    ),
]
LicenseOption = Annotated[
    str | None,
    typer.Option(
        help="Licence to state in the model card, such as cc-by-4.0.",
        show_default="unknown",
    ),
]
LogOption = Annotated[
    Log | None, typer.Option(help="Also log training to this tool, which must be installed.")
]
JobsOption = Annotated[
    int, typer.Option("--jobs", help="Number of worker processes; -1 uses all cores.")
]
# Only the options that the user gave; the defaults of the others depend on the network.
MelOptions = Annotated[dict[str, Any], MelConfig]
DaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Address of the scheduler of a Dask cluster to make the images on, such as "
        "tcp://host:8786.",
    ),
]


def channel_option(default: str) -> Any:
    """Return the option `channel`; its help describes the default in these words."""
    return typer.Option(
        metavar="CHANNEL",
        help="Channel to use: left, right, a channel number (the first is 1), or each, to process "
        "every channel separately.",
        show_default=default,
    )


def parse_labels(
    texts: Sequence[str] | None, known: Collection[str] = ()
) -> tuple[str, ...] | None:
    """Return the labels of an option that may be repeated; None if it was not given.

    A text in `known` is a single label; so is each text if `known` is empty and the option is given
    more than once. All other texts are split at commas outside quotation marks.

    Examples
    --------
    >>> parse_labels(["fr, it"]), parse_labels(['"a, b",c']), parse_labels(["a, b", "c"])
    (('fr', 'it'), ('a, b', 'c'), ('a, b', 'c'))
    >>> parse_labels(["a, b"], known=["a, b", "c"]), parse_labels(["es,ca", "fr"], known=["es"])
    (('a, b',), ('es', 'ca', 'fr'))
    """
    if not texts:
        return None
    labels: list[str] = []
    for text in texts:
        is_one = text in known or (len(texts) > 1 and not known)
        labels += [text] if is_one else next(csv.reader([text], skipinitialspace=True), [])
    return tuple(label.strip() for label in labels if label.strip())
