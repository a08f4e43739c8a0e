"""The model folder: a trained network that another machine can trust and use.

::

    model/model.json           what it is: languages, arch, MelConfig, how it was trained, versions
    model/model.safetensors    its tensors

Neither file can carry code, so a folder from a stranger is safe to load. ``model.json`` is read
without torch, which takes seconds to import.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langid_fastai.errors import ModelError
from langid_fastai.preprocessing import MelConfig

if TYPE_CHECKING:
    import torch

__all__ = [
    "FORMAT_VERSION",
    "Calibration",
    "ModelInfo",
    "read_info",
    "read_model",
    "tensors_hash",
    "write_info",
    "write_model",
]

# 1: no calibration; read as a model that is not calibrated.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Calibration:
    """What makes the scores of a model honest, found on its validation recordings.

    Parameters
    ----------
    temperature : log-probabilities are divided by it, and sum to one again
    threshold : an answer whose highest probability is below it is "none of these languages"; None
        where validation was too small to choose one
    false_alarm_rate : share of known recordings that may be called unknown, which `threshold` was
        chosen for
    n_recordings : of validation, that both rest on
    """

    temperature: float = 1.0
    threshold: float | None = None
    false_alarm_rate: float | None = None
    n_recordings: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"temperature={self.temperature!r} must be above 0 and finite")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ModelError(f"threshold={self.threshold!r} must be a probability, or None")


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, apart from its tensors.

    Parameters
    ----------
    arch : torchvision or timm name
    vocab : languages, in the order of the network's outputs
    mel : how a waveform becomes its input
    training : schedule, weights, seed, and under `heard` the hashes of the groups (speakers,
        videos, …) it was trained and validated on
    versions : of the libraries that made it
    calibration : temperature of its scores, threshold for "none of these"
    format_version : of the folder
    """

    arch: str
    vocab: tuple[str, ...]
    mel: MelConfig
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    calibration: Calibration = Calibration()
    format_version: int = FORMAT_VERSION


def write_model(folder: Path, state: dict[str, torch.Tensor], info: ModelInfo) -> None:
    """Write a model folder; each file appears whole or not at all.

    Parameters
    ----------
    state : `network.state_dict()`, float32
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    temporary = folder / "model.safetensors.tmp"
    save_file(tensors, temporary)
    temporary.replace(folder / "model.safetensors")
    write_info(folder, info)


def write_info(folder: Path, info: ModelInfo) -> None:
    """Write ``model.json`` alone, atomically."""
    temporary = folder / "model.json.tmp"
    temporary.write_text(
        json.dumps(asdict(info), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    temporary.replace(folder / "model.json")


def read_model(folder: Path) -> tuple[ModelInfo, dict[str, torch.Tensor]]:
    """Read a model folder, or the one inside a run folder.

    Raises
    ------
    ModelError : no such folder, a damaged file, or a format newer than this library
    """
    return read_info(folder), _tensors(_model_folder(folder) / "model.safetensors")


def read_info(folder: Path) -> ModelInfo:
    """Read ``model.json`` alone; errors as of `read_model`."""
    folder = _model_folder(folder)
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{folder}: no model folder (it needs model.json and model.safetensors)"
        ) from error
    except ValueError as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error
    return _info(content, folder)


def tensors_hash(folder: Path) -> str:
    """Short fingerprint of the tensors, so that figures can tell which model they are of."""
    digest = hashlib.blake2b(digest_size=8)
    with (_model_folder(folder) / "model.safetensors").open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the one inside a run folder."""
    is_run = not (folder / "model.json").exists() and (folder / "model" / "model.json").exists()
    return folder / "model" if is_run else folder


def _info(content: Any, folder: Path) -> ModelInfo:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise ModelError(f"{folder / 'model.json'}: not a model of this library")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{folder}: format {version} is newer than this library reads ({FORMAT_VERSION}); "
            "update it: pip install -U langid_fastai"
        )
    try:
        content["mel"] = MelConfig(**content["mel"])
        content["vocab"] = tuple(content["vocab"])
        content["calibration"] = Calibration(**content.get("calibration", {}))
        return ModelInfo(**content | {"format_version": FORMAT_VERSION})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error
