"""A convolutional recurrent network for spectrograms, to be trained from scratch.

::

    spectrogram_crnn              4 blocks; 32, 64, 128 and 256 channels; LSTM, 2 × 128 units
    spectrogram_crnn-w16-d3-u64   3 blocks, the first of 16 channels; 2 × 64 units

The blocks are those of `langid_fastai.models.spectrogram_cnn`, but only the first two pool over
time, so a step of the recurrent layer is 93 ms with the default images. They are followed by the
maximum and mean over the remaining bands, a bidirectional LSTM (Hochreiter and Schmidhuber 1997)
over time, the maximum and mean over time, dropout of 0.5 and a dense layer with one output per
language. Images of any size are accepted.

C. Bartz, T. Herold, H. Yang and C. Meinel use a similar network for the same task ("Language
identification using deep convolutional recurrent neural networks", ICONIP 2017, arXiv:1708.04811).
A GRU would be a quarter smaller, but torch 2.14 cannot export one to ONNX after pooling over time.

Conventions: ``Sequential(body, head)``, like every network of this library; the input is ``(n, 3,
height, width)``, the output ``(n, n_languages)``, unnormalised log-probabilities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from langid_fastai.errors import ModelError
from langid_fastai.models.raw_waveform import load_trained_body
from langid_fastai.models.spectrogram_cnn import MAX_DEPTH, MAX_WIDTH, CnnLayers, convolution_block

__all__ = ["ARCH", "build_spectrogram_crnn", "crnn_layers", "is_spectrogram_crnn"]

ARCH = "spectrogram_crnn"
NAME = re.compile(rf"{ARCH}(?:-w(?P<width>\d+))?(?:-d(?P<depth>\d+))?(?:-u(?P<units>\d+))?")
MAX_UNITS = 512
# Blocks that also pool over time.
N_POOLED = 2


@dataclass(frozen=True)
class CrnnLayers:
    """Layers of a spectrogram CRNN, parsed from its name.

    Parameters
    ----------
    convolutions : the convolution blocks
    units : number of units of the recurrent layer per direction
    """

    convolutions: CnnLayers = field(default_factory=CnnLayers)
    units: int = 128


def is_spectrogram_crnn(arch: str) -> bool:
    """Return whether a name is that of a network of this module.

    Parameters
    ----------
    arch : name of any network
    """
    return arch == ARCH or arch.startswith(f"{ARCH}-")


def crnn_layers(arch: str) -> CrnnLayers:
    """Parse the name of a network.

    Parameters
    ----------
    arch : ``spectrogram_crnn``, optionally followed by ``-w<width>``, ``-d<depth>`` and
        ``-u<units>``, in this order

    Raises
    ------
    ModelError : the name has another form, or a width, depth or number of units is out of bounds

    Examples
    --------
    >>> layers = crnn_layers("spectrogram_crnn-w16-u64")
    >>> layers.convolutions.channels, layers.units
    ([16, 32, 64, 128], 64)
    """
    match = NAME.fullmatch(arch)
    if match is None:
        raise ModelError(
            f"arch {arch!r} must be {ARCH}, optionally followed by -w<width>, -d<depth> and "
            f"-u<units>, in this order, e.g. {ARCH}-w16-d3-u64"
        )
    usual = CrnnLayers()
    width = int(match["width"] or usual.convolutions.width)
    depth = int(match["depth"] or usual.convolutions.depth)
    units = int(match["units"] or usual.units)
    if not (1 <= width <= MAX_WIDTH and 1 <= depth <= MAX_DEPTH and 1 <= units <= MAX_UNITS):
        raise ModelError(
            f"arch {arch!r}: width must be 1 to {MAX_WIDTH}, depth 1 to {MAX_DEPTH}, units 1 to "
            f"{MAX_UNITS}"
        )
    return CrnnLayers(CnnLayers(width, depth), units)


def build_spectrogram_crnn(
    arch: str, n_languages: int, *, weights: str | Path = "none"
) -> nn.Sequential:
    """Build a spectrogram CRNN; the head has random weights.

    Parameters
    ----------
    arch : see `crnn_layers`
    n_languages : number of outputs
    weights : ``none``, or a model folder of the same arch

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : an invalid name, or weights that do not fit

    Examples
    --------
    >>> network = build_spectrogram_crnn("spectrogram_crnn-w8-d3-u16", 3)
    >>> network(torch.zeros(2, 3, 64, 101)).shape
    torch.Size([2, 3])
    """
    layers = crnn_layers(arch)
    channels = layers.convolutions.channels
    ins = [3, *channels[:-1]]
    blocks = [
        convolution_block(n_in, n_out, has_norm=True, pool=(2, 2) if i < N_POOLED else (2, 1))
        for i, (n_in, n_out) in enumerate(zip(ins, channels, strict=True))
    ]
    body = nn.Sequential(*blocks, _Recurrent(channels[-1], layers.units))
    head = nn.Sequential(_OverTime(), nn.Dropout(0.5), nn.Linear(4 * layers.units, n_languages))
    if str(weights) != "none":
        load_trained_body(body, arch, Path(weights))
    return nn.Sequential(body, head)


class _Recurrent(nn.Module):
    """Apply the LSTM: (n, n_channels, height, width) → (n, 2 n_units, width)."""

    def __init__(self, n_channels: int, n_units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2 * n_channels, n_units, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)  # (n, 2 n_channels, width)
        return self.lstm(steps.transpose(1, 2))[0].transpose(1, 2)


class _OverTime(nn.Module):
    """Pool maximum and mean over time: (n, n_features, width) → (n, 2 n_features)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
