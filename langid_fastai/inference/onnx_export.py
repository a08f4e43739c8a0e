"""Export a model folder to ``model.onnx``: waveform in, calibrated log-probabilities out.

::

    waveform   float32, (batch, n_samples), mono, in [-1, 1], at the `sr` of the metadata
    log_probs  float32, (batch, n_languages), natural logarithm, calibrated; columns as in `vocab`

The file contains the whole pipeline: STFT, mel scale, decibels, 8-bit rounding, normalisation,
network, temperature; for a network that takes waveforms, only the last two. It accepts any batch
size and length. However, recordings should be cut into clips of `clip_seconds`, as in training,
shorter ones repeated, and the log-probabilities of clips averaged, as by `LanguageIdentifier`. The
scores of a silent clip are meaningless: detect silence first.

Everything else that is needed is in the metadata of the file (`onnx_metadata`), so it can be used
without this library, in any programming language supported by onnxruntime.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from langid_fastai.audio.files import stream_audio, usual_channel
from langid_fastai.audio.levels import is_silent, validate_waveform
from langid_fastai.errors import AudioError, ModelError, first_line
from langid_fastai.inference.backends import ONNX_FILE, onnx_metadata, torch_engine
from langid_fastai.inference.scorers import make_scorer
from langid_fastai.models.folder import file_hash, model_folder, read_info, tensors_hash, write_info
from langid_fastai.models.hub import hub_name, is_hub_name
from langid_fastai.models.networks import load_network
from langid_fastai.preprocessing import MelConfig, clips_of
from langid_fastai.utils.dependencies import require
from langid_fastai.utils.files import replacing
from langid_fastai.utils.progress import Steps

__all__ = ["OPSET", "OnnxExport", "export_onnx"]

# STFT needs 17 or later; onnxruntime supports 20 since its version 1.17.
OPSET = 20
# Harmless warnings of torch's exporter for recurrent layers.
EXPORTER_WARNINGS = (
    r"The tensor attributes .*_flat_weights",
    r"The \.grad attribute of a Tensor that is not a leaf",
)
# Maximum difference of a probability between torch and onnxruntime.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class OnnxExport:
    """Result of an export, and its agreement with torch.

    Parameters
    ----------
    file : the ONNX file
    opset : version of the ONNX operator set
    n_clips : number of clips in the comparison
    n_same : number of clips with the same language from onnxruntime and torch
    difference : maximum difference between their probabilities
    """

    file: Path
    opset: int
    n_clips: int
    n_same: int
    difference: float


def export_onnx(folder: str | Path, recordings: Sequence[str | Path] = ()) -> OnnxExport:
    """Write ``model.onnx`` into a model folder, check it, and compare it with torch.

    Parameters
    ----------
    folder : a model folder, or a run folder that contains one
    recordings : paths of recordings for the comparison, in addition to synthetic audio

    Returns
    -------
    export : the file and the result of the comparison; `LanguageIdentifier.load` now uses the file
        on a CPU

    Raises
    ------
    ModelError : the folder contains no model, the extra `onnx` is not installed, the network cannot
        be exported, or probabilities differ by more than 1e-3, in which case no file is written
    AudioError : a recording is silent or cannot be read

    Examples
    --------
    ::

        export_onnx("runs/demo").difference
    """
    _need_onnx()
    if is_hub_name(folder):
        name, _ = hub_name(folder)
        raise ModelError(
            f"{folder}: an export is written into the model folder, so it needs one on this "
            f"machine: hf download {name} --local-dir FOLDER"
        )
    folder = model_folder(Path(folder))
    info = read_info(folder)
    clips = [*_made_up(info.mel), *_clips(recordings, info.mel)]  # may raise, so it comes early
    tensors = tensors_hash(folder)
    network, info = load_network(folder)
    if tensors_hash(folder) != tensors:
        raise ModelError(
            f"{folder}: its tensors changed while they were read; is the model being trained? "
            "Export it afterwards"
        )
    scorer = make_scorer(network, info)
    with replacing(folder / ONNX_FILE) as unfinished:
        with Steps("exporting to ONNX"):
            _write(scorer, info.mel, onnx_metadata(info, tensors), unfinished)
        with Steps("comparing with PyTorch"):
            n_same, difference = _compare(torch_engine(network, info).score, unfinished, clips)
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{folder}: probabilities from onnxruntime and torch differ by {difference:.1g}, "
                f"more than {TOLERANCE:g}; no file is written. Are the model's scores finite?"
            )
        fingerprint = file_hash(unfinished)
        write_info(folder, replace(info, onnx=None))  # never the fingerprint of another file
    write_info(folder, replace(info, onnx=fingerprint))
    return OnnxExport(folder / ONNX_FILE, OPSET, len(clips), n_same, difference)


def _need_onnx() -> None:
    libraries = ("onnx", "onnxruntime", "onnxscript")  # torch's exporter is written with the last
    require("onnx", "an export", *libraries, error_type=ModelError)


def _write(scorer: nn.Module, config: MelConfig, metadata: dict[str, str], file: Path) -> None:
    """Export the scorer to a file, add the metadata, and check the file with onnx."""
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    example = torch.zeros(2, config.n_samples)
    try:
        with warnings.catch_warnings():
            for message in EXPORTER_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            program = torch.onnx.export(
                scorer,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["waveform"],
                output_names=["log_probs"],
                dynamic_shapes={"waveform": {0: "batch", 1: "n_samples"}},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = first_line(error.__cause__ or error)
        raise ModelError(
            f"arch {metadata['arch']!r} cannot be exported ({reason}); "
            "`langid predict` works without model.onnx"
        ) from error
    program = cast("torch.onnx.ONNXProgram", program)  # None is returned only by the older exporter
    # torch records the source lines of each node, with paths on this machine.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.update(metadata)
    program.save(file, external_data=False)
    onnx.checker.check_model(file, full_check=True)


def _compare(
    score: Callable[[np.ndarray], np.ndarray], file: Path, clips: Sequence[np.ndarray]
) -> tuple[int, float]:
    """Compare scores from the file with those of torch on images made as in training.

    The file is run on each clip alone, on two at once, and on a longer one, to test other sizes.

    Returns
    -------
    n_same : number of clips with the same most probable language
    difference : maximum difference between the probabilities
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def both(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            [theirs] = session.run(None, {"waveform": batch})
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise ModelError(
                f"{file.parent}: onnxruntime does not take {batch.shape[0]} × {batch.shape[1]} "
                f"samples ({first_line(error)}); no file is written. `langid predict` works without"
            ) from error
        return np.exp(score(batch)), np.exp(theirs)

    longer = np.concatenate([clips[0], clips[1][: len(clips[1]) // 3]])
    alone = [both(y[None]) for y in clips]
    pairs = [*alone, both(np.stack(clips[:2])), both(longer[None])]
    n_same = sum(bool(ours.argmax() == theirs.argmax()) for ours, theirs in alone)
    return n_same, float(max(np.abs(ours - theirs).max() for ours, theirs in pairs))


def _clips(recordings: Sequence[str | Path], config: MelConfig) -> list[np.ndarray]:
    """Read the first clip of each recording."""
    clips = []
    for recording in recordings:
        channel = usual_channel(recording, config.channel)
        blocks = stream_audio(recording, sr=config.sr, channel=channel)
        clip = next(y for _, y in clips_of(blocks, config))
        if is_silent(validate_waveform(clip), config.sr):
            raise AudioError(f"{recording}: silent; compare on speech")
        clips.append(clip)
    return clips


def _made_up(config: MelConfig) -> list[np.ndarray]:
    """Synthesise four sounds that vary like speech: noise and a buzz of changing amplitude."""
    rng = np.random.default_rng(0)
    t = np.arange(config.n_samples) / config.sr
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)  # syllables, 3 per second
    buzz = np.mod(t * 120, 1.0) - 0.5  # 120 Hz, all its harmonics
    noises = rng.standard_normal((3, config.n_samples)) / 10
    sounds = [noises[0], swell * noises[1], swell * buzz / 2, buzz * swell**4 + noises[2] / 100]
    return [y.astype(np.float32) for y in sounds]
