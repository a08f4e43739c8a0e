"""Distributed training, in processes started by ``torchrun`` or ``accelerate launch``.

Rank 0 runs the command as usual: it reads, exports, trains and tests, and only it writes files. The
other ranks wait until training starts, process their share of every batch, and end with rank 0.

Conventions: the batch size is per process, so n processes with a batch size of 16 train on batches
of 16 n. Rank r processes the r-th part of each global batch, in the order of a single process. On
GPUs, batch norms compute their statistics over the global batch; on CPUs over each part, with the
running statistics of rank 0, as in torch. Losses and metrics in the history are over all clips,
each counted once. Dropout, masks and mixup are random in each rank separately; mixup blends images
of the same rank only. Uses fastai's `distrib_ctx`, which requires accelerate.

Contents: `take_launch`, `Launch`; `shared`, `from_main`, `same_weights`, `total` and `rank`, which
have no effect in a single process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import get_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from langid_fastai.utils.dependencies import require

__all__ = ["Launch", "from_main", "rank", "same_weights", "shared", "take_launch", "total"]

WORDS = ("RANK", "WORLD_SIZE")  # variables by which fastai detects multiple processes
PATIENCE = timedelta(weeks=4)  # an export may take days; a killed process ends the launch

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Launch:
    """One of the processes in distributed training.

    Parameters
    ----------
    rank : rank of this process, from 0
    n_processes : number of processes
    """

    rank: int
    n_processes: int

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Wait for the other processes, and form a process group with them inside the block.

        Parameters
        ----------
        device : device that this process trains on
        """
        os.environ |= dict(zip(WORDS, (str(self.rank), str(self.n_processes)), strict=True))
        try:
            # Rank 0 joins after making the images; torchrun's store exists from the start.
            store, *_ = next(dist.rendezvous("env://", timeout=PATIENCE))
            if self.rank:
                store.wait(["rank 0 is ready"], PATIENCE)
            else:
                store.set("rank 0 is ready", "1")
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("training", store),
                rank=self.rank,
                world_size=self.n_processes,
            )
            yield
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for word in WORDS:
                del os.environ[word]


def take_launch() -> Launch | None:
    """Return the launch that this process belongs to; None if it was started alone.

    The environment variables of the launch are removed, and set again only inside `Launch.joined`:
    with them, every prediction of fastai would wait for the other processes.

    Raises
    ------
    RunError : accelerate is missing
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2:
        return None
    require("distributed", "training in multiple processes", "accelerate")  # for `RankLoader`
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Launch(*(int(os.environ.pop(word)) for word in WORDS))


def rank() -> int:
    """Return the rank of this process in distributed training; 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def shared(learn: Learner) -> Iterator[None]:
    """Train the Learner of each process on its share of every batch inside the block.

    Parameters
    ----------
    learn : Learner, the same in all processes; its loaders are restored after the block

    Raises
    ------
    RunError : there are fewer training images than one global batch
    """
    if not dist.is_initialized():
        yield
        return
    from langid_fastai.callbacks.rank_loader import RankLoader

    loaders = learn.dls.loaders
    learn.dls.loaders = [RankLoader(dl) for dl in loaders]
    on_cpu = learn.dls.device.type == "cpu"
    norms: list[Any] = [
        module
        for module in learn.model.modules()
        if isinstance(module, _BatchNorm) and not on_cpu  # torch synchronises them on GPUs only
    ]
    try:
        for norm in norms:
            # Overrides the method; fastai would not recognise another class as a batch norm.
            norm.forward = _synced(norm)
        with learn.distrib_ctx(sync_bn=False, cpu=on_cpu), learn.added_cbs(_Totals()):
            yield
    finally:
        for norm in norms:
            del norm.forward
        learn.dls.loaders = loaders


def from_main(thing: Thing) -> Thing:
    """Return the object of rank 0 in all processes; its tensors must be on the CPU."""
    if not dist.is_initialized():
        return thing
    things = [thing]
    dist.broadcast_object_list(things)
    return things[0]


def same_weights(model: nn.Module) -> None:
    """Copy the weights and statistics of rank 0 to the networks of all processes."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def total(*numbers: float, device: torch.device) -> list[float]:
    """Sum each number over all processes."""
    if not dist.is_initialized():
        return list(numbers)
    kind = torch.float32 if device.type == "mps" else torch.float64
    sums = torch.tensor(numbers, dtype=kind, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


class _Totals(Callback):
    """Compute validation metrics over the clips of all processes."""

    order = 49  # before fastai's Recorder reads them

    def before_validate(self) -> None:
        """Remove the distributed wrapper of the network, which requires shares of equal length."""
        self.wrapped = self.learn.model
        self.learn.model = get_model(self.wrapped)
        same_weights(self.learn.model)  # batch norms on CPUs differ

    def after_validate(self) -> None:
        """Sum the totals and counts of metrics over all processes."""
        self.learn.model = self.wrapped
        for metric in (self.learn.recorder.loss, *self.learn.metrics):
            metric.total, metric.count = total(
                float(metric.total), metric.count, device=self.learn.dls.device
            )


def _synced(norm: _BatchNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the forward pass of a batch norm with statistics over all processes."""
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # shares weights and statistics

    def forward(x: torch.Tensor) -> torch.Tensor:
        synced.train(norm.training)
        synced.momentum = norm.momentum
        return synced(x)

    return forward
