"""Settings of a run: the corpus and its split, the training, and the augmented variants.

Each dataclass defines the defaults, rules and help texts of its settings, from which the
command-line options are built (`langid_fastai.cli.signature`). The settings of the images are in
`MelConfig`.

Contents: `CorpusSettings`, `TrainSettings`, `AugmentSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    "Each may have a range, such as white_noise:10..20 for an SNR of 10 to 20 dB."
)


@dataclass(frozen=True)
class CorpusSettings:
    """Settings of a corpus and of its split into training, validation and test.

    Parameters
    ----------
    source : folder, index CSV, ``demo``, ``kaggle:<owner>/<dataset>`` or ``s3://…``
    root, speaker, label : see `read_corpus`
    valid, test : fractions of the recordings for validation and test, see `split_corpus`
    seed : random seed of the split
    allow_leaks : accept a split that leaks, although its results are too optimistic
    hold_out : languages held out of training, to test the answer "unknown"; by default none, except
        for ``demo``, which has a language for this purpose

    Examples
    --------
    >>> CorpusSettings("recordings", test=0.3, hold_out=("fr",)).test
    0.3
    """

    source: str = option(
        metavar="CORPUS",
        help="Corpus: a folder of recordings (the layout is detected), an index CSV, 'demo' "
        "(synthetic speech), 'kaggle:<owner>/<dataset>' or 's3://<bucket>/<folder>'.",
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
        help="Regular expression that extracts the speaker from a file's path, for corpora with a "
        "folder per language, such as '(?P<speaker>[^/]+)/[^/]+$' if each speaker has a subfolder.",
    )
    label: str = option(
        LANGUAGE,
        metavar="COLUMN",
        help="Column of the index that holds the class labels, such as gender or accent; "
        "recordings without a value are left out.",
    )
    valid: float = option(
        VALID,
        help="Fraction of the recordings used for validation; ignored if the corpus has a "
        "validation split.",
    )
    test: float = option(
        TEST,
        help="Fraction of the recordings used for testing; ignored if the corpus has a test split.",
    )
    seed: int = option(0, help="Random seed for the split.")
    allow_leaks: bool = option(
        False,
        help="Allow the same speaker or recording in both training and test data. The results are "
        "then too optimistic, and the report says so.",
    )
    hold_out: tuple[str, ...] | None = option(
        None,
        metavar="LANG,LANG",
        shown="none; fr for demo",
        help="Languages to exclude from training and use only to test whether the model rejects "
        "unknown languages, such as fr,it; repeat the option for labels that contain a comma.",
    )

    def resolved(self) -> CorpusSettings:
        """Return a copy with absolute paths, independent of the working folder."""
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
    """Settings of the network and its training.

    Parameters
    ----------
    arch, weights, precision : see `language_learner`
    schedule : ``seed``, ``scratch`` or ``speech``; None for the `default_schedule`
    epochs : number of epochs in each stage; None for the numbers in the schedule
    lr : learning rate of the stage that trains the whole network; None for the schedule's
    batch_size, workers, device : see `make_dataloaders`
    cache_frozen : see `fit_stages`
    seed : random seed for new weights, the order of images, and dropout
    mixup : parameter alpha of mixup in all stages, see `Stage`; 0 for no mixup

    Examples
    --------
    >>> TrainSettings("resnet18", epochs=(1, 2, 1)).batch_size
    16
    """

    arch: str = option(
        "resnet152",
        help="Network: any torchvision name, speech_embedding, spectrogram_cnn, spectrogram_crnn, "
        "a timm name (extra timm), an encoder on the Hugging Face Hub such as "
        "hf:facebook/wav2vec2-xls-r-300m (extra hub), or m3 … m34-res for raw waveforms.",
    )
    weights: str = option(
        "pretrained",
        help="Initial weights: 'pretrained' (published, trained on ImageNet or on speech), 'none' "
        "(random), a weights file, or a model folder, local or hf:<owner>/<name>.",
    )
    schedule: Literal["seed", "scratch", "speech"] | None = option(
        None,
        shown="selected by --arch and --weights",
        help="Training schedule: 'seed' for pretrained weights, 'scratch' for random weights, "
        "'speech' for a network pretrained on speech.",
    )
    epochs: tuple[int, ...] | None = option(
        None,
        metavar="N,N,N",
        shown="set by --schedule",
        help="Number of epochs in each stage, such as 7,12,8.",
    )
    lr: float | None = option(
        None,
        shown="set by --schedule",
        help="Learning rate of the stage that trains the whole network.",
    )
    batch_size: int = option(16, help="Number of clips in a training batch.")
    workers: int | None = option(
        None,
        shown="0 on a CPU, up to 8 with a GPU",
        help="Number of processes that load training data.",
    )
    device: str | None = option(
        None, shown="a GPU if available", help="Device to train on, such as 'cpu' or 'cuda'."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="Floating-point format; 'auto' uses bf16 or fp16 if the hardware supports it."
    )
    cache_frozen: bool = option(
        False,
        help="Speed up training of the head: compute the features of the frozen body only once "
        "and reuse them in every epoch.",
    )
    seed: int = option(
        0, help="Random seed for the split, weight initialisation, shuffling and dropout."
    )
    mixup: float = option(
        0.0, panel=AUGMENTATION, help="Alpha parameter of mixup, such as 0.4; 0 turns mixup off."
    )

    @property
    def start(self) -> Path | None:
        """Return the model folder that the initial body is read from, or None."""
        from langid_fastai.models.hub import fetch_model, is_hub_name

        if is_hub_name(self.weights):
            return fetch_model(self.weights)
        return Path(self.weights) if self._is_path() and Path(self.weights).is_dir() else None

    def resolved(self) -> TrainSettings:
        """Return a copy with absolute paths for local weights and encoders."""
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
    """Settings of the augmented variants that are made of each training clip.

    Parameters
    ----------
    names : augmentations, see `parse_augmentations`; None for no variants
    copies, noises : see `VariantPlan`
    seed : random seed of the variants

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
        help=f"Augmentations, each of which adds a variant of every training clip: {NAMES_HELP}",
    )
    copies: int = option(
        1, panel=AUGMENTATION, help="Number of variants of each clip per augmentation."
    )
    noises: Path | None = option(
        None,
        panel=AUGMENTATION,
        help="Folder of noise recordings, required for background_noise.",
    )
    seed: int = option(0, help="Random seed for the split and the variants.")

    def plan(self) -> VariantPlan | None:
        """Return the plan of the variants, or None if `names` is None.

        Raises
        ------
        RunError : see `VariantPlan`; or `copies` or `noises` is given without `names`; or the extra
            ``augment`` is not installed
        """
        from langid_fastai.augmentation.plan import choose_plan

        return choose_plan(self.names, copies=self.copies, seed=self.seed, noises=self.noises)
