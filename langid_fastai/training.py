"""Training in three stages, defined as data; fit them, and resume an interrupted run.

The recipe: train the head on a frozen body, then everything with rates that increase from the early
layers to the head, then the head again.

Conventions: epochs of a stage count from 0; rates are per layer group (early body, late body, head)
or one for all; losses are means over an epoch; times are in seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import valley
from fastai.learner import Learner

from langid_fastai.callbacks import distributed
from langid_fastai.callbacks.checkpoint import Checkpointer
from langid_fastai.callbacks.frozen_features import adapt_norms, cached_features
from langid_fastai.callbacks.spec_augment import image_callbacks, loss_kept
from langid_fastai.errors import RunError
from langid_fastai.utils.files import replacing

__all__ = [
    "Stage",
    "SEED_SCHEDULE",
    "SCRATCH_SCHEDULE",
    "SPEECH_SCHEDULE",
    "SCHEDULES",
    "discriminative",
    "fit_stages",
    "refuse_uncacheable",
    "find_lr",
]

Rate = float | tuple[float, ...]

# A smaller crop has too little speech to identify a language.
LEAST_CROP = 0.1


def discriminative(lr: float) -> tuple[float, float, float]:
    """Rates for the three layer groups: lower where the features are more general.

    Parameters
    ----------
    lr : rate of the head; the early and late body get a ninth and a sixth of it

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
    name : shown in the history and the plots
    trains : ``head`` freezes the body (its batch norms keep learning, as in fastai); ``all`` trains
        everything
    epochs : passes over the training images
    lr : one rate, or one per layer group
    policy : ``constant`` keeps the rate; ``one_cycle`` rises to it and falls towards zero (Smith
        2018, as in fastai's `fit_one_cycle`)
    masks : number of frequency and of time masks in each training image, see `SpecAugment`
    mixup : strength of mixup, see `image_callbacks`; 0 disables it
    crop : fraction of each training clip that is trained on, a different part in each epoch; 1 for
        the whole clip

    Raises
    ------
    RunError : a mixup or crop out of bounds
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

# For a body trained from scratch, which is not worth freezing until it has learned: most of the
# learning is in the long middle stage, at a rate thirty times as high, the same for all groups, and
# never on the same image twice. Tuned on demo corpora with a seed other than the default.
SCRATCH_SCHEDULE: tuple[Stage, ...] = (
    Stage("head", "head", epochs=1, lr=1e-3, masks=1),
    Stage("all", "all", epochs=30, lr=3e-3, policy="one_cycle", masks=1),
    Stage("refreeze", "head", epochs=2, lr=1e-4, masks=1),
)

# For a body that was trained on speech: the recipe, at ten times the rate of the middle stage, and
# there never on the same stretch of a clip twice. What was tried, with values: docs/speech.md.
SPEECH_SCHEDULE: tuple[Stage, ...] = (
    Stage("head", "head", epochs=7, lr=1e-2),
    Stage("all", "all", epochs=12, lr=discriminative(1e-3), masks=1, crop=0.5),
    Stage("refreeze", "head", epochs=8, lr=1e-4),
)

SCHEDULES = {"seed": SEED_SCHEDULE, "scratch": SCRATCH_SCHEDULE, "speech": SPEECH_SCHEDULE}


def fit_stages(
    learn: Learner,
    stages: Sequence[Stage] = SEED_SCHEDULE,
    *,
    checkpoints: str | Path | None = None,
    seed: int = 0,
    cache_frozen: bool = False,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    cbs: Sequence[Callback] = (),
) -> pd.DataFrame:
    """Train a Learner stage by stage.

    Parameters
    ----------
    learn : from `language_learner`; in distributed training each process has its own, and trains on
        its share of the images (`langid_fastai.callbacks.distributed`)
    stages : the schedule; modify a stage with `dataclasses.replace`
    checkpoints : folder for the state after the last finished epoch; if it has one with the same
        schedule and seed, training resumes from it and ends with the same result as an
        uninterrupted run (nearly so in float16, whose loss scale is reset)
    seed : random seed for the order of images and for dropout; each epoch's seed is derived from it
    cache_frozen : while the body is frozen, compute its features once and train the head on them;
        the batch norms of the body then stay fixed, except for one pass over the training images
        before a first frozen stage, which adapts them to spectrograms. Much faster, but not what
        fastai does
    on_epoch : called after each epoch with the history so far
    cbs : more fastai callbacks, added in every stage

    Returns
    -------
    history : one row per epoch, columns `HISTORY`; `lr` is the head's rate at the end of the epoch,
        and `train_loss` is computed on the images as trained on, masked and mixed

    Raises
    ------
    RunError : the checkpoint has another schedule, seed, set of languages or `cache_frozen`; or
        `cache_frozen` is used with a stage that changes its images in each epoch

    Examples
    --------
    ::

        fit_stages(learn, SEED_SCHEDULE)
        first, middle, last = SEED_SCHEDULE
        fit_stages(learn, (first, replace(middle, lr=discriminative(1e-3)), last))
    """
    if cache_frozen:
        refuse_uncacheable(stages)
    checkpointer = Checkpointer(
        learn,
        stages,
        folder=Path(checkpoints) if checkpoints else None,
        seed=seed,
        cache_frozen=cache_frozen,
        on_epoch=on_epoch,
    )
    for stage, first_epoch in checkpointer.unfinished():
        _freeze(learn, stage)
        fit = learn.fit if stage.policy == "constant" else learn.fit_one_cycle
        with _prepared(learn, stage, checkpointer, cache_frozen) as stage_cbs:
            fit(stage.epochs, stage.lr, cbs=[*stage_cbs, *cbs], start_epoch=first_epoch)
    return checkpointer.table()


def refuse_uncacheable(stages: Sequence[Stage]) -> None:
    """Check that a frozen body computes the same features of an image in every epoch.

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


def find_lr(
    learn: Learner,
    stage: Stage = SEED_SCHEDULE[1],
    *,
    plot: Path | None = None,
    picture: Path | None = None,
) -> float:
    """Suggest a learning rate for a stage: train a few batches at increasing rates, then undo it.

    The suggestion is fastai's "valley": the steepest part of the longest decrease of the loss. See
    L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    Parameters
    ----------
    learn : unchanged afterwards
    stage : determines what is frozen; for a stage with several rates, see `discriminative`
    plot : PNG file to write the curve to; None writes none
    picture : older name of `plot`

    Returns
    -------
    lr : rate for the head
    """
    _freeze(learn, stage)
    before = learn.path
    with tempfile.TemporaryDirectory() as folder, learn.no_bar(), learn.no_logging():
        learn.path = Path(folder)  # where fastai saves the weights in the meantime
        suggested = learn.lr_find(suggest_funcs=(valley,), show_plot=False)
    learn.path, learn.opt = before, None
    if file := plot or picture:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(learn.recorder.lrs, torch.stack(learn.recorder.losses))
        axes.axvline(suggested.valley, linestyle="--", color="grey")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=f"stage {stage.name}")
        with replacing(file) as unfinished:
            figure.savefig(unfinished, format="png")
    return float(suggested.valley)


def _freeze(learn: Learner, stage: Stage) -> None:
    """Begin a stage: make a new optimizer and freeze what the stage does not train."""
    # A frozen weight that still has a gradient would keep decaying: fastai's optimizer updates
    # every weight with a gradient, even if it is all zeros.
    learn.model.zero_grad(set_to_none=True)
    learn.create_opt()
    learn.freeze_to({"head": -1, "all": 0}[stage.trains])


@contextmanager
def _prepared(
    learn: Learner, stage: Stage, checkpointer: Checkpointer, cache_frozen: bool
) -> Iterator[list[Callback]]:
    """Prepare a stage, resumed or new, cached and distributed; yield its callbacks."""
    checkpointer.restore_optimizer()
    is_cached = cache_frozen and stage.trains == "head"
    if is_cached and checkpointer.stage == checkpointer.first_epoch == 0:
        with distributed.shared(learn):
            adapt_norms(learn)
    cache = cached_features(learn, checkpointer.folder) if is_cached else nullcontext()
    with cache, distributed.shared(learn), loss_kept(learn):
        yield [checkpointer, *image_callbacks(stage.masks, stage.mixup, stage.crop)]
