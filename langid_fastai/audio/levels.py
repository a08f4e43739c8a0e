"""Validate waveforms, remove their offset, measure their level and detect silence.

The same rules apply in export, training, prediction, timelines, the app and the corpus tools:

- A recorder may add a constant offset to all samples. `remove_offset` subtracts it from a clip
  before its image is made.
- The level of a waveform is measured above `SPEECH_HZ`, which keeps speech but excludes an offset,
  its drift and mains hum (50 or 60 Hz). It is measured in frames of `FRAME` seconds, without the
  two loudest, since a single click, or a step of the offset, can affect two frames.
- A waveform is silent if this level stays below `SILENCE` in every frame.

Contents: `validate_waveform`, `remove_offset`, `sound_level`, `is_silent`, `prepare_sound`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.fft

from langid_fastai.errors import AudioError

__all__ = [
    "is_silent",
    "prepare_sound",
    "remove_offset",
    "sound_level",
    "validate_waveform",
]

# Hz. Mains hum is at 50 or 60 Hz; every voice has nearly all its power above 100 Hz.
SPEECH_HZ = 100.0
# Root mean square: -90 dB of full scale, one step of 16-bit audio; rounding noise is lower.
SILENCE = 10 ** (-90 / 20)
# Duration of a frame, s. Frames overlap by half; their Blackman window separates 60 Hz from
# `SPEECH_HZ` by 58 dB.
FRAME = 0.1
N_CLICK = 2  # overlapping frames that contain the same sample
# A larger sample comes from a damaged file: float32 cannot represent its power.
LOUDEST = 1e9
# Frames transformed at once; only a few at first, since `is_silent` rarely needs more.
FIRST_FRAMES, FRAME_BLOCK = N_CLICK + 2, 32


def validate_waveform(y: np.ndarray) -> np.ndarray:
    """Return a mono waveform as float32, after checking that it is valid.

    Parameters
    ----------
    y : mono waveform, (n_samples,), floating point

    Raises
    ------
    AudioError : `y` is not mono, is empty, is not floating point, contains NaN, or is far outside
        [-1, 1]

    Examples
    --------
    >>> validate_waveform(np.array([0.25, -0.5])).dtype
    dtype('float32')
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise AudioError(f"y.shape={y.shape} must be (n_samples,); average the channels first")
    if y.size == 0:
        raise AudioError("y is empty")
    if not np.issubdtype(y.dtype, np.floating):
        raise AudioError(
            f"y.dtype={y.dtype} must be floating point; divide integers by their full scale"
        )
    with np.errstate(over="ignore"):  # to infinity
        y = y.astype(np.float32, copy=False)
    peak = float(np.abs(y).max())
    if not np.isfinite(peak):
        raise AudioError("y contains NaN or infinite samples")
    if peak > LOUDEST:
        raise AudioError(f"a sample of {peak:.1g} is far outside [-1, 1]; is the file damaged?")
    return y


def remove_offset(y: np.ndarray) -> np.ndarray:
    """Subtract its mean from a waveform, or from each waveform of a batch.

    Parameters
    ----------
    y : waveform or batch, (..., n_samples)

    Examples
    --------
    >>> remove_offset(np.array([0.5, 0.0, 1.0])).tolist()
    [0.0, -0.5, 0.5]
    """
    return y - y.mean(axis=-1, keepdims=True, dtype=np.float64).astype(y.dtype)


def sound_level(y: np.ndarray, sr: int) -> float:
    """Measure the level of a waveform above `SPEECH_HZ`, ignoring a single click.

    Parameters
    ----------
    y : mono waveform, float32, (n_samples,)
    sr : sampling rate, Hz

    Returns
    -------
    level : root mean square, relative to full scale; 0 if the waveform is silent

    Examples
    --------
    >>> t = np.arange(16_000) / 16_000
    >>> tone, hum = np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 50 * t)
    >>> round(sound_level(tone + hum + 0.5, 16_000), 2), sound_level(hum * 0.01, 16_000)
    (0.71, 0.0)
    """
    powers = np.sort(np.concatenate(list(_frame_powers(y, sr))))
    powers = powers[:-N_CLICK] if len(powers) > N_CLICK else powers
    return float(np.sqrt(powers.mean())) if powers[-1] >= SILENCE**2 else 0.0


def is_silent(y: np.ndarray, sr: int) -> bool:
    """Return whether a waveform is silent by the rules of this module.

    Only as much is analysed as is needed to find sound.

    Parameters
    ----------
    y : mono waveform, float32, (n_samples,)
    sr : sampling rate, Hz

    Examples
    --------
    >>> is_silent(np.full(8_000, 0.01, dtype=np.float32), 8_000)
    True
    """
    n_loud = n_frames = 0
    for powers in _frame_powers(y, sr):
        n_frames += len(powers)
        n_loud += int((powers >= SILENCE**2).sum())
        if n_loud > N_CLICK:
            return False
    return n_loud == 0 or n_frames > N_CLICK


def prepare_sound(y: np.ndarray, sr: int) -> np.ndarray:
    """Check that a waveform is valid and not silent, and remove its offset.

    Parameters
    ----------
    y : mono waveform, (n_samples,), floating point
    sr : sampling rate, Hz

    Raises
    ------
    AudioError : `y` is silent or not valid, see `validate_waveform`
    """
    y = validate_waveform(y)
    if is_silent(y, sr):
        raise AudioError(f"silent: no sound above {SPEECH_HZ:g} Hz reaches -90 dB of full scale")
    return remove_offset(y)


def _frame_powers(y: np.ndarray, sr: int) -> Iterator[np.ndarray]:
    """Yield the power above `SPEECH_HZ` of a few frames at a time: mean squares, (n_frames,)."""
    window = _window(sr)
    n = len(window)
    if len(y) < n:
        y = np.pad(y, (0, n - len(y)), mode="edge")  # zeros would make a step
    frames = np.lib.stride_tricks.sliding_window_view(y, n)
    starts = np.linspace(0, len(y) - n, 1 + 2 * (len(y) - n) // n).astype(int)
    for some in np.split(starts, np.arange(FIRST_FRAMES, len(starts), FRAME_BLOCK)):
        block = frames[some]
        block -= block[:, :1]  # a large offset would cost precision; the window removes the rest
        spectrum = scipy.fft.rfft(block * window)
        heard = spectrum[:, round(SPEECH_HZ * FRAME) :]
        yield 2 / n * (heard.real**2 + heard.imag**2).sum(axis=1)


@lru_cache(maxsize=8)
def _window(sr: int) -> np.ndarray:
    """Return the window of a frame, with squares that sum to 1."""
    window = np.blackman(round(FRAME * sr) + 1)[:-1]
    return (window / np.sqrt((window**2).sum())).astype(np.float32)
