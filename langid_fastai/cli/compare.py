"""`langid compare`: train and test several networks on one split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from langid_fastai.cli.options import (
    ALL_CORES,
    ORDER,
    AlarmOption,
    JobsOption,
    LicenseOption,
    MelOptions,
    parse_labels,
)
from langid_fastai.cli.output import exit_if_clips_failed, say, tell
from langid_fastai.cli.signature import with_settings
from langid_fastai.cli.train import typed
from langid_fastai.mel_config import MelConfig
from langid_fastai.pipeline.settings import AugmentSettings, CorpusSettings, TrainSettings

__all__ = ["compare"]


@with_settings(omit=("arch",), after=ORDER | {"mixup": "noises"})
def compare(
    archs: Annotated[
        str,
        typer.Option(
            "--arch",
            metavar="NAME,NAME",
            help="Two or more networks to compare; see langid train --help for their names.",
        ),
    ] = "mobilenet_v2,resnet50,resnet152",
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Output folder of the comparison, with a run folder for each network.",
            show_default="runs/<name of the corpus>-compared",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Initial weights of all networks: 'pretrained' or 'none'.")
    ] = TrainSettings.weights,
    *,
    training: TrainSettings,
    corpus: CorpusSettings,
    jobs: JobsOption = ALL_CORES,
    mel: MelOptions,
    augment: AugmentSettings,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Train, test and compare several networks on the same split and the same images.

    Writes comparison.csv, comparison.json and comparison.png, and a run folder for each network.
    If interrupted, repeat the command to resume.
    """
    from langid_fastai.pipeline import compare as pipeline_compare
    from langid_fastai.pipeline.run_folder import default_folder

    folder = out_folder or default_folder(corpus.source).with_name(
        f"{default_folder(corpus.source).name}-compared"
    )
    compared, exported = pipeline_compare.compare(
        folder,
        corpus,
        parse_labels([archs]) or (),
        training,
        replace(MelConfig(), **mel),
        augment=augment.plan(),
        false_alarm_rate=false_alarm_rate,
        license=license,
        command=typed(),
        n_jobs=jobs,
        tell=tell,
    )
    say(pipeline_compare.comparison_lines(compared))
    print(f"comparison {folder / 'comparison.json'}, comparison.csv, comparison.png")
    print(f"models     {folder}/NETWORK: a run folder per network, with model and report")
    exit_if_clips_failed(exported.failed)
