"""Distributed training, in processes started by ``torchrun`` or ``accelerate launch``.

Rank 0 runs the command as usual: it reads, exports, trains and tests, and is the only one to write.
The others wait until training starts, process their share of every batch, and end with rank 0.

Conventions: the batch size is per process, as usual, so n processes with 16 train on batches of
16 n. Rank r takes the r-th part of each global batch, in the order that a single process would use.
On GPUs, batch norms compute their statistics over all of it; on CPUs over the part of each process,
and the running statistics are those of rank 0, as in torch. Losses and metrics in the history are
over all clips, each counted once. Each rank draws the randomness within a batch (dropout, masks,
mixup) separately; mixup blends images of one rank only. Built on fastai's `distrib_ctx`, which uses
accelerate.

Contents: `take_launch`, `Launch`; and, without effect in a single process, `shared`, `from_main`,
`same_weights`, `total`, `rank`.
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
PATIENCE = timedelta(weeks=4)  # an export may take days; a process that dies ends the launch

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Launch:
    """One of the processes of a distributed training.

    Parameters
    ----------
    rank : rank of this process, from 0
    n_processes : number of processes
    """

    rank: int
    n_processes: int

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Wait for the other processes, and join them in one process group within the block.

        Parameters
        ----------
        device : device that this process trains on
        """
        os.environ |= dict(zip(WORDS, (str(self.rank), str(self.n_processes)), strict=True))
        try:
            # Rank 0 arrives when the images are made; the store of torchrun exists from the start.
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
    """Return the rank of this process among those launched; None if it was started alone.

    The variables of the launch are removed from the environment, except inside `Launch.joined`:
    otherwise, fastai would make every prediction wait for the other processes.

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
    """Rank of this process in distributed training; 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextmanager
def shared(learn: Learner) -> Iterator[None]:
    """Context in which each process trains the Learner on its share of every batch.

    Parameters
    ----------
    learn : the same in all processes; its loaders are restored after the block

    Raises
    ------
    RunError : there are fewer training images than one batch needs
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
            # Hides the method of the class. Replaced layers would not be batch norms to fastai.
            norm.forward = _synced(norm)
        with learn.distrib_ctx(sync_bn=False, cpu=on_cpu), learn.added_cbs(_Totals()):
            yield
    finally:
        for norm in norms:
            del norm.forward
        learn.dls.loaders = loaders


def from_main(thing: Thing) -> Thing:
    """Broadcast an object from rank 0 to all processes; tensors on the CPU."""
    if not dist.is_initialized():
        return thing
    things = [thing]
    dist.broadcast_object_list(things)
    return things[0]


def same_weights(model: nn.Module) -> None:
    """Give the network of every process the weights and statistics of rank 0."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def total(*numbers: float, device: torch.device) -> list[float]:
    """Sum numbers over all processes."""
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
        """Exchange nothing batch by batch, since the shares of the processes differ in length."""
        self.wrapped = self.learn.model
        self.learn.model = get_model(self.wrapped)
        same_weights(self.learn.model)  # batch norms on CPUs differ

    def after_validate(self) -> None:
        """Sum totals and counts over all processes."""
        self.learn.model = self.wrapped
        for metric in (self.learn.recorder.loss, *self.learn.metrics):
            metric.total, metric.count = total(
                float(metric.total), metric.count, device=self.learn.dls.device
            )


def _synced(norm: _BatchNorm) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the forward pass of a batch norm, with the statistics of all processes."""
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # shares weights and statistics

    def forward(x: torch.Tensor) -> torch.Tensor:
        synced.train(norm.training)
        synced.momentum = norm.momentum
        return synced(x)

    return forward
