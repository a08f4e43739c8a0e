"""Result of opening a recording with libsndfile or FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["BLOCK_SECONDS", "CONVERT", "Sound"]

# Length of a block, s.
BLOCK_SECONDS = 10.0
# Remedy in error messages about a file that cannot be read.
CONVERT = "if it plays elsewhere, convert it, e.g. with: ffmpeg -i FILE FILE.flac"


@dataclass(frozen=True)
class Sound:
    """A recording that is being decoded.

    Parameters
    ----------
    sr : sampling rate, Hz
    n_channels : number of channels at the start; it may change between blocks
    is_fine : whether samples are stored with more than 16 bits
    seconds : duration stated in the header, s; NaN if there is none
    blocks : consecutive blocks of at most about `BLOCK_SECONDS`, float32, (n_samples, n_channels)
    """

    sr: int
    n_channels: int
    is_fine: bool
    seconds: float
    blocks: Iterator[np.ndarray]
