"""Networks that take waveforms: M3, M5, M11, M18 and M34-res.

W. Dai, C. Dai, S. Qu, J. Li and S. Das, "Very deep convolutional neural networks for raw
waveforms", ICASSP 2017, https://arxiv.org/abs/1610.00087, table 1: a first convolution over 80
samples (10 ms at 8 kHz) with stride 4, then convolutions over 3, each followed by batch norm and
ReLU; maximum pooling by 4 between the groups, and the mean over time at the end; no dropout, and
only the last layer is fully connected. The number in a name is the number of layers with weights.

========  ====  ===========================================  ================  =================
          1st   groups, each ended by pooling by 4           parameters        in the paper
========  ====  ===========================================  ================  =================
m3        256   256 | pool                                   0.22 million      0.2 million
m5        128   128 | 256 | 512 | pool                       0.56 million      0.5 million
m11        64   64 × 2 | 128 × 2 | 256 × 3 | 512 × 2         1.78 million      1.8 million
m18        64   64 × 4 | 128 × 4 | 256 × 4 | 512 × 4         3.68 million      3.7 million
m34-res    48   3, 4, 6 and 3 residual blocks of two:        4.07 million      4 million
                48 | 96 | 192 | 384
========  ====  ===========================================  ================  =================

Parameters are counted with 10 outputs, as in the paper.

The paper leaves two things open: here, the network normalises each clip to mean 0 and deviation 1,
so the level has no effect; and where a residual block widens, its shortcut is a convolution over
one sample, as in He et al. 2016 (arXiv:1512.03385, option B).

With ``-light`` after the name (``m5-light``), the first layer has a stride of 16 and 32 channels,
and all other layers have proportionally fewer. This takes a fraction of the computation, for tasks
that need few features, such as counting speakers.

Conventions: ``Sequential(body, head)``, like every network of this library; the input is
``(n, 1, n_samples)`` of any level, the output ``(n, n_languages)``, unnormalised log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from langid_fastai.clips.waveforms import RAW_ARCHS
from langid_fastai.errors import ModelError, first_line
from langid_fastai.models.folder import read_model

__all__ = ["RawLayers", "build_raw_network", "load_trained_body", "raw_layers"]

FIRST_KERNEL = 80  # samples
POOL = 4
LIGHT_STRIDE, LIGHT_CHANNELS = 16, 32
# Minimum standard deviation that a clip is divided by: that of a silent clip is 0.
EPSILON = 1e-5


@dataclass(frozen=True)
class RawLayers:
    """The layers of a network.

    Parameters
    ----------
    first : channels of the first convolution
    groups : for each group, the number of convolutions (or residual blocks of two) and channels
    stride : stride of the first convolution
    is_residual : whether groups consist of residual blocks instead of single convolutions
    pools_last : whether pooling also follows the last group
    """

    first: int
    groups: tuple[tuple[int, int], ...]
    stride: int = 4
    is_residual: bool = False
    pools_last: bool = False


LAYERS = {
    "m3": RawLayers(256, ((1, 256),), pools_last=True),
    "m5": RawLayers(128, ((1, 128), (1, 256), (1, 512)), pools_last=True),
    "m11": RawLayers(64, ((2, 64), (2, 128), (3, 256), (2, 512))),
    "m18": RawLayers(64, ((4, 64), (4, 128), (4, 256), (4, 512))),
    "m34-res": RawLayers(48, ((3, 48), (4, 96), (6, 192), (3, 384)), is_residual=True),
}


def raw_layers(arch: str) -> RawLayers:
    """Return the layers of a network by name.

    Parameters
    ----------
    arch : one of `RAW_ARCHS`

    Raises
    ------
    ModelError : unknown name

    Examples
    --------
    >>> light = raw_layers("m5-light")
    >>> light.stride, light.first, light.groups
    (16, 32, ((1, 32), (1, 64), (1, 128)))
    """
    if arch not in RAW_ARCHS:
        raise ModelError(f"arch {arch!r} must be one of {', '.join(RAW_ARCHS)}")
    full = LAYERS[arch.removesuffix("-light")]
    if not arch.endswith("-light"):
        return full
    groups = tuple((n, width * LIGHT_CHANNELS // full.first) for n, width in full.groups)
    return replace(full, first=LIGHT_CHANNELS, groups=groups, stride=LIGHT_STRIDE)


def build_raw_network(
    arch: str, n_languages: int, *, weights: str | Path = "none"
) -> nn.Sequential:
    """Build a network for raw waveforms; the head has random weights.

    Parameters
    ----------
    arch : one of `RAW_ARCHS`
    n_languages : number of outputs
    weights : ``none``, or a model folder of the same arch

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : unknown name, or weights that do not fit

    Examples
    --------
    >>> network = build_raw_network("m5", 3)
    >>> network(torch.zeros(2, 1, 32_000)).shape
    torch.Size([2, 3])
    """
    layers = raw_layers(arch)
    body = _body(layers)
    width = layers.groups[-1][1]
    head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_languages))
    if str(weights) != "none":
        load_trained_body(body, arch, Path(weights))
    return nn.Sequential(body, head)


def load_trained_body(body: nn.Module, arch: str, folder: Path) -> None:
    """Load the weights of a trained body, for networks without published weights.

    Parameters
    ----------
    body : new body of the same arch, changed in place
    arch : name of the network
    folder : a model folder of the same arch

    Raises
    ------
    ModelError : no such folder, or one of another arch
    """
    if not folder.exists() and len(folder.parts) > 1:
        raise ModelError(f"weights {str(folder)!r}: no such file or folder")
    if not folder.is_dir():
        raise ModelError(
            f"weights {str(folder)!r} are not for {arch!r}, which has no published weights; train "
            "from scratch (--weights none), or start from a model folder of the same arch"
        )
    info, state = read_model(folder)
    if info.arch != arch:
        raise ModelError(f"{folder} has arch {info.arch!r}, not {arch!r}; pass --arch {info.arch}")
    try:
        body.load_state_dict({k[2:]: value for k, value in state.items() if k.startswith("0.")})
    except RuntimeError as error:
        raise ModelError(f"{folder}: its body does not fit ({first_line(error)})") from error


def _body(layers: RawLayers) -> nn.Sequential:
    block = _ResidualBlock if layers.is_residual else _convolution
    groups: list[nn.Module] = [_Standardize(), _first(layers)]
    n_in = layers.first
    for number, (n, n_out) in enumerate(layers.groups, start=1):
        parts: list[nn.Module] = [block(n_in, n_out), *(block(n_out, n_out) for _ in range(n - 1))]
        if number < len(layers.groups) or layers.pools_last:
            parts.append(_pool())
        groups.append(nn.Sequential(*parts))
        n_in = n_out
    return nn.Sequential(*groups)


def _first(layers: RawLayers) -> nn.Sequential:
    padding = (FIRST_KERNEL - layers.stride) // 2  # the output has n_samples / stride values
    first = nn.Conv1d(1, layers.first, FIRST_KERNEL, layers.stride, padding, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(layers.first), nn.ReLU(inplace=True), _pool())


def _pool() -> nn.MaxPool1d:
    """Make a pooling layer that keeps an incomplete last window, as in the paper: 125 → 32."""
    return nn.MaxPool1d(POOL, ceil_mode=True)


def _convolution(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, 3, padding=1, bias=False),  # the bias is in the norm
        nn.BatchNorm1d(n_out),
        nn.ReLU(inplace=True),
    )


class _ResidualBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(n_in, n_out),
            nn.Conv1d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm1d(n_out),
        )
        same = n_in == n_out
        self.shortcut = nn.Identity() if same else nn.Conv1d(n_in, n_out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


class _Standardize(nn.Module):
    """Normalise each clip to mean 0 and standard deviation 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(dim=-1, keepdim=True)
        return x / x.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(EPSILON)
