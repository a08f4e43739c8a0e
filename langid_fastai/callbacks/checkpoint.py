"""Save a checkpoint after each epoch: the history, and the state needed to resume.

::

    checkpoints/last.pth    weights, optimizer state, history and training settings

In distributed training, only rank 0 writes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import get_model, set_seed, to_device
from fastcore.foundation import L

from langid_fastai.callbacks import distributed
from langid_fastai.errors import RunError, first_line
from langid_fastai.models.weights import UNREADABLE
from langid_fastai.utils.files import replacing

if TYPE_CHECKING:
    from langid_fastai.models.schedules import Rate, Stage

__all__ = ["HISTORY", "Checkpointer"]

HISTORY = ("stage", "epoch", "train_loss", "valid_loss", "accuracy", "lr", "seconds")
LAST = "last.pth"
RANK_STEP = 1_000_000_007  # between the seeds of ranks; those of epochs are closer


class Checkpointer(Callback):
    """Seed each epoch, record it in the history, and save a checkpoint after it.

    The random seed of an epoch depends only on `seed` and the number of the epoch, so resumed
    training has the same shuffling and dropout as uninterrupted training.

    Parameters
    ----------
    learn, stages, seed, cache_frozen, on_epoch : see `fit_stages`
    folder : folder for the checkpoint; None saves no checkpoint
    """

    order = 100  # after fastai's Recorder has the epoch's metrics

    def __init__(
        self,
        learn: Learner,
        stages: Sequence[Stage],
        *,
        folder: Path | None,
        seed: int,
        cache_frozen: bool,
        on_epoch: Callable[[pd.DataFrame], None] | None,
    ) -> None:
        self.trained, self.stages, self.seed, self.on_epoch = learn, stages, seed, on_epoch
        self.folder = folder
        self.stage, self.first_epoch = 0, 0
        self.history: list[dict[str, Any]] = []
        self.optimizer_state: dict[str, Any] | None = None
        self.settings = {
            "schedule": [asdict(stage) | {"lr": _as_list(stage.lr)} for stage in stages],
            "seed": seed,
            "vocab": list(learn.dls.vocab),
            "arch": learn.arch,
            "cache_frozen": cache_frozen,
        }

    def unfinished(self) -> Iterator[tuple[Stage, int]]:
        """Load the checkpoint, if any, and yield each unfinished stage with its first epoch.

        Raises
        ------
        RunError : the checkpoint is damaged, or was made with other settings
        """
        resumed_stage, resumed_epoch = self._resume()
        for number, stage in enumerate(self.stages):
            self.stage, self.first_epoch = number, resumed_epoch if number == resumed_stage else 0
            if number >= resumed_stage and self.first_epoch < stage.epochs:
                yield stage, self.first_epoch

    def restore_optimizer(self) -> None:
        """Restore the state of the optimizer at the time this stage was interrupted."""
        if self.optimizer_state and self.first_epoch:
            hypers = L(self.optimizer_state["hypers"])
            self.trained.opt.load_state_dict(self.optimizer_state | {"hypers": hypers})

    def table(self) -> pd.DataFrame:
        """Return the history, one row per epoch, columns `HISTORY`."""
        return pd.DataFrame(self.history, columns=list(HISTORY))

    def _resume(self) -> tuple[int, int]:
        """Load the checkpoint, if there is one; return the next stage and epoch."""
        saved = distributed.from_main(self._read())
        if saved is not None:
            self.trained.model.load_state_dict(saved["model"])
            self.history = saved["history"]
            device = next(self.trained.model.parameters()).device
            self.optimizer_state = to_device(saved["opt"], device)
        distributed.same_weights(self.trained.model)
        return (saved["stage"], saved["epochs_done"]) if saved else (0, 0)

    def _read(self) -> dict[str, Any] | None:
        """Return the checkpoint, if there is one, after checking its settings."""
        if self.folder is None or not (file := self.folder / LAST).exists():
            return None
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise RunError(
                f"{file}: damaged ({first_line(error)}); remove it to restart training"
            ) from error
        if not isinstance(saved, dict) or not {"schedule"} <= set(saved.get("of") or ()):
            raise RunError(f"{file}: not a training checkpoint; remove it to restart training")
        # Older checkpoints do not have mixup and crop.
        before = {"mixup": 0.0, "crop": 1.0}
        saved["of"]["schedule"] = [before | stage for stage in saved["of"]["schedule"]]
        for what, value in self.settings.items():
            there = saved["of"].get(what)
            if there != value:
                raise RunError(
                    f"{file} was made with another {what} ({there}, now {value}); "
                    "choose another --out, or remove the folder to start over"
                )
        return saved

    def before_train(self) -> None:
        """Seed the epoch."""
        self.began, self.loss_sum, self.n_seen = time.monotonic(), 0.0, 0
        epochs_before = sum(stage.epochs for stage in self.stages[: self.stage])
        epoch_seed = self.seed * 10_000 + epochs_before + self.epoch
        set_seed(epoch_seed + distributed.rank() * RANK_STEP)
        self.learn.dls.train.rng = random.Random(epoch_seed)

    def after_batch(self) -> None:
        """Accumulate the loss, for its mean over the epoch."""
        if self.training:
            n = len(self.yb[0])
            self.loss_sum += float(self.loss.detach()) * n
            self.n_seen += n
            # fastai stores the loss of every batch as a tensor, which needs 20 times the memory.
            losses = self.learn.recorder.losses
            losses[-1] = float(losses[-1])

    def after_epoch(self) -> None:
        """Add the epoch to the history and save a checkpoint."""
        if self.epoch < self.first_epoch:  # skipped: done before the interruption
            return
        loss_sum, n_seen = distributed.total(
            self.loss_sum, self.n_seen, device=self.learn.dls.device
        )
        recorder = self.learn.recorder
        measured = dict(zip(recorder.metric_names[1:-1], recorder.values[-1], strict=True))
        row = {
            "stage": self.stages[self.stage].name,
            "epoch": self.epoch,
            "train_loss": loss_sum / n_seen,
            "valid_loss": float(measured["valid_loss"]),
            "accuracy": float(measured["accuracy"]),
            "lr": float(self.opt.hypers[-1]["lr"]),
            "seconds": time.monotonic() - self.began,
        }
        self.history.append(row)
        self._save()
        if self.on_epoch:
            self.on_epoch(self.table())

    def _save(self) -> None:
        if self.folder is None:
            return
        state = self.opt.state_dict()
        # Schedules produce numpy numbers, which cannot be stored in a file without code.
        hypers = [{name: float(value) for name, value in h.items()} for h in state["hypers"]]
        saved = {
            "of": self.settings,
            "stage": self.stage,
            "epochs_done": self.epoch + 1,
            "history": self.history,
            "model": get_model(self.learn.model).state_dict(),
            "opt": {"state": list(state["state"]), "hypers": hypers},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / LAST) as unfinished:
            torch.save(saved, unfinished)


def _as_list(lr: Rate) -> list[float]:
    return list(lr) if isinstance(lr, tuple) else [lr]
