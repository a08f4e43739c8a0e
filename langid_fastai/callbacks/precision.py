"""Select the device and precision of training: float32, bfloat16 or float16.

Weights are always float32.

Contents: `pick_device`, `pick_precision`; `precision_callbacks`; `full_precision`, for tests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.learner import Learner
from fastai.torch_core import default_device

from langid_fastai.errors import ModelError
from langid_fastai.utils.environment import find_device

__all__ = [
    "CpuAutocast",
    "Precision",
    "full_precision",
    "pick_device",
    "pick_precision",
    "precision_callbacks",
]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device(name: str | None = None) -> torch.device:
    """Return the device with this name; by default a GPU, or the CPU if there is none.

    Raises
    ------
    ModelError : this machine has no such device
    """
    return default_device() if name is None else find_device(name)


def pick_precision(device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Return the fastest precision that the device supports natively."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_computes_bf16() else "fp32"


def precision_callbacks(precision: str, device: torch.device) -> list[Callback]:
    """Make the callbacks for training in a precision.

    Parameters
    ----------
    precision : ``fp32``, ``bf16`` or ``fp16``
    device : device that the Learner trains on

    Raises
    ------
    ModelError : the device does not support the precision
    """
    if precision == "fp32":
        return []
    if precision == "bf16" and device.type == "cpu":
        return [CpuAutocast()]
    if device.type == "cuda" and precision in ("bf16", "fp16"):
        return [MixedPrecision(AMPMode(precision))]
    raise ModelError(
        f"precision={precision!r} is not supported on device {device.type!r}; "
        "use auto, fp32, bf16 (CPU or CUDA) or fp16 (CUDA)"
    )


def full_precision(learn: Learner) -> AbstractContextManager[Learner]:
    """Compute in float32 inside the block, as prediction does."""
    mixed = [cb for cb in learn.cbs if isinstance(cb, (CpuAutocast, MixedPrecision))]
    return learn.removed_cbs(mixed)


class CpuAutocast(Callback):
    """Train in bfloat16 on CPUs; fastai's `MixedPrecision` supports CUDA only."""

    order = MixedPrecision.order

    def before_batch(self) -> None:
        """Enter autocast for the forward pass and the loss."""
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()

    def after_pred(self) -> None:
        """Compute losses and metrics in float32."""
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        """Leave autocast before the backward pass."""
        self.autocast.__exit__(None, None, None)


def _cpu_computes_bf16() -> bool:
    """Return whether the CPU has bfloat16 instructions; emulation is slower than float32."""
    # torch has only these private checks; without them, float32 is used.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)
