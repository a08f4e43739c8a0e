"""Report the course of training: on stderr, to TensorBoard, Weights & Biases or MLflow.

Contents: `BatchBar`, the progress of an epoch; `LOGS`, the tools by name; `require_log`, before
long work; `log_callbacks`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastai.callback.core import Callback

from langid_fastai.errors import RunError
from langid_fastai.utils.progress import Steps

__all__ = ["LOGS", "BatchBar", "MLflowCallback", "log_callbacks", "require_log"]

LOGS = ("tensorboard", "wandb", "mlflow")


class BatchBar(Callback):
    """Show the progress of an epoch on stderr: a bar on a terminal, plain lines in a log.

    Replaces fastai's own bar, which fills a log by redrawing itself.
    """

    def before_train(self) -> None:
        """Begin an epoch."""
        what = f"epoch {self.epoch + 1} of {self.n_epoch}"
        self.steps = Steps(what, len(self.dls.train), "batches").__enter__()

    def after_batch(self) -> None:
        """Count a training batch."""
        if self.training:
            self.steps.advance()

    def after_train(self) -> None:
        """End the training half of the epoch."""
        self.steps.__exit__(None, None, None)


class MLflowCallback(Callback):
    """Log the metrics of each epoch to the active MLflow run, or to a new one."""

    order = 60  # after fastai's Recorder

    def __init__(self) -> None:
        self.step = 0  # epochs, counted over all stages

    def after_epoch(self) -> None:
        """Log the values of the epoch."""
        import mlflow

        names, values = self.recorder.metric_names, self.recorder.log
        numbers = {k: float(v) for k, v in zip(names, values) if k not in ("epoch", "time")}  # noqa: B905  # the time is not there yet
        mlflow.log_metrics(numbers, step=self.step)
        self.step += 1


def require_log(tool: str) -> None:
    """Check that a tool is known and installed.

    Parameters
    ----------
    tool : one of `LOGS`

    Raises
    ------
    RunError : another name, or the tool is not installed
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
    folder : of the run; TensorBoard's files are written to ``tensorboard`` in it

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
