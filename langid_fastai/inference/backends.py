"""A model folder → a function that scores windows, by onnxruntime or by torch.

An engine takes windows, float32 ``(n, n_samples)`` at the model's `sr`, and returns calibrated
log-probabilities, float32 ``(n, n_languages)``. Two engines of one model agree to 1e-3 in
probability.

``model.onnx``, made by ``langid export``, answers from a cold start in a fraction of the time, for
torch is not imported (``benchmarks/first_prediction.py``). It is used where onnxruntime is
installed and it belongs to the model beside it, to its tensors and to its ``model.json``, which
knows the fingerprint of the one exported; ``model.safetensors`` is not needed then. It may come
from a stranger, so it is not believed on its word: what it takes and gives is looked at, and it is
given no other file to read.

Contents: `load_engine`; `torch_score`, its half without a file; `onnx_metadata`, by which a file
tells what it was made of.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import reprlib
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.folder import ModelInfo, file_hash, model_folder, tensors_hash
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.dependencies import needs

if TYPE_CHECKING:
    import onnxruntime
    from torch import nn

__all__ = ["Engine", "load_engine", "onnx_metadata", "torch_score"]

ONNX_FILE = "model.onnx"
# Raised when an older reader would misunderstand the file.
ONNX_FORMAT = 1
# What goes in and what comes out: name, type, number of dimensions.
ONNX_INPUT = ("waveform", "tensor(float)", 2)
ONNX_OUTPUT = ("log_probs", "tensor(float)", 2)

# A string in protobuf is its length, a number of seven bits a byte, and its letters.
LOCATION = b"location"
EIGHT = re.compile(rb"(?:\x08|\x88\x80*\x00)\Z")

# Most pixels, and powers of a Fourier transform, computed at once: 19 images of the usual size.
# Larger ones go in smaller batches, for memory grows with them.
BATCH_PIXELS = 1 << 20
BATCH_POWERS = 1 << 23


@dataclass(frozen=True)
class Engine:
    """What scores windows.

    Parameters
    ----------
    name : of the library that computes
    score : windows, float32 (n, n_samples) → calibrated log-probabilities, float32
        (n, n_languages). It raises ModelError where ``model.onnx`` gives none
    """

    name: Literal["onnx", "torch"]
    score: Callable[[np.ndarray], np.ndarray]


def load_engine(folder: Path, info: ModelInfo) -> Engine:
    """Load the fastest engine that a model folder and this installation allow.

    Parameters
    ----------
    folder : a model folder, or a run folder that holds one
    info : what its ``model.json`` says

    Raises
    ------
    ModelError : damaged files, tensors that are not those of the arch or of ``model.json``, or a
        ``model.onnx`` that takes or gives something else

    Warns
    -----
    UserWarning : there is a ``model.onnx``, but of other tensors or another ``model.json``; it is
        left aside
    """
    folder = model_folder(folder)
    if (folder / ONNX_FILE).exists() and find_spec("onnxruntime"):
        session = _fresh_session(folder, info)
        if session is not None:
            score = _onnx_score(session, folder, len(info.vocab))
            return Engine("onnx", _in_batches(score, info.mel))
    from langid_fastai.models.networks import load_network

    score = torch_score(load_network(folder)[0], info)
    return Engine("torch", _in_batches(score, info.mel))


def onnx_metadata(info: ModelInfo, tensors: str) -> dict[str, str]:
    """What a ``model.onnx`` says of itself, and all that its answers depend on.

    Parameters
    ----------
    info : the model
    tensors : its `tensors_hash`

    Returns
    -------
    metadata : `format`, `vocab` and `mel` (JSON), `sr` (Hz), `clip_seconds`, `temperature` (divided
        by already), `arch`, `tensors`
    """
    return {
        "format": f"langid_fastai-{ONNX_FORMAT}",
        "vocab": json.dumps(info.vocab, ensure_ascii=False),
        "sr": str(info.mel.sr),
        "clip_seconds": str(info.mel.clip_seconds),
        "mel": json.dumps(info.mel.to_dict()),
        "temperature": str(info.calibration.temperature),
        "arch": info.arch,
        "tensors": tensors,
    }


def torch_score(network: nn.Module, info: ModelInfo) -> Callable[[np.ndarray], np.ndarray]:
    """What scores windows by torch, from the very clips of training.

    Parameters
    ----------
    network, info : from `load_network`

    Returns
    -------
    score : see `Engine`
    """
    import torch

    from langid_fastai.clips.features import feature_image
    from langid_fastai.inference.scorers import ImageScorer, SoundScorer

    hears = info.mel.kind == "waveform"
    scorer = (SoundScorer if hears else ImageScorer)(network, info.calibration.temperature).eval()

    def score(windows: np.ndarray) -> np.ndarray:
        clips = windows if hears else np.stack([feature_image(y, info.mel) for y in windows])
        with torch.inference_mode():
            return scorer(torch.from_numpy(clips)).numpy()

    return score


def _fresh_session(folder: Path, info: ModelInfo) -> onnxruntime.InferenceSession | None:
    """Open ``model.onnx``; None, with a warning, where it is not of this model."""
    with needs("onnx", f"{folder / ONNX_FILE}", ModelError):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    # One level below the highest, which reorders all weights for the processor: it loads in a
    # quarter of the time and computes 15 % slower, so the first answer comes sooner.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    _refuse_other_files(folder)
    with ThreadPoolExecutor(max_workers=1) as pool:  # reading 240 MB takes as long as loading them
        fingerprint = pool.submit(file_hash, folder / ONNX_FILE)
        try:
            session = onnxruntime.InferenceSession(
                folder / ONNX_FILE, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise ModelError(
                f"{folder / ONNX_FILE}: damaged ({first_line(error)}); make it anew: "
                f"langid export {folder}"
            ) from error
        if info.onnx not in (None, fingerprint.result()):
            raise ModelError(
                f"{folder / ONNX_FILE}: damaged, or not the one that was exported here; make it "
                f"anew: langid export {folder}"
            )
    wanted = onnx_metadata(info, info.tensors or tensors_hash(folder))
    found = session.get_modelmeta().custom_metadata_map
    differing = sorted(name for name in wanted if found.get(name) != wanted[name])
    if not differing:
        _validate_ends(session, folder)
        return session
    warnings.warn(
        f"{folder / ONNX_FILE} is left aside: it was made of another model than the one beside it, "
        f"of other {', '.join(differing)}; make it anew: langid export {folder}",
        stacklevel=4,
    )
    return None


def _refuse_other_files(folder: Path) -> None:
    """Raise if weights lie in other files, which some versions of onnxruntime would read."""
    try:
        has_others = _names_files(folder / ONNX_FILE)
    except OSError as error:
        raise ModelError(f"{folder / ONNX_FILE}: cannot be read ({error.strerror})") from error
    if has_others:
        raise ModelError(
            f"{folder / ONNX_FILE}: it has weights in other files, which are not read; make it "
            f"anew: langid export {folder}"
        )


def _names_files(file: Path) -> bool:
    """Whether a tensor does: in ``TensorProto.external_data`` of onnx.proto, as "location"."""
    with file.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:  # nothing that could be mapped
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(LOCATION)
            while at >= 0 and not EIGHT.search(content[max(0, at - 10) : at]):  # in another word
                at = content.find(LOCATION, at + 1)
            return at >= 0


def _validate_ends(session: onnxruntime.InferenceSession, folder: Path) -> None:
    """Raise unless it takes waveforms and gives scores, as its metadata promise."""
    for what, ends, wanted in (
        ("takes", session.get_inputs(), ONNX_INPUT),
        ("gives", session.get_outputs(), ONNX_OUTPUT),
    ):
        found = [(end.name, end.type, len(end.shape)) for end in ends]
        if found != [wanted]:
            told = reprlib.repr(found)
            raise _not_the_model(folder, f"it {what} {told} (name, type, dimensions), not {wanted}")


def _onnx_score(
    session: onnxruntime.InferenceSession, folder: Path, n_languages: int
) -> Callable[[np.ndarray], np.ndarray]:
    def score(windows: np.ndarray) -> np.ndarray:
        try:
            [scores] = session.run([ONNX_OUTPUT[0]], {ONNX_INPUT[0]: windows})
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise _not_the_model(folder, first_line(error)) from error
        if scores.shape != (len(windows), n_languages):
            raise _not_the_model(
                folder,
                f"it gives scores of shape {scores.shape} for {len(windows)} windows and "
                f"{n_languages} languages",
            )
        return scores

    return score


def _not_the_model(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"{folder / ONNX_FILE} is not the model beside it ({reason}); make it anew: "
        f"langid export {folder}, or remove it"
    )


def _in_batches(
    score: Callable[[np.ndarray], np.ndarray], config: MelConfig
) -> Callable[[np.ndarray], np.ndarray]:
    """Score no more windows at once than there is reasonably memory for."""
    height, width = config.shape
    n_bins = 1 + config.n_fft // 2
    n = max(1, min(BATCH_PIXELS // (height * width), BATCH_POWERS // (n_bins * width)))

    def score_all(windows: np.ndarray) -> np.ndarray:
        return np.concatenate([score(windows[i : i + n]) for i in range(0, len(windows), n)])

    return score_all
