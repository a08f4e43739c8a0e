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
    "model_folder",
    "read_info",
    "read_model",
    "read_shapes",
    "tensors_hash",
    "write_info",
    "write_model",
]

# Bounds on what a folder from a stranger can make us allocate: more languages than there are, 300
# times the pixels of the usual image, frames of 6 s.
MAX_LANGUAGES = 10_000
MAX_PIXELS = 1 << 24
MAX_N_FFT = 1 << 17
MAX_JSON = 1 << 24  # bytes; `heard` grows with the corpus, by 20 bytes a speaker

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
    return read_info(folder), _tensors(model_folder(folder) / "model.safetensors")


def read_info(folder: Path) -> ModelInfo:
    """Read ``model.json`` alone; errors as of `read_model`."""
    folder = model_folder(folder)
    try:
        with (folder / "model.json").open("rb") as stream:
            text = stream.read(MAX_JSON + 1)
    except OSError as error:
        raise ModelError(
            f"{folder}: no model folder (it needs model.json and model.safetensors)"
        ) from error
    if len(text) > MAX_JSON:
        raise ModelError(f"{folder / 'model.json'}: damaged (more than {MAX_JSON} bytes)")
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error
    return _info(content, folder)


def read_shapes(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read what tensors a model folder holds, without reading them or importing torch.

    Returns
    -------
    shapes : name → type, as ``F32``, and shape

    Raises
    ------
    ModelError : no such file, or a damaged one
    """
    from safetensors import SafetensorError, safe_open

    file = model_folder(folder) / "model.safetensors"
    try:
        with safe_open(file, framework="numpy") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {n: (part.get_dtype(), tuple(part.get_shape())) for n, part in parts.items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error


def tensors_hash(folder: Path) -> str:
    """Short fingerprint of the tensors, so that figures can tell which model they are of.

    Raises
    ------
    ModelError : no such file
    """
    file = model_folder(folder) / "model.safetensors"
    digest = hashlib.blake2b(digest_size=8)
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error
    return digest.hexdigest()


def model_folder(folder: Path) -> Path:
    """The folder itself, or the one inside a run folder."""
    is_run = not (folder / "model.json").exists() and (folder / "model" / "model.json").exists()
    return folder / "model" if is_run else folder


def _info(content: Any, folder: Path) -> ModelInfo:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ModelError(f"{folder / 'model.json'}: not a model of this library")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{folder}: format {version} is newer than this library reads ({FORMAT_VERSION}); "
            "update it: pip install -U langid_fastai"
        )
    try:
        content["mel"] = MelConfig(**content["mel"])
        content["vocab"] = _vocab(content["vocab"])
        content["calibration"] = Calibration(**content.get("calibration", {}))
        info = ModelInfo(**content | {"format_version": FORMAT_VERSION})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error
    height, width = info.mel.shape
    if height * width > MAX_PIXELS or info.mel.n_fft > MAX_N_FFT:
        raise ModelError(
            f"{folder / 'model.json'}: n_fft={info.mel.n_fft} and images of {height} × {width} are "
            f"more than {MAX_N_FFT} and {MAX_PIXELS} pixels; is the file damaged?"
        )
    return info


def _vocab(labels: Any) -> tuple[str, ...]:
    """Labels as a tuple, if a network can have been trained on them."""
    is_sound = isinstance(labels, list) and all(isinstance(x, str) and x for x in labels)
    if not is_sound or len(set(labels)) != len(labels):
        raise ModelError("vocab must be a list of different labels")
    if not 2 <= len(labels) <= MAX_LANGUAGES:
        raise ModelError(f"vocab holds {len(labels)} labels, and must hold 2 to {MAX_LANGUAGES}")
    return tuple(labels)


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error
