"""Encode and read the file of a clip: a PNG image, or audio as WAV, depending on `MelConfig.kind`.

Contents: `encode_clip`; `read_clip_image`, for reports and baselines; `SUFFIXES`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from langid_fastai.clips.image_kinds import feature_image
from langid_fastai.clips.waveforms import encode_waveform, read_waveform
from langid_fastai.preprocessing import Kind, MelConfig, encode_png, mel_image

__all__ = ["SUFFIXES", "encode_clip", "read_clip_image"]

# File suffix of a clip, by kind.
SUFFIXES: dict[Kind, str] = {
    **{"mel": ".png", "mfcc": ".png", "chroma": ".png", "stft": ".png"},
    "waveform": ".wav",
}


def encode_clip(y: np.ndarray, config: MelConfig) -> bytes:
    """Encode a clip as the bytes of its PNG or WAV file.

    Parameters
    ----------
    y : mono waveform, (config.n_samples,), in [-1, 1], at `config.sr`

    Raises
    ------
    AudioError : `y` is not valid audio, or is silent
    """
    if config.kind == "waveform":
        return encode_waveform(y, config.sr)
    return encode_png(feature_image(y, config))


def read_clip_image(file: Path) -> np.ndarray:
    """Read the image of a clip; for an audio clip, compute its mel spectrogram.

    Parameters
    ----------
    file : file of a clip, in a folder made by `export_images`

    Returns
    -------
    image : uint8, (height, n_frames); the height of a mel spectrogram is n_mels

    Raises
    ------
    AudioError, OSError : the file is missing or damaged
    """
    if file.suffix == SUFFIXES["waveform"]:
        folder = file.parents[2]  # above split and language
        return mel_image(read_waveform(file), MelConfig.read(folder / "mel.json"))
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))
