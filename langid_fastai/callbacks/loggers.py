"""Report the progress of training on stderr, to TensorBoard, Weights & Biases or MLflow.

Contents: `BatchBar` and `BatchCount` show progress on stderr; `LOGS` has the other tools by name;
`require_log` checks that one is installed, before long work; `log_callbacks` makes its callbacks.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastai.callback.core import Callback

from langid_fastai.errors import RunError
from langid_fastai.utils.progress import Steps

__all__ = ["LOGS", "BatchBar", "BatchCount", "MLflowCallback", "log_callbacks", "require_log"]

LOGS = ("tensorboard", "wandb", "mlflow")


class BatchBar(Callback):
    """Show the progress of a stage of training on stderr, see `Steps`.

    Replaces fastai's progress bar, which would fill a log with its updates.

    Parameters
    ----------
    steps : counter of the batches of a stage, restarted at each stage
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def before_fit(self) -> None:
        """Begin a stage."""
        self.has_begun = False

    def before_train(self) -> None:
        """Restart the count at the first epoch of a stage, which may be a resumed one."""
        if not self.has_begun:
            self.has_begun = True
            self.steps.restart((self.n_epoch - self.epoch) * len(self.dls.train))

    def after_batch(self) -> None:
        """Count a training batch."""
        if self.training:
            self.steps.advance(what=f"epoch {self.epoch + 1} of {self.n_epoch}")


class BatchCount(Callback):
    """Show the number of training and validation batches on stderr, see `Steps`."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def after_batch(self) -> None:
        """Count a batch."""
        self.steps.advance()


class MLflowCallback(Callback):
    """Log the metrics of each epoch to the active MLflow run, or to a new one."""

    order = 60  # after fastai's Recorder

    def __init__(self) -> None:
        self.step = 0  # epochs, counted over all stages

    def after_epoch(self) -> None:
        """Log the metrics of the epoch."""
        import mlflow

        names, values = self.recorder.metric_names, self.recorder.log
        pairs = zip(names, values, strict=False)  # the last name, the time, has no value yet
        numbers = {name: float(x) for name, x in pairs if name not in ("epoch", "time")}
        mlflow.log_metrics(numbers, step=self.step)
        self.step += 1


def require_log(tool: str) -> None:
    """Check that a tool is known and installed.

    Parameters
    ----------
    tool : one of `LOGS`

    Raises
    ------
    RunError : unknown name, or the tool is not installed
    """
    if tool not in LOGS:
        raise RunError(f"log {tool!r} must be one of {', '.join(LOGS)}")
    if find_spec(tool) is None:
        raise RunError(f"--log {tool} needs {tool}, which is not installed: pip install {tool}")


def log_callbacks(tool: str, folder: Path) -> list[Callback]:
    """Make the callbacks that log the training of a run.

    Parameters
    ----------
    tool : one of `LOGS`
    folder : run folder; TensorBoard files are written to its subfolder ``tensorboard``

    Raises
    ------
    RunError : see `require_log`
    """
    require_log(tool)
    if tool == "tensorboard":
        from fastai.callback.tensorboard import TensorBoardCallback

        return [TensorBoardCallback(folder / "tensorboard", trace_model=False, log_preds=False)]
    if tool == "wandb":
        import wandb
        from fastai.callback.wandb import WandbCallback

        if wandb.run is None:
            wandb.init(project="langid", name=folder.name, dir=str(folder))
        return [WandbCallback(log_preds=False, log_model=False)]
    return [MLflowCallback()]
