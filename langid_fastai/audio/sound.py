"""What decoders have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["BLOCK_SECONDS", "CONVERT", "Sound"]

# Length of a block, s.
BLOCK_SECONDS = 10.0
CONVERT = "if it plays elsewhere, convert it, e.g. with: ffmpeg -i FILE FILE.flac"


@dataclass(frozen=True)
class Sound:
    """A recording that is being decoded.

    Parameters
    ----------
    sr : Hz
    n_channels : at its beginning; it may change
    is_fine : whether samples are stored with more than 16 bits
    seconds : duration by its header; NaN if that states none
    blocks : float32, each (n_samples, n_channels), of about `BLOCK_SECONDS` at most
    """

    sr: int
    n_channels: int
    is_fine: bool
    seconds: float
    blocks: Iterator[np.ndarray]
