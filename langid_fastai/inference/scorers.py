"""Turn a trained network into a scorer of images or waveforms.

``ImageScorer`` prepares images as fastai does in training: three equal channels, normalised by the
ImageNet statistics. ``WaveformScorer`` computes the images from waveforms, like
`langid_fastai.preprocessing` but with torch, so that one ONNX file contains all steps.
``SoundScorer`` is for networks that take waveforms.

All return natural-log probabilities, calibrated by the temperature of the model.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from langid_fastai.clips.image_kinds import (
    LOWEST_POWER,
    cepstral_basis,
    cepstral_ranges,
    chroma_filters,
    delta_kernel,
)
from langid_fastai.mel_config import DELTA_WIDTH
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.preprocessing import MelConfig, hann_window, mel_filters

__all__ = ["ImageScorer", "SoundScorer", "WaveformScorer", "make_scorer"]

# Mean and standard deviation of ImageNet's colours, expected by pretrained weights:
# https://pytorch.org/vision/stable/models.html
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Minimum peak power, to avoid a division by zero; the scores of a silent clip are meaningless.
LOWEST_PEAK = 1e-30


class ImageScorer(nn.Module):
    """Score grey images, (n, height, n_frames), 0 to 255.

    Parameters
    ----------
    network : ``Sequential(body, head)``, in evaluation mode
    temperature : temperature of the model's calibration
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images and score them."""
        x = (images[:, None].float() / 255 - self.mean) / self.std  # (n, 3, n_mels, n_frames)
        return _calibrated(self.network(x), self.temperature)


class SoundScorer(nn.Module):
    """Score waveforms, (n, n_samples), without images.

    Parameters
    ----------
    network : network from `langid_fastai.models.raw_waveform`, in evaluation mode
    temperature : temperature of the model's calibration
    """

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Score waveforms."""
        return _calibrated(self.network(waveform[:, None]), self.temperature)


class WaveformScorer(nn.Module):
    """Score waveforms at `config.sr`, (n, n_samples), from their images.

    Images are those of `feature_image`, except for grey values that are rounded differently.

    Parameters
    ----------
    scorer : scorer of the images
    config : settings of the model's images
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, scorer: ImageScorer, config: MelConfig) -> None:
        super().__init__()
        self.scorer = scorer
        self.config = config
        window = hann_window(config.n_fft, config.win_length)
        self.register_buffer("window", torch.from_numpy(window.copy()))
        self.register_buffer("filters", torch.from_numpy(_filters(config)))
        self.cepstra = _Cepstra(config) if config.kind == "mfcc" else None

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Compute the images of waveforms and score them."""
        return self.scorer(self.images(waveform))

    def images(self, waveform: torch.Tensor) -> torch.Tensor:
        """Compute the images of waveforms, (n, height, n_frames), whole numbers from 0 to 255."""
        S = self._power(waveform)
        if self.config.kind == "chroma":
            strongest = S.amax(dim=1, keepdim=True)
            classes = S / torch.where(strongest < LOWEST_POWER, 1.0, strongest)
            return (255 * classes.flip(1)).round()
        top_db = self.config.top_db
        peak = S.amax(dim=(1, 2), keepdim=True).clamp_min(LOWEST_PEAK)
        S_db = 10 * torch.log10((S / peak).clamp_min(10 ** (-top_db / 10)))
        if self.cepstra is not None:
            return self.cepstra(S_db + top_db / 2)
        grey = (S_db.flip(1) + top_db) * (255 / top_db)
        return grey.round().clamp(0, 255)

    def _power(self, waveform: torch.Tensor) -> torch.Tensor:
        """Compute the power in each row of the image, (n, n_rows, n_frames)."""
        n_fft = self.config.n_fft
        waveform = waveform - waveform.mean(dim=-1, keepdim=True)  # as `remove_offset`
        padded = nn.functional.pad(waveform, (n_fft // 2, n_fft - n_fft // 2))
        # Padded here: with torch's `center=True`, the ONNX graph would accept only one length.
        spectrum = torch.stft(
            padded,
            n_fft,
            self.config.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )  # (n, 1 + n_fft // 2, n_frames)
        S = torch.view_as_real(spectrum).square().sum(dim=-1)
        return S[:, self.config.bins] if self.config.kind == "stft" else self.filters @ S


class _Cepstra(nn.Module):
    """Compute images of MFCC from mel decibels, (n, n_mels, n_frames), like `feature_image`."""

    basis: torch.Tensor
    ranges: torch.Tensor
    kernels: torch.Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        kernels = np.stack([delta_kernel(order) for order in (1, 2)])[:, None]  # (2, 1, 9)
        basis = cepstral_basis(config.n_mels, config.n_mfcc)
        self.register_buffer("basis", torch.from_numpy(basis))
        self.register_buffer("ranges", torch.from_numpy(cepstral_ranges(config)))
        self.register_buffer("kernels", torch.from_numpy(kernels))

    def forward(self, M_db: torch.Tensor) -> torch.Tensor:
        """Stack the coefficients, their deltas and their second-order deltas along the rows."""
        C = self.basis @ M_db  # (n, n_mfcc, n_frames)
        deltas = nn.functional.conv1d(C.reshape(-1, 1, C.shape[2]), self.kernels)
        deltas = nn.functional.pad(deltas, (DELTA_WIDTH // 2,) * 2, mode="replicate")
        deltas = deltas.reshape(-1, C.shape[1], 2, C.shape[2])
        rows = torch.cat([C, deltas[:, :, 0], deltas[:, :, 1]], dim=1) / self.ranges
        return (127.5 * (1 + rows.clamp(-1, 1))).round()


def _filters(config: MelConfig) -> np.ndarray:
    """Return the filters that sum frequencies to rows; empty if each frequency is a row."""
    if config.kind == "stft":
        return np.empty((0, 0), dtype=np.float32)
    if config.kind == "chroma":
        return chroma_filters(config.sr, config.n_fft)
    mel = (config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)
    return mel_filters(*mel).toarray()


def make_scorer(network: nn.Module, info: ModelInfo) -> SoundScorer | WaveformScorer:
    """Make the scorer of a model, from waveforms to calibrated log-probabilities.

    The waveforms are (n, n_samples), at the model's `sr`.

    Parameters
    ----------
    network, info : from `load_network`
    """
    temperature = info.calibration.temperature
    if info.mel.kind == "waveform":
        return SoundScorer(network, temperature).eval()
    return WaveformScorer(ImageScorer(network, temperature), info.mel).eval()


def _calibrated(activations: torch.Tensor, temperature: float) -> torch.Tensor:
    log_probs = torch.log_softmax(activations, dim=-1)
    return torch.log_softmax(log_probs / temperature, dim=-1)
