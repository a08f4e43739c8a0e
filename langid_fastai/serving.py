"""A trained network → what answers: from images, or with the front end inside from waveforms.

``ImageScorer`` repeats what fastai does with an image in training: grey three times, the ImageNet
statistics. ``WaveformScorer`` is it behind the steps of `langid_fastai.preprocessing`, written with
torch, so that one ONNX file can hold all of them.

Both give calibrated natural-log probabilities: the temperature is inside.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from langid_fastai.preprocessing import MelConfig, mel_filters

__all__ = ["ImageScorer", "WaveformScorer"]

# Mean and deviation of ImageNet's colours, which published weights expect:
# https://pytorch.org/vision/stable/models.html
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# Peak power of a silent clip, for which there is no answer, but no division by zero either.
LOWEST_PEAK = 1e-30


class ImageScorer(nn.Module):
    """Grey images, (n, n_mels, n_frames) from 0 to 255 → log-probabilities, (n, n_languages).

    Parameters
    ----------
    network : ``Sequential(body, head)``, in evaluation mode
    temperature : of the model's calibration
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
        log_probs = torch.log_softmax(self.network(x), dim=-1)
        return torch.log_softmax(log_probs / self.temperature, dim=-1)


class WaveformScorer(nn.Module):
    """Waveforms at `config.sr`, (n, n_samples) → log-probabilities, (n, n_languages).

    The image of each is that of `mel_image`, but for single grey values at a border of rounding.

    Parameters
    ----------
    scorer : of the images
    config : how the model's images are made
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, scorer: ImageScorer, config: MelConfig) -> None:
        super().__init__()
        self.scorer = scorer
        self.config = config
        window = np.hanning(config.n_fft + 1)[:-1].astype(np.float32)
        filters = mel_filters(config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)
        self.register_buffer("window", torch.from_numpy(window))
        self.register_buffer("filters", torch.from_numpy(filters.toarray()))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Make images and score them."""
        return self.scorer(self.images(waveform))

    def images(self, waveform: torch.Tensor) -> torch.Tensor:
        """Make the images alone, (n, n_mels, n_frames), whole numbers from 0 to 255."""
        n_fft, top_db = self.config.n_fft, self.config.top_db
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
        M = self.filters @ S  # (n, n_mels, n_frames)
        peak = M.amax(dim=(1, 2), keepdim=True).clamp_min(LOWEST_PEAK)
        M_db = 10 * torch.log10((M / peak).clamp_min(10 ** (-top_db / 10)))
        grey = (M_db.flip(1) + top_db) * (255 / top_db)
        return grey.round().clamp(0, 255)
