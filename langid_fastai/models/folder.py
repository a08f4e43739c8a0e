"""The model folder: a trained network that can be shared and loaded safely.

::

    model/model.json           languages, arch, MelConfig, training settings, versions
    model/model.safetensors    tensors

Neither file can contain code, and the content of ``model.json`` is validated before use, so an
untrusted folder is safe to load. It is read without torch, which takes seconds to import.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from dataclasses import MISSING, asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langid_fastai.errors import ModelError
from langid_fastai.models.encoder_info import EncoderInfo
from langid_fastai.models.hub import fetch_model, is_hub_name
from langid_fastai.models.model_info import FORMAT_VERSION, Calibration, ModelInfo
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.files import replacing

if TYPE_CHECKING:
    import torch

__all__ = [
    "file_hash",
    "model_folder",
    "read_info",
    "read_model",
    "read_shapes",
    "read_tensors",
    "model_hash",
    "tensors_hash",
    "validate_tensors",
    "write_info",
    "write_model",
]

# Limits on memory and output for an untrusted folder; `ModelInfo` has those of its values.
MAX_REASON = 300  # characters
MAX_JSON = 1 << 24  # bytes; `heard` grows with the corpus, by 20 bytes a speaker

Checked = TypeVar("Checked", "MelConfig", "Calibration", "EncoderInfo", "ModelInfo")


def write_model(folder: Path, state: dict[str, torch.Tensor], info: ModelInfo) -> None:
    """Write a model folder; each file is written atomically.

    Parameters
    ----------
    state : `network.state_dict()`
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(folder / "model.safetensors") as temporary:
        # `save_file` uses a temporary name of its own, which would remain if the process is killed.
        temporary.write_bytes(save(tensors))
        fingerprint = file_hash(temporary)
    write_info(folder, replace(info, tensors=fingerprint, onnx=None))


def write_info(folder: Path, info: ModelInfo) -> None:
    """Write ``model.json`` only, atomically."""
    content = asdict(info) | {"mel": info.mel.to_dict()}
    if info.encoder is None:
        del content["encoder"]
        content["format_version"] = 3
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(folder / "model.json") as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_model(folder: Path) -> tuple[ModelInfo, dict[str, torch.Tensor]]:
    """Read a model folder, or the one inside a run folder.

    Raises
    ------
    ModelError : no such folder, a damaged file, or a format newer than this library
    """
    info = read_info(folder)
    return info, read_tensors(folder, info)


def read_info(folder: Path) -> ModelInfo:
    """Read ``model.json`` only; errors as for `read_model`."""
    folder = model_folder(folder)
    try:
        with (folder / "model.json").open("rb") as stream:
            text = stream.read(MAX_JSON + 1)
    except OSError as error:
        raise ModelError(
            f"{folder}: no model folder (it must have model.json and model.safetensors)"
        ) from error
    if len(text) > MAX_JSON:
        raise ModelError(f"{folder / 'model.json'}: damaged (more than {MAX_JSON} bytes)")
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder / 'model.json'}: damaged ({error})") from error
    return _info(content, folder)


def read_tensors(folder: Path, info: ModelInfo) -> dict[str, torch.Tensor]:
    """Read the tensors of a model folder, after its ``model.json``.

    Raises
    ------
    ModelError : the file is damaged, or does not match ``model.json``
    """
    tensors = _tensors(model_folder(folder) / "model.safetensors")
    validate_tensors(folder, info)  # afterwards, to detect a file replaced in the meantime
    return tensors


def read_shapes(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read the types and shapes of the tensors in a model folder, without importing torch.

    Returns
    -------
    shapes : for each tensor, name → (type, shape), e.g. ``("F32", (64, 3, 7, 7))``

    Raises
    ------
    ModelError : no such file, or a damaged one
    """
    from safetensors import SafetensorError, safe_open

    file = model_folder(folder) / "model.safetensors"
    try:
        with safe_open(file, framework="numpy") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118  # no dict
            return {n: (part.get_dtype(), tuple(part.get_shape())) for n, part in parts.items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error


def tensors_hash(folder: Path) -> str:
    """Return a short hash of the tensors, to identify the model that produced a result.

    Raises
    ------
    ModelError : no such file
    """
    file = model_folder(folder) / "model.safetensors"
    try:
        return file_hash(file)
    except OSError as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error


def model_hash(folder: Path, info: ModelInfo) -> str:
    """Return a hash of a model that does not depend on an exported ``model.onnx``."""
    tensors = info.tensors or tensors_hash(folder)
    values = asdict(replace(info, tensors=tensors, onnx=None))
    content = json.dumps(values, sort_keys=True, default=str).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def file_hash(file: Path) -> str:
    """Return a short hash of a file's content.

    Raises
    ------
    OSError : no such file
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.blake2b, digest_size=8)).hexdigest()


def validate_tensors(folder: Path, info: ModelInfo) -> None:
    """Check that the tensors have the hash in ``model.json``, if it has one.

    Raises
    ------
    ModelError : no such file, or the tensors have another hash
    """
    if info.tensors not in (None, tensors_hash(folder)):
        raise ModelError(
            f"{model_folder(folder)}: model.json was written with other tensors than those in "
            "model.safetensors. If the model is being trained, load it again; otherwise copy both "
            "files again"
        )


def model_folder(folder: Path) -> Path:
    """Find the model folder for a path, which may be that of a run, or for ``hf:owner/name``.

    Raises
    ------
    ModelError : a model on the Hugging Face Hub is not available, see `fetch_model`
    """
    if is_hub_name(folder):
        folder = fetch_model(Path(folder).as_posix())
    is_run = not (folder / "model.json").exists() and (folder / "model" / "model.json").exists()
    return folder / "model" if is_run else folder


def _info(content: Any, folder: Path) -> ModelInfo:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelError(f"{folder / 'model.json'}: not a model of this library")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{folder}: format {reprlib.repr(version)} is newer than this library reads "
            f"({FORMAT_VERSION}); update it: pip install -U langid_fastai"
        )
    parts = content | {"format_version": FORMAT_VERSION}
    try:
        if "mel" in parts:
            parts["mel"] = _made(MelConfig, parts["mel"], "mel")
        if isinstance(parts.get("vocab"), list):
            parts["vocab"] = tuple(parts["vocab"])
        if parts.get("encoder") is not None:
            parts["encoder"] = _made(EncoderInfo, parts["encoder"], "encoder")
        parts["calibration"] = _made(Calibration, parts.get("calibration", {}), "calibration")
        return _made(ModelInfo, parts, "the file")
    except (TypeError, ValueError) as error:  # this library's errors are ValueErrors too
        reason = str(error)[:MAX_REASON]
        raise ModelError(f"{folder / 'model.json'}: damaged ({reason})") from error


def _made(kind: type[Checked], content: Any, what: str) -> Checked:
    """Make a dataclass from JSON content, after checking its fields."""
    if not isinstance(content, dict):
        raise ModelError(f"{what} must be an object of names and values")
    if strange := sorted(content.keys() - {part.name for part in fields(kind)}):
        raise ModelError(f"{what} has an unknown field {reprlib.repr(strange[0])}")
    defaults = (MISSING, MISSING)
    needed = {p.name for p in fields(kind) if (p.default, p.default_factory) == defaults}
    if lacking := sorted(needed - content.keys()):
        raise ModelError(f"{what} lacks {', '.join(lacking)}")
    return kind(**content)


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file}: missing or damaged ({error})") from error
