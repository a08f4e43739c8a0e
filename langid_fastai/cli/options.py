"""Options that several commands share: their types, words and checks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Schedule(StrEnum):
    """Named schedules, see `langid_fastai.training`."""

    seed = "seed"
    scratch = "scratch"
    speech = "speech"


class Arithmetic(StrEnum):
    """What training computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class ClipKind(StrEnum):
    """What a network is given of a clip, see `MelConfig`."""

    mel = "mel"
    mfcc = "mfcc"
    chroma = "chroma"
    stft = "stft"
    waveform = "waveform"


CorpusArgument = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="A folder (its layout is recognised), an index CSV, 'demo', "
        "'kaggle:<owner>/<dataset>', or 's3://<bucket>/<folder>'.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Run folder; by default runs/<corpus name>.")
]
RootOption = Annotated[
    Path | None, typer.Option(help="Where the files of an index CSV lie, if not beside it.")
]
SpeakerOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="For a folder per language: finds who speaks in a path, as "
        "'(?P<speaker>[^/]+)/[^/]+$' for the folder a file lies in.",
    ),
]
ValidOption = Annotated[float, typer.Option(help="Share of the recordings for validation.")]
TestOption = Annotated[float, typer.Option(help="Share for the test, if the corpus has none.")]
SeedOption = Annotated[int, typer.Option(help="Of the split, new weights, order and dropout.")]
LeaksOption = Annotated[
    bool, typer.Option("--allow-leaks", help="Accept a split whose figures overstate.")
]
HoldOutOption = Annotated[
    str | None,
    typer.Option(
        metavar="L,L",
        help="Languages kept out of training, to test the answer 'none of these'.",
    ),
]
AlarmOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.5,
        help="Share of known recordings that the unknown threshold may cost; at first 0.05.",
    ),
]
LicenseOption = Annotated[
    str | None,
    typer.Option(help="Licence of the model, for its card, as cc-by-4.0; by default unknown."),
]
JobsOption = Annotated[
    int, typer.Option("--jobs", help="Processes that work at a time; -1: all cores.")
]

MEL = {"rich_help_panel": "Spectrogram"}
DaskOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Make images on a Dask cluster, as tcp://host:8786."),
]
ArchOption = Annotated[
    str,
    typer.Option(
        help="Any torchvision name, speech_embedding, spectrogram_cnn, spectrogram_crnn, timm "
        "(extra); m3 … m34-res hear waveforms."
    ),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        help="'pretrained' (published weights: of ImageNet, or of speech), 'none', a file of "
        "weights, or a model folder."
    ),
]
# What is not given is as the network wants it; the defaults named here are those of most networks.
SrOption = Annotated[
    int | None, typer.Option(help="Hz that audio is brought to; by default 22050.", **MEL)
]
ClipOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds of sound in one image; by default 10, for speech_embedding 6.", **MEL
    ),
]
NfftOption = Annotated[
    int | None, typer.Option("--n-fft", help="Samples per frame; by default 2048.", **MEL)
]
WinOption = Annotated[
    int | None,
    typer.Option("--win-length", help="Samples under the window; by default n_fft.", **MEL),
]
HopOption = Annotated[
    int | None,
    typer.Option("--hop-length", help="Samples between frames; by default 512.", **MEL),
]
MelsOption = Annotated[
    int | None,
    typer.Option("--n-mels", help="Mel bands, the image height; by default 128.", **MEL),
]
FminOption = Annotated[float | None, typer.Option(help="Lowest edge, Hz; by default 0.", **MEL)]
FmaxOption = Annotated[
    float | None, typer.Option(help="Highest edge, Hz; by default sr / 2.", **MEL)
]
DbOption = Annotated[
    float | None, typer.Option("--top-db", help="Dynamic range kept, dB; by default 80.", **MEL)
]
KindOption = Annotated[
    ClipKind | None,
    typer.Option(
        help="What an image shows; waveform: none, but sound. By default what the network takes.",
        **MEL,
    ),
]
MfccOption = Annotated[
    int | None,
    typer.Option("--n-mfcc", help="Coefficients, of kind mfcc; by default 20.", **MEL),
]

VARIED = {"rich_help_panel": "Augmentation of the training side (extra augment)"}
AugmentOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Variants of each clip: time_mask high_pass white_noise pitch polarity gain "
        "background_noise speed room mp3; with a range if wanted, as white_noise:10..20.",
        **VARIED,
    ),
]
CopiesOption = Annotated[int, typer.Option(help="Variants by each name.", **VARIED)]
NoisesOption = Annotated[
    Path | None, typer.Option(help="Folder of noises, for background_noise.", **VARIED)
]


def parse_epochs(text: str | None) -> tuple[int, ...] | None:
    """``7,12,8`` → (7, 12, 8)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} must be whole numbers with commas between, as 7,12,8", param_hint="--epochs"
        ) from None


def parse_languages(text: str | None) -> tuple[str, ...] | None:
    """``fr,it`` → ("fr", "it")."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def mel_values(
    sr: int | None,
    clip_seconds: float | None,
    n_fft: int | None,
    win_length: int | None,
    hop_length: int | None,
    n_mels: int | None,
    fmin: float | None,
    fmax: float | None,
    top_db: float | None,
    kind: ClipKind | None,
    n_mfcc: int | None,
) -> dict[str, Any]:
    """Those values of a `MelConfig` that the user gave; see `mel_config_for`."""
    values = {
        "sr": sr,
        "clip_seconds": clip_seconds,
        "n_fft": n_fft,
        "win_length": win_length,
        "hop_length": hop_length,
        "n_mels": n_mels,
        "fmin": fmin,
        "fmax": fmax,
        "top_db": top_db,
        "kind": kind.value if kind else None,
        "n_mfcc": n_mfcc,
    }
    return {name: value for name, value in values.items() if value is not None}
