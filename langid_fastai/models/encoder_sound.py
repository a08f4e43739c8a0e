"""Feature extractors of the encoders of `transformers`, as layers of a network.

Each layer reproduces in torch a feature extractor that `transformers` implements in NumPy, so
training, prediction and ``model.onnx`` compute the same features, on any device and with any
version of `transformers`. The layers compute in float32, regardless of the training precision.

Every layer first scales the loudest sample to 1, as in stored clips, which do not keep the level of
the recording (`langid_fastai.clips.waveforms`). Whisper, AST and encoders whose input is not
normalised depend on the level; they receive clips at full scale.

Conventions: the input is ``(n, n_samples)`` at 16 kHz; the output is the input of the encoder:
``(n, n_samples)``, for Whisper ``(n, n_mels, n_frames)``, for AST ``(n, n_frames, n_mels)``.

Contents: `make_front_end`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from langid_fastai.models.encoder_info import AST_FRAME, AST_HOP, SR, EncoderInfo
from langid_fastai.preprocessing import mel_filters

__all__ = ["make_front_end"]

SMALLEST_PEAK = 1e-8
# Constants from the feature extractors of `transformers`.
VARIANCE_FLOOR = 1e-7  # Wav2Vec2FeatureExtractor
WHISPER_FLOOR, WHISPER_RANGE = 1e-10, 8.0  # power; decades below the loudest bin
AST_FLOOR = 1.192092955078125e-07  # power
AST_FFT, AST_PREEMPHASIS, AST_FMIN = 512, 0.97, 20.0


def make_front_end(info: EncoderInfo) -> nn.Module:
    """Make the layer that prepares sound for an encoder."""
    kinds = {"WhisperFeatureExtractor": _WhisperMel, "ASTFeatureExtractor": _AstMel}
    return _FrontEnd(kinds.get(info.family.extractor, _Waveform)(info.sound))


class _FrontEnd(nn.Module):
    """Divide by the loudest sample, then compute the features of an encoder, in float32."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(y.device.type, enabled=False):
            y = y.float()
            return self.features(y / y.abs().amax(dim=-1, keepdim=True).clamp_min(SMALLEST_PEAK))


class _Waveform(nn.Module):
    """Return the samples, normalised to mean 0 and variance 1 if the encoder requires it."""

    def __init__(self, sound: dict[str, Any]) -> None:
        super().__init__()
        self.sound = sound

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if not self.sound["do_normalize"]:
            return y
        y = y - y.mean(dim=-1, keepdim=True)
        return y / (y.square().mean(dim=-1, keepdim=True) + VARIANCE_FLOOR).sqrt()


class _WhisperMel(nn.Module):
    """Compute the log10 mel spectrogram of a clip padded to 30 s."""

    kernel: torch.Tensor
    filters: torch.Tensor

    def __init__(self, sound: dict[str, Any]) -> None:
        super().__init__()
        self.sound = sound
        n_fft = sound["n_fft"]
        self.n_samples = sound["chunk_length"] * SR
        window = np.sin(np.pi * np.arange(n_fft) / n_fft) ** 2  # periodic Hann
        self.register_buffer("kernel", _kernel(np.diag(window), n_fft), persistent=False)
        filters = mel_filters(SR, n_fft, sound["feature_size"], 0.0, 8000.0).toarray()
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        y = nn.functional.pad(y[:, : self.n_samples], (0, self.n_samples))[:, : self.n_samples]
        half = self.sound["n_fft"] // 2
        y = nn.functional.pad(y[:, None], (half, half), mode="reflect")[:, 0]
        S = _power(y, self.kernel, self.sound["hop_length"])[..., :-1]
        M = (self.filters @ S).clamp_min(WHISPER_FLOOR).log10()
        M = torch.maximum(M, M.amax(dim=(1, 2), keepdim=True) - WHISPER_RANGE)
        return (M + 4) / 4


class _AstMel(nn.Module):
    """Compute Kaldi's natural-log mel spectrogram of a clip padded to 10.24 s."""

    kernel: torch.Tensor
    filters: torch.Tensor

    def __init__(self, sound: dict[str, Any]) -> None:
        super().__init__()
        self.sound = sound
        window = np.hanning(AST_FRAME)
        # Kaldi's processing of a frame is linear: remove the mean, pre-emphasis, window.
        centre = np.eye(AST_FRAME) - 1 / AST_FRAME
        emphasis = np.eye(AST_FRAME) - AST_PREEMPHASIS * np.eye(AST_FRAME, k=-1)
        emphasis[0, 0] -= AST_PREEMPHASIS
        frame = window[:, None] * (emphasis @ centre)
        self.register_buffer("kernel", _kernel(frame, AST_FFT), persistent=False)
        filters = _kaldi_filters(sound["num_mel_bins"])
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        S = _power(y, self.kernel, AST_HOP)
        M = (self.filters @ S).clamp_min(AST_FLOOR).log().transpose(1, 2)  # (n, n_frames, n_mels)
        n_frames = self.sound["max_length"]
        M = nn.functional.pad(M[:, :n_frames], (0, 0, 0, n_frames))[:, :n_frames]
        if not self.sound["do_normalize"]:
            return M
        return (M - self.sound["mean"]) / (2 * self.sound["std"])


def _kernel(frame: np.ndarray, n_fft: int) -> torch.Tensor:
    """Combine the processing of a frame and its Fourier transform in one convolution.

    Parameters
    ----------
    frame : (n_samples, n_samples), matrix that processes a frame

    Returns
    -------
    kernel : float32, (2 n_frequencies, 1, n_samples): real parts, then imaginary parts
    """
    spectrum = np.fft.rfft(frame, n_fft, axis=0)  # (n_frequencies, n_samples)
    kernel = np.concatenate([spectrum.real, spectrum.imag])[:, None]
    return torch.from_numpy(kernel.astype(np.float32))


def _kaldi_filters(n_mels: int) -> np.ndarray:
    """Make mel filters as in Kaldi: triangles on the mel scale, up to the Nyquist frequency.

    Returns
    -------
    filters : float32, (n_mels, n_frequencies)
    """
    hertz = np.array([AST_FMIN, SR / 2, *np.linspace(0, SR / 2, 1 + AST_FFT // 2)])
    low, high, *mel = 1127 * np.log1p(hertz / 700)
    edges = np.linspace(low, high, n_mels + 2)[:, None]
    widths = np.diff(edges, axis=0)
    rising = (mel - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - mel) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _power(y: torch.Tensor, kernel: torch.Tensor, hop_length: int) -> torch.Tensor:
    """Compute the power spectrum of each frame: (n, n_frequencies, n_frames)."""
    parts = nn.functional.conv1d(y[:, None], kernel, stride=hop_length)
    real, imaginary = parts.chunk(2, dim=1)
    return real.square() + imaginary.square()
