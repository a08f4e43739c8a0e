"""Train a network in the stages of a schedule; interrupted training can be resumed.

By default, the head is trained on a frozen body, then all layers with learning rates that increase
from the early layers to the head, then the head again; see `langid_fastai.models.schedules`.

Conventions: epochs of a stage count from 0; the learning rate is one value, or one per layer group
(early body, late body, head); losses are means over an epoch; times are in seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import valley
from fastai.learner import Learner

from langid_fastai.callbacks import distributed
from langid_fastai.callbacks.checkpoint import Checkpointer
from langid_fastai.callbacks.frozen_features import adapt_norms, cached_features
from langid_fastai.callbacks.loggers import BatchCount
from langid_fastai.callbacks.spec_augment import image_callbacks, loss_kept
from langid_fastai.models.schedules import (
    SCRATCH_SCHEDULE,
    SEED_SCHEDULE,
    SPEECH_SCHEDULE,
    Stage,
    discriminative,
    refuse_uncacheable,
)
from langid_fastai.utils.files import replacing
from langid_fastai.utils.progress import Steps

__all__ = [
    "Stage",
    "SEED_SCHEDULE",
    "SCRATCH_SCHEDULE",
    "SPEECH_SCHEDULE",
    "discriminative",
    "fit_stages",
    "find_lr",
]

N_RATES = 100  # learning rates that `find_lr` tries, one per batch


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
    learn : Learner from `language_learner`; in distributed training, each process has its own and
        trains on its share of the images (`langid_fastai.callbacks.distributed`)
    stages : the schedule; modify a stage with `dataclasses.replace`
    checkpoints : folder for the training state after the last finished epoch. A state with the same
        schedule and seed is resumed; the result is that of uninterrupted training (nearly so in
        float16, since the loss scale is reset). None stores no state
    seed : random seed for the order of images and for dropout; each epoch's seed is derived from it
    cache_frozen : compute the features of a frozen body once and train the head on them. This is
        much faster but, unlike in fastai, the batch norms of a frozen body stay fixed; if the first
        stage is frozen, one pass over the training images adapts them to spectrograms beforehand
    on_epoch : function called with the history so far after each epoch
    cbs : more fastai callbacks, used in every stage

    Returns
    -------
    history : one row per epoch, with columns `HISTORY`; `lr` is the learning rate of the head at
        the end of the epoch; `train_loss` is computed on the masked and mixed images

    Raises
    ------
    RunError : the checkpoint was made with another schedule, seed, set of languages or
        `cache_frozen`; or `cache_frozen` is used with a frozen stage that augments its images

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


def find_lr(
    learn: Learner,
    stage: Stage = SEED_SCHEDULE[1],
    *,
    plot: Path | None = None,
    picture: Path | None = None,
) -> float:
    """Suggest a learning rate for a stage by training a few batches at increasing rates.

    The suggestion is fastai's "valley": the steepest part of the longest decrease of the loss. See
    L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.

    Parameters
    ----------
    learn : Learner from `language_learner`; its weights are restored afterwards
    stage : stage to train, which determines the frozen layers; if it has several rates, pass the
        result to `discriminative`
    plot : PNG file for a plot of the loss against the rate; None makes no plot
    picture : older name of `plot`

    Returns
    -------
    lr : learning rate of the head
    """
    _freeze(learn, stage)
    before = learn.path
    trying = Steps("trying learning rates", N_RATES, "batches")
    with tempfile.TemporaryDirectory() as folder, learn.no_bar(), learn.no_logging():
        learn.path = Path(folder)  # where fastai saves the weights in the meantime
        with trying as steps, learn.added_cbs(BatchCount(steps)):
            suggested = learn.lr_find(num_it=N_RATES, suggest_funcs=(valley,), show_plot=False)
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
    """Make a new optimizer and freeze the layers that a stage does not train."""
    # A frozen weight that still has a gradient would keep decaying: fastai's optimizer updates
    # every weight with a gradient, even if it is all zeros.
    learn.model.zero_grad(set_to_none=True)
    learn.create_opt()
    learn.freeze_to({"head": -1, "all": 0}[stage.trains])


@contextmanager
def _prepared(
    learn: Learner, stage: Stage, checkpointer: Checkpointer, cache_frozen: bool
) -> Iterator[list[Callback]]:
    """Prepare the Learner for a new or resumed stage; yield the callbacks of the stage."""
    checkpointer.restore_optimizer()
    is_cached = cache_frozen and stage.trains == "head"
    if is_cached and checkpointer.stage == checkpointer.first_epoch == 0:
        adapt_norms(learn)
    cache = cached_features(learn, checkpointer.folder) if is_cached else nullcontext()
    with cache, distributed.shared(learn), loss_kept(learn):
        yield [checkpointer, *image_callbacks(stage.masks, stage.mixup, stage.crop)]
