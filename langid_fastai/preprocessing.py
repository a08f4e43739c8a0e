"""Mono waveform → STFT → mel scale → decibels → 8-bit image → PNG file.

Each step is a public function, in processing order::

    y = load_audio("speech.flac")              (220500,)       float32, 10 s at 22 050 Hz
    y = remove_offset(y)                       (220500,)       mean 0
    S = stft_power(y)                          (1025, 431)     power
    M = mel_scale(S)                           (128, 431)      mel power
    M_db = power_to_db(M)                      (128, 431)      0 dB at the loudest bin, ≥ -80 dB
    image = db_to_image(M_db)                  (128, 431)      uint8, row 0 is the highest band
    write_png(image, "speech.png")

`mel_image` does all of this in one call; `clips_of` cuts a recording into clips; `clips.export`
exports a whole corpus.

The values match `librosa.feature.melspectrogram` and `librosa.power_to_db(ref=np.max)`: mel power
to 1e-3 (relative, in bins within 80 dB of the loudest), decibels to 0.01 dB, grey values to 1. They
differ only in very quiet recordings: librosa's floor `amin` is absolute, but the floor here is
relative to the loudest bin, so that gain has no effect.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse

from langid_fastai.audio import DEFAULT_SR
from langid_fastai.audio.levels import prepare_sound, validate_waveform
from langid_fastai.errors import AudioError
from langid_fastai.mel_config import MIN_SECONDS, Kind, MelConfig
from langid_fastai.utils.png import encode_png, write_png

__all__ = [
    "Kind",
    "MelConfig",
    "clips_of",
    "fit_clip",
    "stft_power",
    "hann_window",
    "mel_filters",
    "mel_scale",
    "power_to_db",
    "db_to_image",
    "mel_image",
    "write_png",
    "encode_png",
]

# Slaney's mel scale: linear up to 1 kHz (66.7 Hz per mel), logarithmic above (27 mels from 1 to
# 6.4 kHz).
CORNER = 1000.0  # Hz
HZ_PER_MEL = 200 / 3
LOG_PER_MEL = np.log(6.4) / 27
# Frames transformed at once: few enough for their spectra to stay in the cache.
FRAME_BLOCK = 64


def clips_of(
    blocks: Iterable[np.ndarray], config: MelConfig = MelConfig()
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a recording into clips of equal length.

    Clips are consecutive, without overlap. A remainder of at least `MIN_SECONDS` gives one more
    clip, which ends where the recording ends and so overlaps the previous one. A recording shorter
    than a clip is repeated until it fills one.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording at `config.sr`, each (n_samples,); for a
        waveform in memory, ``[y]``
    config : settings of the images; sampling rate and length of a clip are used

    Yields
    ------
    offset, y : start of the clip in the recording, s; the clip, float32, (config.n_samples,)

    Raises
    ------
    AudioError : the recording is shorter than `MIN_SECONDS`

    Examples
    --------
    >>> [offset for offset, _ in clips_of([np.ones(int(22_050 * 23.5), dtype=np.float32)])]
    [0.0, 10.0, 13.5]
    """
    n, shortest = config.n_samples, int(MIN_SECONDS * config.sr)
    rest = np.empty(0, dtype=np.float32)
    before = None
    start = 0
    for block in blocks:
        block = np.asarray(block, dtype=np.float32)
        if block.ndim != 1:
            raise AudioError(
                f"a block of shape {block.shape} must be (n_samples,); "
                "pass a waveform in memory as [y], its channels averaged"
            )
        rest = np.concatenate([rest, block]) if len(rest) else block
        while len(rest) >= n:
            before, rest = rest[:n], rest[n:]
            yield start / config.sr, before
            start += n
    if before is not None and len(rest) >= shortest:
        yield (start + len(rest) - n) / config.sr, np.concatenate([before[len(rest) :], rest])
    elif before is None and len(rest) < shortest:
        seconds = 100 * len(rest) // config.sr / 100  # rounded down: 0.999 s is not 1 s
        raise AudioError(f"{seconds:g} s of sound is too short; {MIN_SECONDS:g} s is needed")
    elif before is None:
        yield 0.0, np.resize(rest, n)


def fit_clip(y: np.ndarray, n: int) -> np.ndarray:
    """Crop a longer clip to its middle, or repeat a shorter one, to get a given length.

    Parameters
    ----------
    y : waveform, (n_samples,)
    n : length of the result, samples

    Examples
    --------
    >>> fit_clip(np.arange(6), 4).tolist(), fit_clip(np.arange(3), 4).tolist()
    ([1, 2, 3, 4], [0, 1, 2, 0])
    """
    start = (len(y) - n) // 2
    return np.resize(y, n) if len(y) <= n else y[start : start + n]


def stft_power(
    y: np.ndarray, *, n_fft: int = 2048, hop_length: int = 512, win_length: int | None = None
) -> np.ndarray:
    """Compute the power spectrogram of a waveform, with a Hann window and centred frames.

    Parameters
    ----------
    y : mono waveform, (n_samples,)
    n_fft : samples per frame
    hop_length : samples between frames
    win_length : length of the window, samples, at most `n_fft`; None is `n_fft`

    Returns
    -------
    S : power, float32, (1 + n_fft // 2, 1 + n_samples // hop_length); `y` is padded with half a
        frame of zeros at either end

    Raises
    ------
    AudioError : `y` is not valid, see `validate_waveform`

    Examples
    --------
    >>> stft_power(np.ones(22_050, dtype=np.float32)).shape
    (1025, 44)
    """
    window = hann_window(n_fft, win_length)
    return np.concatenate(list(_power_blocks(validate_waveform(y), window, hop_length)), axis=1)


@lru_cache(maxsize=8)
def hann_window(n_fft: int = 2048, win_length: int | None = None) -> np.ndarray:
    """Return a periodic Hann window, zero-padded to the length of a frame.

    Parameters
    ----------
    n_fft : samples per frame
    win_length : length of the window, samples; None is `n_fft`

    Returns
    -------
    window : float32, (n_fft,). Shared between calls: do not modify.

    Raises
    ------
    AudioError : the window is longer than the frame

    Examples
    --------
    >>> hann_window(8, 4).tolist()
    [0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    n = n_fft if win_length is None else win_length
    if not 0 < n <= n_fft:
        raise AudioError(f"win_length={n} must be 1 to n_fft={n_fft}, the samples per frame")
    before = (n_fft - n) // 2
    return np.pad(np.hanning(n + 1)[:-1], (before, n_fft - n - before)).astype(np.float32)


@lru_cache(maxsize=8)
def mel_filters(
    sr: int = DEFAULT_SR,
    n_fft: int = 2048,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> scipy.sparse.csr_array:
    """Compute triangular filters on Slaney's mel scale, each of unit area.

    They equal those of `librosa.filters.mel` bit for bit, and are computed here because librosa
    takes a second to import, which would delay every export process and every first prediction.

    Parameters
    ----------
    sr : sampling rate, Hz
    n_fft : samples per frame
    n_mels : number of bands
    fmin, fmax : lower edge of the lowest band, upper edge of the highest, Hz; `fmax` None is sr / 2

    Returns
    -------
    filters : sparse matrix, float32, (n_mels, 1 + n_fft // 2), since a bin is in at most two bands;
        ``.toarray()`` makes it dense. Shared between calls: do not modify.

    Examples
    --------
    >>> mel_filters().shape
    (128, 1025)

    References
    ----------
    M. Slaney, *Auditory Toolbox*, technical report 1998-010, Interval Research, 1998; librosa 0.11,
    ``librosa/filters.py`` and ``librosa/core/convert.py``.
    """
    bins = np.fft.rfftfreq(n_fft, 1 / sr)  # Hz, (1 + n_fft // 2,)
    lowest, highest = _to_mel(np.array([fmin, sr / 2 if fmax is None else fmax]))
    edges = _to_hz(np.linspace(lowest, highest, n_mels + 2))[:, np.newaxis]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]  # Hz, each (n_mels, 1)
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters *= 2 / (upper - lower)
    if empty := int((filters.max(axis=1) == 0).sum()):
        warnings.warn(
            f"{empty} of {n_mels} mel bands contain no frequency bin of n_fft={n_fft} and stay "
            "black; use fewer n_mels or a larger n_fft",
            stacklevel=2,
        )
    return scipy.sparse.csr_array(filters)


def mel_scale(S: np.ndarray, filters: scipy.sparse.csr_array | None = None) -> np.ndarray:
    """Map a power spectrogram to mel bands.

    Parameters
    ----------
    S : power spectrogram, (1 + n_fft // 2, n_frames)
    filters : matrix from `mel_filters`; by default, ``mel_filters()``

    Returns
    -------
    M : mel power, (n_mels, n_frames); row 0 is the lowest band
    """
    filters = mel_filters() if filters is None else filters
    if filters.shape[1] != S.shape[0]:
        raise AudioError(
            f"S.shape={S.shape} and filters.shape={filters.shape} differ in frequency bins; "
            "make both with the same n_fft"
        )
    return filters @ S


def power_to_db(S: np.ndarray, *, top_db: float = 80.0) -> np.ndarray:
    """Convert power to decibels below the loudest bin, floored at `-top_db`.

    Parameters
    ----------
    S : power, any shape
    top_db : dynamic range kept, dB

    Returns
    -------
    S_db : dB, float32, same shape as `S`, in [-top_db, 0]

    Raises
    ------
    AudioError : `S` is zero everywhere or contains NaN

    Examples
    --------
    >>> power_to_db(np.array([1.0, 0.1, 0.0])).tolist()
    [0.0, -10.0, -80.0]
    """
    peak = S.max(initial=0)
    if peak <= 0:
        raise AudioError("silent: no power in any bin")
    if not np.isfinite(peak):
        raise AudioError("S contains NaN or infinite power")
    floor = 10 ** (-top_db / 10)
    return (10 * np.log10(np.maximum(S / peak, floor))).astype(np.float32, copy=False)


def db_to_image(S_db: np.ndarray, *, top_db: float = 80.0) -> np.ndarray:
    """Convert decibels to grey values: 0 dB becomes 255, `-top_db` becomes 0; high bands on top.

    Parameters
    ----------
    S_db : dB, (n_mels, n_frames), from `power_to_db`
    top_db : dynamic range of `S_db`, dB

    Returns
    -------
    image : uint8, (n_mels, n_frames); row 0 is the highest band
    """
    grey = np.rint((S_db[::-1] + top_db) * (255 / top_db))
    return np.clip(grey, 0, 255).astype(np.uint8)


def mel_image(y: np.ndarray, config: MelConfig = MelConfig()) -> np.ndarray:
    """Turn a mono waveform into an 8-bit log-mel image.

    The mean is removed first. The loudest bin becomes 255; everything `config.top_db` or more below
    it becomes 0. So neither a constant offset nor the recording gain has an effect.

    Parameters
    ----------
    y : mono waveform, (n_samples,), in [-1, 1], at `config.sr`
    config : settings of the image

    Returns
    -------
    image : uint8, (config.n_mels, 1 + n_samples // config.hop_length); row 0 is the highest band

    Raises
    ------
    AudioError : `y` is not valid, or is silent: see `langid_fastai.audio.levels`

    Examples
    --------
    >>> t = np.arange(220_500, dtype=np.float32) / 22_050
    >>> mel_image(np.sin(2 * np.pi * 440 * t)).shape
    (128, 431)
    """
    y = prepare_sound(y, config.sr)
    filters = mel_filters(config.sr, config.n_fft, config.n_mels, config.fmin, config.fmax)
    # stft_power and mel_scale, but block by block, which is faster: no large array is allocated.
    blocks = _power_blocks(y, hann_window(config.n_fft, config.win_length), config.hop_length)
    M = np.concatenate([mel_scale(S, filters) for S in blocks], axis=1)
    return db_to_image(power_to_db(M, top_db=config.top_db), top_db=config.top_db)


def _power_blocks(y: np.ndarray, window: np.ndarray, hop_length: int) -> Iterator[np.ndarray]:
    """Yield the power of a few frames at a time, (1 + n_fft // 2, n_frames)."""
    n_fft = len(window)
    padded = np.pad(y, (n_fft // 2, n_fft - n_fft // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    for i in range(0, len(frames), FRAME_BLOCK):
        windowed = frames[i : i + FRAME_BLOCK] * window
        # Frames as columns: in this layout the mel filters apply to the power without a copy.
        spectrum = scipy.fft.rfft(windowed.T, axis=0)
        yield spectrum.real**2 + spectrum.imag**2


def _to_mel(f: np.ndarray) -> np.ndarray:
    above = CORNER / HZ_PER_MEL + np.log(np.maximum(f, CORNER) / CORNER) / LOG_PER_MEL
    return np.where(f < CORNER, f / HZ_PER_MEL, above)


def _to_hz(mel: np.ndarray) -> np.ndarray:
    corner = CORNER / HZ_PER_MEL
    above = CORNER * np.exp(LOG_PER_MEL * np.maximum(mel - corner, 0))
    return np.where(mel < corner, mel * HZ_PER_MEL, above)
