"""`langid predict --out`: write the predictions for many recordings to a table."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from langid_fastai.cli.output import Format, exit_if_failed
from langid_fastai.utils.options import option

if TYPE_CHECKING:
    from langid_fastai.prediction import LanguageIdentifier

__all__ = ["BulkSettings", "write_table"]

PANEL = "Many recordings: --out and its options"


@dataclass(frozen=True)
class BulkSettings:
    """Options of `langid predict` for many recordings."""

    out: str | None = option(
        None,
        metavar="FILE",
        panel=PANEL,
        shown="print the answers",
        help="Write the predictions to a table (.csv, .jsonl or .parquet), a file or URL such as "
        "s3://bucket/answers.csv. Recordings are read in parallel and scored in batches. "
        "Recordings that fail are listed in failed.csv in the same folder. If interrupted, repeat "
        "the command to resume.",
    )
    jobs: int = option(
        -1, panel=PANEL, help="Number of processes that read recordings; -1 uses all cores."
    )
    batch_size: int | None = option(
        None, panel=PANEL, shown="8; 64 on a GPU", help="Number of clips in a batch."
    )
    device: str | None = option(
        None,
        panel=PANEL,
        shown="a GPU if available",
        help="Device that runs the network, such as 'cpu' or 'cuda'.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "fp32",
        panel=PANEL,
        help="Floating-point format; bf16, and fp16 on a GPU, are faster on some hardware but "
        "change scores in the third decimal place.",
    )
    dask: str | None = option(
        None,
        metavar="ADDRESS",
        panel=PANEL,
        help="Address of the scheduler of a Dask cluster to predict on, such as tcp://host:8786. "
        "The model folder and local recordings must have the same paths on all its machines.",
    )

    def validate(self, form: Format, names: list[str], follow: bool) -> None:
        """Check that the options can be combined."""
        if self.out is None:
            for each in fields(self):
                if getattr(self, each.name) != each.default:
                    name = each.name.replace("_", "-")
                    raise typer.BadParameter(f"--{name} is for a table; add --out FILE")
            return
        if form is not Format.TABLE:
            raise typer.BadParameter(
                f"--{form.value} is for printing; the name of --out selects its format"
            )
        if follow or "-" in names:
            raise typer.BadParameter("--out is for recordings in files, not for stdin")
        from langid_fastai.inference.answers_file import validate_name

        validate_name(Path(self.out))


def write_table(
    settings: BulkSettings,
    out: str,
    identifier: LanguageIdentifier,
    model: Path,
    names: list[str],
    timeline: bool,
    top_k: int,
    candidates: tuple[str, ...] | None,
    unknown: bool,
    channel: str | None,
) -> None:
    """Predict the recordings that are missing in the table, and print a summary."""
    from langid_fastai.inference.answers_file import FAILED, answers_file
    from langid_fastai.models.folder import model_hash
    from langid_fastai.utils.progress import Steps

    choices = {
        "model": model_hash(model, identifier.info),
        "timeline": timeline,
        "top_k": None if timeline else top_k,
        "candidates": candidates,
        "unknown": unknown,
        "channel": channel,
        "precision": settings.precision,
    }
    with answers_file(out, choices, timeline=timeline) as table:
        names = list(dict.fromkeys([*table.to_redo, *names]))
        missing = [name for name in names if name not in table.done]
        predictions = identifier.predict_many(
            missing,
            timeline=timeline,
            top_k=top_k,
            candidates=candidates,
            unknown=unknown,
            channel=channel,
            jobs=settings.jobs,
            batch_size=settings.batch_size,
            device=settings.device,
            precision=settings.precision,
            dask=settings.dask,
        )
        with Steps("predict", len(missing), "files") as steps:
            for prediction in predictions:
                table.write(prediction)
                steps.advance(prediction.duration)
    before = len(names) - len(missing)
    known = f", {before} of them earlier" if before else ""
    print(f"answers    {out}: {len(names) - table.n_failed} recordings{known}")
    exit_if_failed(table.n_failed, f"{table.n_failed} of {len(names)} failed, see {FAILED}")
