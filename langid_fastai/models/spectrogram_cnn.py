"""A plain convolutional network for spectrograms, to be trained from scratch.

::

    spectrogram_cnn               4 blocks; 32, 64, 128 and 256 channels; 0.45 million parameters
    spectrogram_cnn-w64-d5        5 blocks, the first of 64 channels
    spectrogram_cnn-w16-plain     no batch norm

A block is a 3 × 3 convolution with zero padding, batch norm, ReLU, and 2 × 2 maximum pooling; each
block has twice the channels of the previous one, up to 512. The head is the maximum and mean of
each feature map, a dense layer of 128 units, dropout of 0.5 (Srivastava et al. 2014) and a dense
layer with one output per language. Images of any size are accepted.

``-plain`` omits batch norm (Ioffe and Szegedy 2015), as in VGG (Simonyan and Zisserman 2014); such
a network needs a lower learning rate.

Conventions: ``Sequential(body, head)``, like every network of this library; the input is ``(n, 3,
height, width)``, the output ``(n, n_languages)``, unnormalised log-probabilities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from langid_fastai.errors import ModelError
from langid_fastai.models.raw_waveform import load_trained_body

__all__ = [
    "ARCH",
    "MAX_DEPTH",
    "MAX_WIDTH",
    "CnnLayers",
    "build_spectrogram_cnn",
    "cnn_layers",
    "convolution_block",
    "is_spectrogram_cnn",
]

ARCH = "spectrogram_cnn"
NAME = re.compile(rf"{ARCH}(?:-w(?P<width>\d+))?(?:-d(?P<depth>\d+))?(?P<plain>-plain)?")
# Limits on the size of a network from an untrusted model folder: at most 15 million parameters.
MAX_WIDTH, MAX_DEPTH, MAX_CHANNELS = 256, 8, 512
N_DENSE = 128


@dataclass(frozen=True)
class CnnLayers:
    """Layers of a spectrogram CNN, parsed from its name.

    Parameters
    ----------
    width : number of channels of the first block
    depth : number of blocks
    has_norm : whether batch norm follows each convolution
    """

    width: int = 32
    depth: int = 4
    has_norm: bool = True

    @property
    def channels(self) -> list[int]:
        """Return the number of channels of each block."""
        return [min(self.width << i, max(self.width, MAX_CHANNELS)) for i in range(self.depth)]


def is_spectrogram_cnn(arch: str) -> bool:
    """Return whether a name is that of a network of this module.

    Parameters
    ----------
    arch : name of any network
    """
    return arch == ARCH or arch.startswith(f"{ARCH}-")


def cnn_layers(arch: str) -> CnnLayers:
    """Parse the name of a network.

    Parameters
    ----------
    arch : ``spectrogram_cnn``, optionally followed by ``-w<width>``, ``-d<depth>`` and ``-plain``,
        in this order

    Raises
    ------
    ModelError : the name has another form, or a width or depth is out of bounds

    Examples
    --------
    >>> cnn_layers("spectrogram_cnn-w64-d5").channels
    [64, 128, 256, 512, 512]
    """
    match = NAME.fullmatch(arch)
    if match is None:
        raise ModelError(
            f"arch {arch!r} must be {ARCH}, optionally followed by -w<width>, -d<depth> and "
            f"-plain, in this order, e.g. {ARCH}-w64-d5"
        )
    usual = CnnLayers()
    width, depth = int(match["width"] or usual.width), int(match["depth"] or usual.depth)
    if not (1 <= width <= MAX_WIDTH and 1 <= depth <= MAX_DEPTH):
        raise ModelError(f"arch {arch!r}: width must be 1 to {MAX_WIDTH}, depth 1 to {MAX_DEPTH}")
    return CnnLayers(width, depth, match["plain"] is None)


def build_spectrogram_cnn(
    arch: str, n_languages: int, *, weights: str | Path = "none"
) -> nn.Sequential:
    """Build a spectrogram CNN; the head has random weights.

    Parameters
    ----------
    arch : see `cnn_layers`
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
    >>> network = build_spectrogram_cnn("spectrogram_cnn-w8-d3", 3)
    >>> network(torch.zeros(2, 3, 64, 101)).shape
    torch.Size([2, 3])
    """
    layers = cnn_layers(arch)
    channels = layers.channels
    ins = [3, *channels[:-1]]
    body = nn.Sequential(
        *(
            convolution_block(*pair, has_norm=layers.has_norm)
            for pair in zip(ins, channels, strict=True)
        )
    )
    head = nn.Sequential(
        _MaxAndMean(),
        nn.Flatten(),
        nn.Linear(2 * channels[-1], N_DENSE),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(N_DENSE, n_languages),
    )
    if str(weights) != "none":
        load_trained_body(body, arch, Path(weights))
    return nn.Sequential(body, head)


def convolution_block(
    n_in: int, n_out: int, *, has_norm: bool, pool: tuple[int, int] = (2, 2)
) -> nn.Sequential:
    """Make a block of 3 × 3 convolution, batch norm, ReLU and maximum pooling.

    Parameters
    ----------
    n_in, n_out : number of input and output channels
    has_norm : whether batch norm follows the convolution
    pool : height and width of the pooling window; the last window may be incomplete
    """
    convolution = nn.Conv2d(n_in, n_out, 3, padding="same", bias=not has_norm)
    # With torch's smaller default weights, the signal would vanish in blocks without norm.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    norm = [nn.BatchNorm2d(n_out)] if has_norm else []
    pooling = nn.MaxPool2d(pool, ceil_mode=True)
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True), pooling)


class _MaxAndMean(nn.Module):
    """Pool maximum and mean of each map: (n, n_features, h, w) → (n, 2 n_features)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)
