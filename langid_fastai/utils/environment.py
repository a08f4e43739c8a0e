"""Describe the machine and library versions that produced a result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from langid_fastai.errors import ModelError, first_line

if TYPE_CHECKING:
    import torch

__all__ = ["describe_device", "find_device", "library_versions", "n_launched"]

LIBRARIES = ("langid_fastai", "fastai", "torch", "torchvision", "librosa", "soundfile", "numpy")


def library_versions(*others: str) -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect numerical results.

    Parameters
    ----------
    others : names of other installed libraries
    """
    names = (*LIBRARIES, *others)
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def find_device(name: str) -> torch.device:
    """Return the torch device with this name, such as ``cpu`` or ``cuda:1``.

    Raises
    ------
    ModelError : this machine has no such device
    """
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {name!r} cannot be used here ({first_line(error)}); use cpu, or cuda with a "
            "GPU and its driver"
        ) from error


def describe_device(device: torch.device) -> str:
    """Return the name of a GPU, or the name and number of threads of the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def n_launched() -> int:
    """Return the number of processes that torchrun or accelerate launched; 1 without them."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def _processor() -> str:
    """Return the CPU name, from /proc/cpuinfo on Linux and from `platform` elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
