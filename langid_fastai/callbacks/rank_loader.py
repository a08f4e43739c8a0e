"""Load the share of one process in distributed training from a fastai DataLoader.

Separate from `langid_fastai.callbacks.distributed`, because importing `fastai.distributed` requires
accelerate (extra `distributed`), which training in one process does not.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import torch.distributed as dist
from fastai.torch_core import to_detach

from langid_fastai.errors import RunError
from langid_fastai.utils.dependencies import needs

with needs("distributed", "training in multiple processes"):
    import accelerate  # noqa: F401  # without it, the next import raises a NameError
    from fastai.distributed import DistributedDL

__all__ = ["RankLoader"]


class RankLoader(DistributedDL):
    """Load the share of this process in each batch of a fastai DataLoader.

    fastai's `DistributedDL` would give each rank a contiguous part of an epoch, padded with clips
    that are counted twice, and broadcast the order by GPU. Here, the order depends on the seed.
    """

    def __init__(self, dl: Any) -> None:
        super().__init__(dl, rank=dist.get_rank(), world_size=dist.get_world_size())
        if self.drop_last and not len(self):
            raise RunError(
                f"{len(dl.dataset)} training images are too few for {self.world_size} processes "
                f"with batches of {dl.bs}; use a smaller --batch-size, or fewer processes"
            )

    def new(self, *, shuffle: bool) -> RankLoader:
        """Return a loader of the same share, shuffled or in order."""
        return RankLoader(self.dl.new(shuffle=shuffle))

    @property
    def rng(self) -> Random:
        """Return the random generator that determines the order of the images."""
        return self.dl.rng

    @rng.setter
    def rng(self, rng: Random) -> None:
        self.dl.rng = rng

    def __len__(self) -> int:
        n = len(self._mine(range(len(self.dl.dataset))))
        return math.ceil(n / self.bs)

    def get_idxs(self) -> list[int]:
        """Return the positions of this process's clips in the dataset."""
        return self._mine(self.dl.get_idxs())

    def to_detach(self, b: Any, cpu: bool = True, gather: bool = True) -> Any:
        """Return the results of a batch without gathering them, since `_Totals` sums them."""
        return to_detach(b, cpu, gather=False)

    def _mine(self, idxs: Any) -> list[int]:
        if not self.drop_last:
            return list(idxs)[self.rank :: self.world_size]
        whole = self.bs * self.world_size
        n = len(idxs) // whole * whole
        return [
            idx
            for i, idx in enumerate(idxs)
            if i < n and i // self.bs % self.world_size == self.rank
        ]
