"""Encode and decode MP3 with libsndfile, which uses LAME as encoder.

Contents: `MP3_RATES`, `MP3_BIT_RATES`, `writes_mp3`, `encode_mp3`; `code_mp3` encodes and decodes.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile as sf

__all__ = ["MP3_BIT_RATES", "MP3_RATES", "code_mp3", "encode_mp3", "writes_mp3"]

# Sampling rates in Hz of MPEG-1, -2 and -2.5 Layer III (ISO 11172-3, 13818-3), each with its lowest
# and highest bit rate in kb/s; libsndfile's `compression_level` runs from 1 to 0 between the two
# (its src/mpeg_l3_encode.c).
MP3_RATES = {
    **dict.fromkeys((32_000, 44_100, 48_000), (32, 320)),
    **dict.fromkeys((16_000, 22_050, 24_000), (8, 160)),
    **dict.fromkeys((8_000, 11_025, 12_000), (8, 64)),
}
MP3_BIT_RATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320)
# Samples that LAME (576) and the decoder (529) put before the sound (lame.sourceforge.io/tech-FAQ).
DELAY = 576 + 529
PEAK = 0.5  # peak before lossy coding, which overshoots: the result stays within [-1, 1]


def writes_mp3() -> bool:
    """Return whether the installed libsndfile can write MP3; the one in soundfile's wheels can."""
    return "MP3" in sf.available_formats()


def encode_mp3(y: np.ndarray, sr: int, kbits: float) -> bytes:
    """Encode a waveform as MP3 with a constant bit rate.

    Parameters
    ----------
    y : mono waveform, (n_samples,), in [-1, 1]
    sr : sampling rate, Hz; a key of `MP3_RATES`
    kbits : bit rate, kb/s; LAME uses the nearest one in `MP3_BIT_RATES`

    Returns
    -------
    content : bytes of the MP3 file
    """
    low, high = MP3_RATES[sr]
    level = (high - kbits) / (high - low)
    file = io.BytesIO()
    sf.write(
        file,
        y,
        sr,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=float(np.clip(level, 0, 0.999)),  # libsndfile refuses 1
    )
    return file.getvalue()


def code_mp3(y: np.ndarray, sr: int, kbits: float) -> np.ndarray:
    """Encode a waveform as MP3 and decode it, preserving level, timing and length.

    Parameters
    ----------
    y, sr, kbits : as in `encode_mp3`, but `y` may exceed [-1, 1]

    Returns
    -------
    y : float32, (n_samples,)
    """
    gain = PEAK / max(np.abs(y).max(), np.finfo(np.float32).tiny)
    decoded, _ = sf.read(io.BytesIO(encode_mp3(gain * y, sr, kbits)), dtype="float32")
    # At low bit rates LAME writes no tag, and the decoder does not remove the delay.
    start = DELAY if len(decoded) > len(y) else 0
    return decoded[start : start + len(y)] / np.float32(gain)
