"""Load a model folder as a function that scores windows, with onnxruntime or torch.

An engine takes windows, float32 ``(n, n_samples)`` at the model's `sr`, and returns calibrated
log-probabilities, float32 ``(n, n_languages)``. Probabilities from torch and onnxruntime differ by
at most 1e-3. The first step, from a window to a clip, needs no network and can be run in another
process.

With ``model.onnx``, made by ``langid export``, a new process answers much sooner, since torch is
not imported (``benchmarks/first_prediction.py``). It is used if onnxruntime is installed and the
file is the one exported from the tensors and the ``model.json`` in the same folder;
``model.json`` stores its fingerprint. ``model.safetensors`` is then not needed. The file may be
untrusted: its inputs and outputs are checked, and references to other files are refused.

Contents: `Engine`; `load_engine`; `torch_engine`; `onnx_metadata`, the metadata that identify the
exported model.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from langid_fastai.audio.levels import remove_offset
from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.folder import file_hash, model_folder, tensors_hash
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.dependencies import needs
from langid_fastai.utils.environment import find_device

if TYPE_CHECKING:
    import onnxruntime
    import torch
    from torch import nn

__all__ = [
    "Engine",
    "Precision",
    "load_engine",
    "one_thread",
    "onnx_metadata",
    "scoring_threads",
    "torch_engine",
]

Precision = Literal["fp32", "bf16", "fp16"]

ONNX_FILE = "model.onnx"
# Version of the format, increased when older code would misinterpret the file.
ONNX_FORMAT = 1
# Name, type and number of dimensions of the input and the output.
ONNX_INPUT = ("waveform", "tensor(float)", 2)
ONNX_OUTPUT = ("log_probs", "tensor(float)", 2)

# A protobuf string is its length, as a varint, followed by its bytes.
LOCATION = b"location"
EIGHT = re.compile(rb"(?:\x08|\x88\x80*\x00)\Z")

# Maximum numbers of pixels and of STFT bins per batch: 19 images of the usual size. Larger images
# are scored in smaller batches, to limit memory.
BATCH_PIXELS = 1 << 20
BATCH_POWERS = 1 << 23


@dataclass(frozen=True)
class Engine:
    """A function that scores windows, in two steps.

    Parameters
    ----------
    name : library that runs the network
    score_clips : function from clips, (n, …), to calibrated log-probabilities, float32
        (n, n_languages); raises ModelError if ``model.onnx`` fails
    clip_of : function from a window, float32 (n_samples,), to a clip, the input of the network such
        as an image; can be pickled; None if the input of the network is the window
    on_gpu : whether the network runs on a GPU, where larger batches are faster
    """

    name: Literal["onnx", "torch"]
    score_clips: Callable[[np.ndarray], np.ndarray]
    clip_of: Callable[[np.ndarray], np.ndarray] | None = None
    on_gpu: bool = False

    @property
    def n_threads(self) -> int:
        """Number of batches to score at the same time, see `scoring_threads`."""
        if self.name == "onnx" or self.on_gpu:
            return 1
        return sys.modules["torch"].get_num_threads()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """Score windows, float32 (n, n_samples), in both steps."""
        clips = windows if self.clip_of is None else np.stack([self.clip_of(y) for y in windows])
        return self.score_clips(clips)


def load_engine(
    folder: Path,
    info: ModelInfo,
    *,
    device: str | None = "cpu",
    precision: Precision = "fp32",
    quick_start: bool = True,
) -> Engine:
    """Load the fastest engine that a model folder and this installation support.

    Parameters
    ----------
    folder : a model folder, or a run folder that contains one
    info : content of its ``model.json``
    device : ``cpu``; ``cuda`` or ``cuda:1`` for torch on a GPU; None for a GPU if torch finds one,
        otherwise the CPU and all execution providers of the installed onnxruntime
    precision : precision of the network; ``bf16`` and ``fp16`` need torch, ``fp16`` also a GPU
    quick_start : whether to load ``model.onnx`` faster at the cost of 15 % slower computation

    Raises
    ------
    ModelError : a file is damaged, the tensors do not match the arch or ``model.json``,
        ``model.onnx`` has other inputs or outputs, or the device does not exist

    Warns
    -----
    UserWarning : ``model.onnx`` is ignored, since it was exported from other tensors or another
        ``model.json``
    """
    folder = model_folder(folder)
    kind = "cpu" if (device, precision) == ("cpu", "fp32") else _device(device, precision).type
    by_onnx = (kind, precision) == ("cpu", "fp32") and find_spec("onnxruntime")
    if by_onnx and (folder / ONNX_FILE).exists():
        session = _fresh_session(folder, info, device, quick_start)
        if session is not None:
            score = _onnx_score(session, folder, len(info.vocab))
            return Engine("onnx", _in_batches(score, info.mel))
    from langid_fastai.models.networks import load_network

    return torch_engine(load_network(folder)[0], info, device=device, precision=precision)


def one_thread() -> None:
    """Limit torch to one thread in a worker process; do nothing if torch is not imported.

    Worker processes share the cores. After a fork, moreover, the threads of the parent process do
    not exist in the child, and GNU's OpenMP would wait for them forever.
    """
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


@contextmanager
def scoring_threads(engine: Engine) -> Iterator[ThreadPoolExecutor]:
    """Start threads that score batches; at the end, batches that were not begun are cancelled.

    With torch on a CPU, each thread scores another batch on one core: 1.5 times as fast for a small
    network (``speech_embedding``, 2 cores) as all cores working on one batch. Until the end, torch
    uses one core in new threads of the program.
    """
    n_threads = engine.n_threads
    pool = ThreadPoolExecutor(n_threads, initializer=one_thread if n_threads > 1 else None)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if n_threads > 1:  # torch gives new threads the number that was set last
            sys.modules["torch"].set_num_threads(n_threads)


def onnx_metadata(info: ModelInfo, tensors: str) -> dict[str, str]:
    """Return the metadata of ``model.onnx``: everything that its answers depend on.

    Parameters
    ----------
    info : content of ``model.json``
    tensors : fingerprint of the tensors, from `tensors_hash`

    Returns
    -------
    metadata : `format`, `vocab` and `mel` (JSON), `sr` (Hz), `clip_seconds`, `temperature` (already
        applied), `arch`, `tensors`
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


def torch_engine(
    network: nn.Module,
    info: ModelInfo,
    *,
    device: str | None = "cpu",
    precision: Precision = "fp32",
) -> Engine:
    """Make an engine that scores with torch.

    Parameters
    ----------
    network, info : from `load_network`
    device, precision : see `load_engine`
    """
    import torch

    from langid_fastai.clips.image_kinds import feature_image
    from langid_fastai.inference.scorers import ImageScorer, SoundScorer

    place = _device(device, precision)
    is_sound = info.mel.kind == "waveform"
    scorer = (SoundScorer if is_sound else ImageScorer)(network, info.calibration.temperature)
    # In this memory format CPUs and GPUs convolve without reordering first.
    scorer = scorer.eval().to(place).to(memory_format=torch.channels_last)

    def score(clips: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), _arithmetic(place, precision):
            return scorer(torch.from_numpy(clips).to(place)).float().cpu().numpy()

    clip_of = None if is_sound else partial(feature_image, config=info.mel)
    if place.type != "cpu":  # on a GPU, the caller chooses the batch size
        return Engine("torch", score, clip_of, on_gpu=True)
    return Engine("torch", _in_batches(score, info.mel), clip_of)


def _device(name: str | None, precision: Precision) -> torch.device:
    """Return the device with this name; raise unless it exists and supports the precision."""
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = find_device(name)
    if precision not in get_args(Precision):
        raise ModelError(f"precision={precision!r} must be one of {', '.join(get_args(Precision))}")
    if precision == "fp16" and device.type == "cpu":
        raise ModelError("precision='fp16' needs a GPU; choose 'bf16' or 'fp32'")
    return device


def _arithmetic(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    import torch

    if precision != "fp32":
        dtype = torch.bfloat16 if precision == "bf16" else torch.float16
        return torch.autocast(device.type, dtype)
    if device.type == "cuda":  # by default, convolutions use TF32, with only 10 bits
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=False, allow_tf32=False
        )
    return nullcontext()


def _fresh_session(
    folder: Path, info: ModelInfo, device: str | None, quick_start: bool
) -> onnxruntime.InferenceSession | None:
    """Open ``model.onnx``; return None and warn if it was exported from another model."""
    with needs("onnx", f"{folder / ONNX_FILE}", ModelError):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    # The highest level reorders all weights for the processor. One level below loads in a quarter
    # of the time and computes 15 % slower, so the first answer comes sooner.
    if quick_start:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    providers = ["CPUExecutionProvider"]
    if device is None:
        providers = onnxruntime.get_available_providers()
    _refuse_other_files(folder)
    with ThreadPoolExecutor(max_workers=1) as pool:  # reading 240 MB takes as long as loading them
        fingerprint = pool.submit(file_hash, folder / ONNX_FILE)
        try:
            session = onnxruntime.InferenceSession(folder / ONNX_FILE, options, providers=providers)
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise ModelError(
                f"{folder / ONNX_FILE}: damaged ({first_line(error)}); export it again: "
                f"langid export {folder}"
            ) from error
        if info.onnx not in (None, fingerprint.result()):
            raise ModelError(
                f"{folder / ONNX_FILE}: damaged, or not the file that was exported here; export it "
                f"again: langid export {folder}"
            )
    wanted = onnx_metadata(info, info.tensors or tensors_hash(folder))
    found = session.get_modelmeta().custom_metadata_map
    differing = sorted(name for name in wanted if found.get(name) != wanted[name])
    if not differing:
        _validate_ends(session, folder)
        return session
    warnings.warn(
        f"{folder / ONNX_FILE} is ignored: it was exported from another model than the one in its "
        f"folder, with other {', '.join(differing)}; export it again: langid export {folder}",
        stacklevel=4,
    )
    return None


def _refuse_other_files(folder: Path) -> None:
    """Raise if ``model.onnx`` refers to other files: some versions of onnxruntime read them."""
    try:
        has_others = _names_files(folder / ONNX_FILE)
    except OSError as error:
        raise ModelError(f"{folder / ONNX_FILE}: cannot be read ({error.strerror})") from error
    if has_others:
        raise ModelError(
            f"{folder / ONNX_FILE}: it has weights in other files, which are not read; export it "
            f"again: langid export {folder}"
        )


def _names_files(file: Path) -> bool:
    """Return whether a tensor refers to a file by "location" in ``TensorProto.external_data``."""
    with file.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:  # an empty file cannot be mapped
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(LOCATION)
            while at >= 0 and not EIGHT.search(content[max(0, at - 10) : at]):  # in a longer word
                at = content.find(LOCATION, at + 1)
            return at >= 0


def _validate_ends(session: onnxruntime.InferenceSession, folder: Path) -> None:
    """Check that the input is waveforms and the output scores, as described in the metadata."""
    for what, ends, wanted in (
        ("takes", session.get_inputs(), ONNX_INPUT),
        ("returns", session.get_outputs(), ONNX_OUTPUT),
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
            # Files exported by the first versions do not remove the offset, so it is removed here.
            [scores] = session.run([ONNX_OUTPUT[0]], {ONNX_INPUT[0]: remove_offset(windows)})
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise _not_the_model(folder, first_line(error)) from error
        if scores.shape != (len(windows), n_languages):
            raise _not_the_model(
                folder,
                f"it returns scores of shape {scores.shape} for {len(windows)} windows and "
                f"{n_languages} languages",
            )
        return scores

    return score


def _not_the_model(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"{folder / ONNX_FILE} does not match the model in its folder ({reason}); export it again: "
        f"langid export {folder}, or remove it"
    )


def _in_batches(
    score: Callable[[np.ndarray], np.ndarray], config: MelConfig
) -> Callable[[np.ndarray], np.ndarray]:
    """Limit the number of windows scored at once, to limit memory."""
    height, width = config.shape
    n_bins = 1 + config.n_fft // 2
    n = max(1, min(BATCH_PIXELS // (height * width), BATCH_POWERS // (n_bins * width)))

    def score_all(windows: np.ndarray) -> np.ndarray:
        return np.concatenate([score(windows[i : i + n]) for i in range(0, len(windows), n)])

    return score_all
