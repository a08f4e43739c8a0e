"""`langid push`: upload a trained model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["push"]


def push(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Model folder, or run folder with a trained model."),
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")
    ],
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="If the repository is new, make it public instead of private."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files to upload, without uploading them.")
    ] = False,
) -> None:
    """Upload a model folder and its model card to the Hugging Face Hub (extra `hub`).

    Log in first with `hf auth login`, or set HF_TOKEN. Load the model as hf:OWNER/NAME.
    """
    from langid_fastai.cli.output import tell
    from langid_fastai.pipeline.push import push as push_model

    push_model(run, repository, public=public, dry_run=dry_run, tell=tell)
