"""The file of one clip: an image of it as PNG, or its sound as WAV, as `MelConfig.kind` says.

Contents: `encode_clip`; `read_picture`, for what looks at clips with other eyes than a network;
`SUFFIXES`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from langid_fastai.clips.features import feature_image
from langid_fastai.clips.waveforms import encode_waveform, read_waveform
from langid_fastai.preprocessing import Kind, MelConfig, encode_png, mel_image

__all__ = ["SUFFIXES", "encode_clip", "read_picture"]

# How the file of a clip ends, by kind.
SUFFIXES: dict[Kind, str] = {
    **{"mel": ".png", "mfcc": ".png", "chroma": ".png", "stft": ".png"},
    "waveform": ".wav",
}


def encode_clip(y: np.ndarray, config: MelConfig) -> bytes:
    """Make of a clip what a network is given, as the bytes of its file.

    Parameters
    ----------
    y : (config.n_samples,), in [-1, 1], at `config.sr`

    Raises
    ------
    AudioError : `y` is silent, or no sound at all
    """
    if config.kind == "waveform":
        return encode_waveform(y, config.sr)
    return encode_png(feature_image(y, config))


def read_picture(file: Path) -> np.ndarray:
    """Read the image of a clip; of a clip of sound, make that of its mel spectrogram.

    Parameters
    ----------
    file : of a clip, in a folder made by `export_images`

    Returns
    -------
    image : uint8, (height, n_frames), where height is n_mels but for other `kind` of images

    Raises
    ------
    AudioError, OSError : the file is missing or damaged
    """
    if file.suffix == SUFFIXES["waveform"]:
        folder = file.parents[2]  # above side and language
        return mel_image(read_waveform(file), MelConfig.read(folder / "mel.json"))
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))
