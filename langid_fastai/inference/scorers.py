"""Turn a trained network into a scorer of images, or of waveforms with the front end included.

``ImageScorer`` repeats what fastai does with an image in training: three equal channels, normalised
by the ImageNet statistics. ``WaveformScorer`` adds the steps of `langid_fastai.preprocessing`,
written with torch, so that one ONNX file contains all of them. ``SoundScorer`` is for networks that
take waveforms.

All give calibrated natural-log probabilities: the temperature is inside.
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
from langid_fastai.models.folder import ModelInfo
from langid_fastai.preprocessing import MelConfig, hann_window, mel_filters

__all__ = ["ImageScorer", "SoundScorer", "WaveformScorer", "make_scorer"]

# Mean and deviation of ImageNet's colours, which published weights expect:
# https://pytorch.org/vision/stable/models.html
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Peak power of a silent clip, for which there is no answer, but no division by zero either.
LOWEST_PEAK = 1e-30


class ImageScorer(nn.Module):
    """Network from grey images (n, height, n_frames), 0 to 255, to log-probabilities.

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
        """Normalise and score."""
        x = (images[:, None].float() / 255 - self.mean) / self.std  # (n, 3, n_mels, n_frames)
        return _calibrated(self.network(x), self.temperature)


class SoundScorer(nn.Module):
    """Network from waveforms (n, n_samples), without images, to log-probabilities.

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
        """Score."""
        return _calibrated(self.network(waveform[:, None]), self.temperature)


class WaveformScorer(nn.Module):
    """Waveforms at `config.sr`, (n, n_samples) → log-probabilities, (n, n_languages).

    The image of each is that of `feature_image`, but for grey values at a border of rounding.

    Parameters
    ----------
    scorer : scorer of the images
    config : how the model's images are made
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
        """Make images and score them."""
        return self.scorer(self.images(waveform))

    def images(self, waveform: torch.Tensor) -> torch.Tensor:
        """Make the images alone, (n, height, n_frames), whole numbers from 0 to 255."""
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
        """Power of what the rows of an image stand for, (n, n_rows, n_frames)."""
        n_fft = self.config.n_fft
        waveform = waveform - waveform.mean(dim=-1, keepdim=True)  # as `remove_offset`
        padded = nn.functional.pad(waveform, (n_fft // 2, n_fft - n_fft // 2))
        # Padded here: torch's own `center=True` becomes an ONNX graph for one length only.
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
    """Mel decibels around 0, (n, n_mels, n_frames) → images, as `feature_image` makes them."""

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
        """Coefficients, their deltas, and those of second order, one block below the other."""
        C = self.basis @ M_db  # (n, n_mfcc, n_frames)
        deltas = nn.functional.conv1d(C.reshape(-1, 1, C.shape[2]), self.kernels)
        deltas = nn.functional.pad(deltas, (DELTA_WIDTH // 2,) * 2, mode="replicate")
        deltas = deltas.reshape(-1, C.shape[1], 2, C.shape[2])
        rows = torch.cat([C, deltas[:, :, 0], deltas[:, :, 1]], dim=1) / self.ranges
        return (127.5 * (1 + rows.clamp(-1, 1))).round()


def _filters(config: MelConfig) -> np.ndarray:
    """What gathers frequencies into rows; of an image of single frequencies, nothing."""
    if config.kind == "stft":
        return np.empty((0, 0), dtype=np.float32)
    if config.kind == "chroma":
        return chroma_filters(config.sr, config.n_fft)
    mel = (config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)
    return mel_filters(*mel).toarray()


def make_scorer(network: nn.Module, info: ModelInfo) -> SoundScorer | WaveformScorer:
    """Make the complete scorer: waveforms (n, n_samples) at the model's `sr` → log-probabilities.

    The log-probabilities are calibrated by the temperature of the model.

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
