"""The model folder: a trained network that another machine can trust and use.

::

    model/model.json           what it is: languages, arch, MelConfig, how it was trained, versions
    model/model.safetensors    its tensors

Neither file can carry code, so a folder from a stranger is safe to load.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from langid_fastai.errors import ModelError
from langid_fastai.preprocessing import MelConfig

__all__ = ["FORMAT_VERSION", "ModelInfo", "read_model", "write_model"]

FORMAT_VERSION = 1


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
    format_version : of the folder
    """

    arch: str
    vocab: tuple[str, ...]
    mel: MelConfig
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def write_model(folder: Path, state: dict[str, torch.Tensor], info: ModelInfo) -> None:
    """Write a model folder; each file appears whole or not at all.

    Parameters
    ----------
    state : `network.state_dict()`, float32
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    temporary = folder / "model.safetensors.tmp"
    save_file(tensors, temporary)
    temporary.replace(folder / "model.safetensors")
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
    if not (folder / "model.json").exists() and (folder / "model" / "model.json").exists():
        folder = folder / "model"
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{folder}: no model folder (it needs model.json and model.safetensors)"
        ) from error
    except ValueError as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error
    return _info(content, folder), _tensors(folder / "model.safetensors")


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
        return ModelInfo(**content)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error
