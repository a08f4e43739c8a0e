"""Images of MFCC, chroma and STFT, as alternatives to the mel spectrogram.

`MelConfig.kind` selects the feature shown in an image; everything else is the same: clips, export,
training, prediction, model folder and ``model.onnx``.

=========  =========================================================================================
mel        mel spectrogram in dB, as in `langid_fastai.preprocessing`: the default
stft       spectrogram in dB from `fmin` to `fmax`, linear in Hz
mfcc       `n_mfcc` mel-frequency cepstral coefficients (the DCT-II of the mel spectrogram in dB,
           Davis and Mermelstein 1980), below them their deltas and second-order deltas; in each
           block, the lowest coefficient is on top
chroma     power of the 12 pitch classes, in each frame relative to the strongest, B on top
=========  =========================================================================================

Conventions: an image is uint8, ``(height, width)``, `MelConfig.shape`; no kind shows the level of
the recording. MFCC have no natural range. Here they are computed from decibels with zero in the
middle of the dynamic range. Coefficient k becomes black or white at a ripple of
``top_db / 2 / (1 + k / 2)`` dB over the bands, its deltas at an eighth of that per frame, and its
second-order deltas at a twelfth. 99 % of the values of real speech are within this range
(VoxLingua107's development set, four languages, frames of 10 to 23 ms); others are clipped.

The values equal those of `librosa.feature.mfcc`, `librosa.feature.delta` (width 9) and
`librosa.feature.chroma_stft` (tuning 0) to 1e-3, before they are quantised to 8 bits.

Contents: `feature_image`, for any kind; `mfcc`, `delta`, `chroma`; and, for other
implementations of these, `cepstral_ranges`, `cepstral_basis`, `delta_kernel`, `chroma_filters`.

References: S. Davis and P. Mermelstein, "Comparison of parametric representations for monosyllabic
word recognition in continuously spoken sentences", IEEE Trans. ASSP 28(4), 1980; S. Furui,
"Speaker-independent isolated word recognition using dynamic features of speech spectrum", IEEE
Trans. ASSP 34(1), 1986 (deltas as slopes); D. Ellis, "Chroma feature analysis and synthesis",
Columbia University, 2007.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft

from langid_fastai.audio import DEFAULT_SR
from langid_fastai.audio.levels import prepare_sound
from langid_fastai.errors import AudioError
from langid_fastai.mel_config import DELTA_WIDTH, N_CHROMA
from langid_fastai.preprocessing import (
    MelConfig,
    db_to_image,
    mel_filters,
    mel_image,
    mel_scale,
    power_to_db,
    stft_power,
)

__all__ = [
    "feature_image",
    "mfcc",
    "delta",
    "chroma",
    "cepstral_ranges",
    "cepstral_basis",
    "delta_kernel",
    "chroma_filters",
]

# Range of the first- and second-order deltas per frame, as fractions of that of the coefficients.
DELTA_SHARES = (1 / 8, 1 / 12)
# A frame with less power is not normalised.
LOWEST_POWER = float(np.finfo(np.float32).tiny)


def feature_image(y: np.ndarray, config: MelConfig = MelConfig()) -> np.ndarray:
    """Turn a mono waveform into the 8-bit image selected by `config.kind`.

    Parameters
    ----------
    y : mono waveform, (n_samples,), in [-1, 1], at `config.sr`
    config : settings of the image

    Returns
    -------
    image : uint8, (height, 1 + n_samples // config.hop_length), with the height of `config.shape`

    Raises
    ------
    AudioError : `y` is not valid, or is silent: see `langid_fastai.audio.levels`; or
        `config.kind` is ``waveform``

    Examples
    --------
    >>> y = np.sin(2 * np.pi * 440 / 22_050 * np.arange(22_050)).astype(np.float32)
    >>> feature_image(y, MelConfig(kind="chroma")).shape
    (12, 44)
    """
    if config.kind == "mel":
        return mel_image(y, config)
    if config.kind == "waveform":
        raise AudioError("kind='waveform' is not an image; see langid_fastai.clips.waveforms")
    S = stft_power(
        prepare_sound(y, config.sr),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
    )
    if config.kind == "stft":
        return db_to_image(power_to_db(S[config.bins], top_db=config.top_db), top_db=config.top_db)
    if config.kind == "chroma":
        return np.rint(255 * chroma(S, sr=config.sr, n_fft=config.n_fft)[::-1]).astype(np.uint8)
    filters = mel_filters(config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)
    M_db = power_to_db(mel_scale(S, filters), top_db=config.top_db) + config.top_db / 2
    C = mfcc(M_db, n_mfcc=config.n_mfcc)
    rows = np.concatenate([C, delta(C), delta(C, order=2)]) / cepstral_ranges(config)
    return np.rint(127.5 * (1 + np.clip(rows, -1, 1))).astype(np.uint8)


def mfcc(M_db: np.ndarray, *, n_mfcc: int = 20) -> np.ndarray:
    """Compute mel-frequency cepstral coefficients: an orthonormal DCT-II over the bands.

    Parameters
    ----------
    M_db : (n_mels, n_frames), dB, band 0 is the lowest, from `power_to_db`

    Returns
    -------
    C : (n_mfcc, n_frames)

    Examples
    --------
    >>> mfcc(np.ones((64, 5)))[:2, 0].round(6).tolist()
    [8.0, 0.0]
    """
    return scipy.fft.dct(M_db, axis=0, norm="ortho")[:n_mfcc]


def delta(x: np.ndarray, *, order: int = 1) -> np.ndarray:
    """Compute deltas: the slope of a line, or curvature of a parabola, fitted to 9 frames.

    Parameters
    ----------
    x : features, (n_rows, n_frames), at least 9 frames
    order : 1 for the slope, 2 for the curvature

    Returns
    -------
    d : (n_rows, n_frames), change per frame, or per frame squared; the first and last four frames
        repeat the nearest other one

    Raises
    ------
    AudioError : `x` has too few frames

    Examples
    --------
    >>> delta(3.0 * np.arange(12)[None]).round(6).tolist()[0][:3]
    [3.0, 3.0, 3.0]
    """
    if x.shape[1] < DELTA_WIDTH:
        raise AudioError(f"deltas need at least {DELTA_WIDTH} frames, not {x.shape[1]}")
    windows = np.lib.stride_tricks.sliding_window_view(x, DELTA_WIDTH, axis=1)
    inner = windows @ delta_kernel(order)
    # The derivative of this order of the fitted polynomial is constant over its frames.
    return np.pad(inner, ((0, 0), (DELTA_WIDTH // 2, DELTA_WIDTH // 2)), mode="edge")


def chroma(S: np.ndarray, *, sr: int = DEFAULT_SR, n_fft: int = 2048) -> np.ndarray:
    """Compute the power of the pitch classes C to B, each frame relative to its strongest class.

    Parameters
    ----------
    S : power spectrogram from `stft_power`, (1 + n_fft // 2, n_frames)
    sr : sampling rate, Hz
    n_fft : samples per frame

    Returns
    -------
    classes : float32, (12, n_frames), in [0, 1], row 0 is C; all 0 in a frame without power

    Examples
    --------
    >>> S = stft_power(np.sin(2 * np.pi * 440 / 22_050 * np.arange(22_050)).astype(np.float32))
    >>> "C C# D D# E F F# G G# A A# B".split()[chroma(S)[:, 20].argmax()]
    'A'
    """
    classes = chroma_filters(sr, n_fft) @ S
    strongest = classes.max(axis=0)
    return classes / np.where(strongest < LOWEST_POWER, 1, strongest)


def cepstral_ranges(config: MelConfig) -> np.ndarray:
    """Return the largest magnitude that each row of an image of kind ``mfcc`` can show.

    Parameters
    ----------
    config : `n_mels`, `n_mfcc` and `top_db` are used

    Returns
    -------
    ranges : float32, (3 * config.n_mfcc, 1)
    """
    k = np.arange(config.n_mfcc)
    ripple = config.top_db / 2 / (1 + k / 2)  # dB
    # Coefficient of a ripple of 1 dB over all bands; coefficient 0 is the mean.
    ripple *= np.where(k == 0, 1, np.sqrt(0.5)) * np.sqrt(config.n_mels)
    return np.concatenate([share * ripple for share in (1, *DELTA_SHARES)])[:, None].astype("f4")


def cepstral_basis(n_mels: int, n_mfcc: int) -> np.ndarray:
    """Return the matrix of the discrete cosine transform that `mfcc` applies.

    Parameters
    ----------
    n_mels, n_mfcc : number of mel bands, number of coefficients

    Returns
    -------
    basis : float32, (n_mfcc, n_mels)
    """
    return mfcc(np.eye(n_mels), n_mfcc=n_mfcc).astype(np.float32)


def delta_kernel(order: int) -> np.ndarray:
    """Return the weights of 9 frames in `delta`, a Savitzky-Golay filter.

    Parameters
    ----------
    order : 1 for the slope, 2 for the curvature

    Returns
    -------
    kernel : float32, (9,)

    Examples
    --------
    >>> (60 * delta_kernel(1)).round(5).tolist()
    [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    """
    t = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    shape = t if order == 1 else t**2 - np.mean(t**2)
    return (order * shape / (shape**2).sum()).astype(np.float32)


@lru_cache(maxsize=8)
def chroma_filters(sr: int, n_fft: int) -> np.ndarray:
    """Return the weight of each frequency bin in each pitch class (`librosa.filters.chroma`).

    A4 is 440 Hz.

    Parameters
    ----------
    sr : sampling rate, Hz
    n_fft : samples per frame

    Returns
    -------
    filters : float32, (12, 1 + n_fft // 2). Shared between calls: do not modify.
    """
    from librosa.filters import chroma as make_filters  # slow to import

    return make_filters(sr=sr, n_fft=n_fft, n_chroma=N_CHROMA, tuning=0.0)
