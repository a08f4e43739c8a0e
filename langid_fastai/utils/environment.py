"""Where figures come from: the machine and the versions that made them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["describe_device", "library_versions"]

LIBRARIES = ("langid_fastai", "fastai", "torch", "torchvision", "librosa", "soundfile", "numpy")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries whose arithmetic stands behind a figure."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def describe_device(device: torch.device) -> str:
    """The device in words: the name of the GPU, or of the processor with its threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    """Linux tells the name in a file; elsewhere `platform` has to do."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
