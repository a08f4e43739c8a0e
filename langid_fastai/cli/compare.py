"""`langid compare`: several networks on one split."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from langid_fastai.cli.options import (
    VARIED,
    AlarmOption,
    Arithmetic,
    AugmentOption,
    ClipOption,
    CopiesOption,
    CorpusArgument,
    DbOption,
    FmaxOption,
    FminOption,
    HoldOutOption,
    HopOption,
    JobsOption,
    KindOption,
    LeaksOption,
    LicenseOption,
    MelsOption,
    MfccOption,
    NfftOption,
    NoisesOption,
    OutOption,
    RootOption,
    Schedule,
    SeedOption,
    SpeakerOption,
    SrOption,
    TestOption,
    ValidOption,
    WinOption,
    mel_values,
    parse_epochs,
    parse_languages,
)
from langid_fastai.cli.train import exit_if_failed, say, typed

__all__ = ["compare"]


def compare(
    corpus: CorpusArgument,
    archs: Annotated[
        str, typer.Option("--arch", metavar="A,B,…", help="Networks, see `langid train --help`.")
    ] = "mobilenet_v2,resnet50,resnet152",
    out_folder: OutOption = None,
    weights: Annotated[str, typer.Option(help="'pretrained' or 'none'.")] = "pretrained",
    schedule: Annotated[
        Schedule | None, typer.Option(help="By default the one made for arch and weights.")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N,N,N", help="Epochs of the stages, as 7,12,8.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Rate of the stage that trains everything.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images in a training batch.")] = 16,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images; by default some for a GPU.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="As 'cpu' or 'cuda'; by default a GPU.")
    ] = None,
    precision: Annotated[
        Arithmetic, typer.Option(help="auto: bf16 or fp16 where the hardware computes it.")
    ] = Arithmetic.auto,
    cache_frozen: Annotated[
        bool,
        typer.Option("--cache-frozen", help="Compute the features of a frozen body once: faster."),
    ] = False,
    seed: SeedOption = 0,
    valid: ValidOption = 0.15,
    test: TestOption = 0.15,
    allow_leaks: LeaksOption = False,
    hold_out: HoldOutOption = None,
    root: RootOption = None,
    speaker: SpeakerOption = None,
    jobs: JobsOption = -1,
    sr: SrOption = None,
    clip_seconds: ClipOption = None,
    n_fft: NfftOption = None,
    win_length: WinOption = None,
    hop_length: HopOption = None,
    n_mels: MelsOption = None,
    fmin: FminOption = None,
    fmax: FmaxOption = None,
    top_db: DbOption = None,
    kind: KindOption = None,
    n_mfcc: MfccOption = None,
    augment: AugmentOption = None,
    copies: CopiesOption = 1,
    noises: NoisesOption = None,
    mixup: Annotated[
        float, typer.Option(help="Alpha of mixup, as 0.4; 0 for none.", **VARIED)
    ] = 0.0,
    false_alarm_rate: AlarmOption = None,
    license: LicenseOption = None,
) -> None:
    """Train and test several networks on one split and the same images, and compare them.

    Each becomes a run folder in --out. Stopped and started again, it goes on where it was.
    """
    from langid_fastai.augmentation.plan import choose_plan
    from langid_fastai.pipeline import compare as pipeline_compare
    from langid_fastai.pipeline.run_folder import TrainChoice, choose_corpus, default_folder
    from langid_fastai.preprocessing import MelConfig

    values = mel_values(
        sr, clip_seconds, n_fft, win_length, hop_length, n_mels, fmin, fmax, top_db, kind, n_mfcc
    )
    folder = out_folder or default_folder(corpus).with_name(
        f"{default_folder(corpus).name}-compared"
    )
    compared, exported = pipeline_compare.compare(
        folder,
        choose_corpus(
            corpus, root, speaker, valid, test, seed, allow_leaks, parse_languages(hold_out)
        ),
        parse_languages(archs) or (),
        TrainChoice(
            weights=weights,
            schedule=schedule.value if schedule else None,
            epochs=parse_epochs(epochs),
            lr=lr,
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision.value,
            seed=seed,
            cache_frozen=cache_frozen,
            mixup=mixup,
        ),
        replace(MelConfig(), **values),
        augment=choose_plan(augment, copies=copies, seed=seed, noises=noises),
        false_alarm_rate=false_alarm_rate,
        license=license,
        command=typed(),
        n_jobs=jobs,
        tell=lambda line: say([line]),
    )
    say(pipeline_compare.comparison_lines(compared))
    print(f"comparison {folder / 'comparison.json'}, comparison.csv, comparison.png")
    print(f"models     {folder}/NETWORK, each a run with its model and report")
    exit_if_failed(exported)
