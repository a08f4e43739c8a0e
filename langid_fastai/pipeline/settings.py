"""What a user decides about a run: the recordings and their split, the training, the variants.

Each dataclass owns its defaults, rules and help texts; the options of the command line are built
from them (`langid_fastai.cli.signature`), those of the images from `MelConfig`.

Contents: `CorpusSettings`, `TrainSettings`, `AugmentSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langid_fastai.corpus import LANGUAGE, TEST, VALID
from langid_fastai.utils.options import option

if TYPE_CHECKING:  # it loads NumPy, which ``--help`` does not need
    from langid_fastai.augmentation.plan import VariantPlan

__all__ = ["AugmentSettings", "CorpusSettings", "TrainSettings"]

# Heading of these options in the help of a command.
AUGMENTATION = "Augmentation of the training data (extra augment)"
# The names of `langid_fastai.augmentation.waveform`, which loads NumPy.
NAMES_HELP = (
    "time_mask, high_pass, white_noise, pitch, polarity, gain, background_noise, speed, room, mp3. "
    "Each may have a range, such as white_noise:10..20."
)


def _seed(of: str) -> Any:
    """On the command line one option, whose value all settings get."""
    return option(0, help=f"Random seed for {of}.")


@dataclass(frozen=True)
class CorpusSettings:
    """Which recordings to use, and how to split them into training, validation and test.

    Parameters
    ----------
    source : folder, index CSV, ``demo``, ``kaggle:<owner>/<dataset>`` or ``s3://…``
    root, speaker, label : see `read_corpus`
    valid, test : fractions of the recordings, see `split_corpus`
    seed : another seed, another split
    allow_leaks : accept a split whose results are too good to be true
    hold_out : languages held out of training, to test the answer "none of these"; by default none,
        except for ``demo``, which has a language for this purpose

    Examples
    --------
    >>> CorpusSettings("recordings", test=0.3, hold_out=("fr",)).test
    0.3
    """

    source: str = option(
        metavar="CORPUS",
        help="A folder of recordings (its layout is recognised), an index CSV, 'demo', "
        "'kaggle:<owner>/<dataset>' or 's3://<bucket>/<folder>'.",
    )
    root: Path | str | None = option(
        None,
        shown="the folder of the CSV",
        help="Folder that contains the audio files listed in an index CSV.",
    )
    speaker: str | None = option(
        None,
        metavar="REGEX",
        shown="speakers unknown",
        help="For a folder per language: regular expression that finds the speaker in a file's "
        "path, such as '(?P<speaker>[^/]+)/[^/]+$' for the name of its folder.",
    )
    label: str = option(
        LANGUAGE,
        metavar="COLUMN",
        help="Column of the index to train on instead of the language, such as gender or accent; "
        "recordings without a value are left out.",
    )
    valid: float = option(VALID, help="Fraction of the recordings used for validation.")
    test: float = option(
        TEST, help="Fraction of the recordings used for the test, if the corpus has no test split."
    )
    seed: int = _seed("the split")
    allow_leaks: bool = option(
        False,
        help="Accept a split with the same speaker or recording in training and test. The results "
        "will be too optimistic, and the report says so.",
    )
    hold_out: tuple[str, ...] | None = option(
        None,
        metavar="L,L",
        shown="none; fr for demo",
        help="Languages to hold out of training, to test whether the model rejects them as "
        "'none of these'; repeat the option for labels that hold a comma.",
    )

    def resolved(self) -> CorpusSettings:
        """The same with absolute paths: a corpus is the same, whatever folder one works in."""
        from langid_fastai.utils.files import is_there

        there = is_there(self.source)
        hold_out = self.hold_out
        if hold_out is None and self.source == "demo" and not there:
            from langid_fastai.corpus.demo import HELD_OUT

            hold_out = HELD_OUT
        return replace(
            self,
            source=str(Path(self.source).resolve()) if there else self.source,
            root=str(self.root.resolve()) if isinstance(self.root, Path) else self.root,
            hold_out=tuple(hold_out or ()),
        )


@dataclass(frozen=True)
class TrainSettings:
    """Which network to train, and how.

    Parameters
    ----------
    arch, weights, precision : see `language_learner`
    schedule : ``seed``, ``scratch``, ``speech``, or None: the `default_schedule`
    epochs : epochs of each stage, instead of the schedule's
    lr : learning rate of the stage that trains the whole network, instead of the schedule's
    batch_size, workers, device : see `make_dataloaders`
    cache_frozen : see `fit_stages`
    seed : random seed for new weights, the order of images, and dropout
    mixup : for all stages, see `Stage`

    Examples
    --------
    >>> TrainSettings("resnet18", epochs=(1, 2, 1)).batch_size
    16
    """

    arch: str = option(
        "resnet152",
        help="Network: any torchvision name, speech_embedding, spectrogram_cnn, spectrogram_crnn, "
        "a timm name (extra timm), or an encoder of the Hugging Face Hub, as "
        "hf:facebook/wav2vec2-xls-r-300m (extra hub); m3 … m34-res take raw waveforms.",
    )
    weights: str = option(
        "pretrained",
        help="Initial weights: 'pretrained' (published weights, from ImageNet or from speech), "
        "'none', a weights file, or a model folder, also hf:<owner>/<name>.",
    )
    schedule: Literal["seed", "scratch", "speech"] | None = option(
        None,
        shown="the one that suits --arch and --weights",
        help="Training schedule: seed for pretrained weights, scratch for none, speech for a "
        "network pretrained on speech.",
    )
    epochs: tuple[int, ...] | None = option(
        None,
        metavar="N,N,N",
        shown="those of the schedule",
        help="Number of epochs in each stage, such as 7,12,8.",
    )
    lr: float | None = option(
        None,
        shown="that of the schedule",
        help="Learning rate of the stage that trains the whole network.",
    )
    batch_size: int = option(16, help="Number of clips in a training batch.")
    workers: int | None = option(
        None,
        shown="0 on a CPU, up to 8 with a GPU",
        help="Number of processes that load training data.",
    )
    device: str | None = option(
        None, shown="a GPU, if there is one", help="Device to train on, such as 'cpu' or 'cuda'."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="Floating-point format; auto: bf16 or fp16 if the hardware supports it."
    )
    cache_frozen: bool = option(
        False,
        help="Compute the features of the frozen network body once and reuse them in every epoch, "
        "which is faster.",
    )
    seed: int = _seed("the split, weight initialisation, shuffling and dropout")
    mixup: float = option(
        0.0, panel=AUGMENTATION, help="Strength (alpha) of mixup, such as 0.4; 0 turns it off."
    )

    @property
    def start(self) -> Path | None:
        """The model folder that the body comes from, if it comes from one."""
        from langid_fastai.models.hub import fetch_model, is_hub_name

        if is_hub_name(self.weights):
            return fetch_model(self.weights)
        return Path(self.weights) if self._is_path() and Path(self.weights).is_dir() else None

    def resolved(self) -> TrainSettings:
        """The same with an absolute path of weights and of an encoder that come from a path."""
        from langid_fastai.models.hub import absolute, is_hub_name

        arch, weights = absolute(self.arch), absolute(self.weights)
        if self._is_path() and not is_hub_name(weights):
            weights = str(Path(weights).resolve())
        return replace(self, arch=arch, weights=weights)

    def _is_path(self) -> bool:
        from langid_fastai.models.names import PUBLISHED

        return self.weights not in (*PUBLISHED, "none")


@dataclass(frozen=True)
class AugmentSettings:
    """Which augmented variants to make of each training clip.

    Parameters
    ----------
    names : see `parse_augmentations`; None for no variants
    copies, noises : see `VariantPlan`
    seed : random seed for what is drawn

    Examples
    --------
    >>> AugmentSettings().plan() is None
    True
    """

    names: str | None = option(
        None,
        flag="--augment",
        metavar="NAME,NAME",
        panel=AUGMENTATION,
        help=f"Add augmented variants of each training clip, by these augmentations: {NAMES_HELP}",
    )
    copies: int = option(1, panel=AUGMENTATION, help="Number of variants of each kind.")
    noises: Path | None = option(
        None,
        panel=AUGMENTATION,
        help="Folder of noise recordings, required for background_noise.",
    )
    seed: int = _seed("the split and the variants")

    def plan(self) -> VariantPlan | None:
        """The variants to be made; None for none.

        Raises
        ------
        RunError : see `choose_plan`
        """
        from langid_fastai.augmentation.plan import choose_plan

        return choose_plan(self.names, copies=self.copies, seed=self.seed, noises=self.noises)
