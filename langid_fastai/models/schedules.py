"""Define training schedules, as sequences of stages.

The basic schedule trains the head on a frozen body, then everything with rates that increase from
the early layers to the head, then the head again. `langid_fastai.training.fit_stages` trains by a
schedule. This module does not import torch, so mistakes in a schedule are reported at once.

Contents: `Stage`, `discriminative`; `SEED_SCHEDULE`, `SCRATCH_SCHEDULE`, `SPEECH_SCHEDULE`, and
`SCHEDULES`, which has all three by name; `default_schedule`; `refuse_uncacheable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langid_fastai.errors import RunError
from langid_fastai.models.names import SPEECH_EMBEDDING

__all__ = [
    "Stage",
    "SEED_SCHEDULE",
    "SCRATCH_SCHEDULE",
    "SPEECH_SCHEDULE",
    "SCHEDULES",
    "Rate",
    "default_schedule",
    "discriminative",
    "refuse_uncacheable",
]

Rate = float | tuple[float, ...]

# A smaller crop has too little speech to identify a language.
LEAST_CROP = 0.1


def discriminative(lr: float) -> tuple[float, float, float]:
    """Return rates for the three layer groups: lower where the features are more general.

    Parameters
    ----------
    lr : rate of the head; those of the early and late body are a ninth and a sixth of it

    Examples
    --------
    >>> [round(rate, 6) for rate in discriminative(9e-4)]
    [0.0001, 0.00015, 0.0009]
    """
    return lr / 9, lr / 6, lr


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Parameters
    ----------
    name : name of the stage in the history and the plots
    trains : ``head`` freezes the body (its batch norms keep learning, as in fastai); ``all`` trains
        everything
    epochs : passes over the training images
    lr : learning rate, or one per layer group
    policy : ``constant`` keeps the rate; ``one_cycle`` rises to it and falls towards zero (Smith
        2018, as in fastai's `fit_one_cycle`)
    masks : number of frequency masks, and of time masks, in each training image, see `SpecAugment`
    mixup : strength of mixup, see `image_callbacks`; 0 disables it
    crop : fraction of each training clip to train on, a random part in each epoch; 1 for the whole
        clip

    Raises
    ------
    RunError : `mixup` or `crop` is out of bounds
    """

    name: str
    trains: Literal["head", "all"]
    epochs: int
    lr: Rate
    policy: Literal["constant", "one_cycle"] = "constant"
    masks: int = 0
    mixup: float = 0.0
    crop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.mixup <= 10:
            raise RunError(f"mixup={self.mixup} must be from 0 to 10, e.g. 0.4")
        if not LEAST_CROP <= self.crop <= 1:
            raise RunError(f"crop={self.crop} must be from {LEAST_CROP} to 1, e.g. 0.5")


# The recipe of the original project, for a pretrained body.
SEED_SCHEDULE: tuple[Stage, ...] = (
    Stage("head", "head", epochs=7, lr=1e-2),
    Stage("all", "all", epochs=12, lr=discriminative(1e-4)),
    Stage("refreeze", "head", epochs=8, lr=1e-4),
)

# For a body with random weights, which must be trained before it is worth freezing: a long middle
# stage at thirty times the rate, equal for all groups; each image has new masks in each epoch.
# Tuned on demo corpora with a seed other than the default.
SCRATCH_SCHEDULE: tuple[Stage, ...] = (
    Stage("head", "head", epochs=1, lr=1e-3, masks=1),
    Stage("all", "all", epochs=30, lr=3e-3, policy="one_cycle", masks=1),
    Stage("refreeze", "head", epochs=2, lr=1e-4, masks=1),
)

# For a body that was trained on speech: the middle stage has ten times the rate, and a different
# crop of each clip in each epoch. Results of other settings are in docs/speech.md.
SPEECH_SCHEDULE: tuple[Stage, ...] = (
    Stage("head", "head", epochs=7, lr=1e-2),
    Stage("all", "all", epochs=12, lr=discriminative(1e-3), masks=1, crop=0.5),
    Stage("refreeze", "head", epochs=8, lr=1e-4),
)

SCHEDULES = {"seed": SEED_SCHEDULE, "scratch": SCRATCH_SCHEDULE, "speech": SPEECH_SCHEDULE}


def default_schedule(arch: str, weights: str) -> str:
    """Return the name of the default schedule for a network and its initial weights.

    Parameters
    ----------
    arch : name of any network
    weights : ``none`` for random weights; any other name, or a path, for pretrained weights

    Examples
    --------
    >>> default_schedule("resnet18", "none"), default_schedule("speech_embedding", "pretrained")
    ('scratch', 'speech')
    """
    if weights == "none":
        return "scratch"
    return "speech" if arch == SPEECH_EMBEDDING else "seed"


def refuse_uncacheable(stages: Sequence[Stage]) -> None:
    """Check that stages with a frozen body use the same images in every epoch.

    Parameters
    ----------
    stages : the schedule

    Raises
    ------
    RunError : a stage with a frozen body changes its images in each epoch
    """
    for stage in stages:
        if stage.trains == "head" and (stage.masks or stage.mixup or stage.crop != 1):
            raise RunError(
                f"cache_frozen: stage {stage.name!r} (masks={stage.masks}, mixup={stage.mixup:g}, "
                f"crop={stage.crop:g}) changes its images in each epoch, so their features cannot "
                "be cached; turn off the cache, or masks, mixup and crop, or set the epochs of "
                "that stage to 0"
            )
