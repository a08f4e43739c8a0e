"""Mel filters: map the frequencies of a Fourier transform to bands spaced as in human hearing.

The scale is Slaney's: linear up to 1 kHz, logarithmic above. The filters equal those of
`librosa.filters.mel`, bit for bit. They are computed here because librosa takes a second to import,
which would delay every export process and every first prediction.

References: M. Slaney, *Auditory Toolbox*, technical report 1998-010, Interval Research, 1998;
librosa 0.11, ``librosa/filters.py`` and ``librosa/core/convert.py``.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import scipy.sparse

from langid_fastai.audio import DEFAULT_SR

__all__ = ["mel_filters"]

# A mel is 66.7 Hz below 1 kHz; from there to 6.4 kHz it is 27 equal steps of the logarithm.
CORNER = 1000.0  # Hz
HZ_PER_MEL = 200 / 3
LOG_PER_MEL = np.log(6.4) / 27


@lru_cache(maxsize=8)
def mel_filters(
    sr: int = DEFAULT_SR,
    n_fft: int = 2048,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> scipy.sparse.csr_array:
    """Triangular filters on Slaney's mel scale, each of unit area (`librosa.filters.mel`).

    Parameters
    ----------
    sr : Hz
    n_fft : samples per frame
    n_mels : bands
    fmin, fmax : edges of the lowest and of the highest band, Hz; `fmax` None is sr / 2

    Returns
    -------
    filters : float32, (n_mels, 1 + n_fft // 2), sparse, since a bin falls into at most two bands;
        plot ``.toarray()``. Shared between calls: do not modify.

    Examples
    --------
    >>> mel_filters().shape
    (128, 1025)
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


def _to_mel(f: np.ndarray) -> np.ndarray:
    above = CORNER / HZ_PER_MEL + np.log(np.maximum(f, CORNER) / CORNER) / LOG_PER_MEL
    return np.where(f < CORNER, f / HZ_PER_MEL, above)


def _to_hz(mel: np.ndarray) -> np.ndarray:
    corner = CORNER / HZ_PER_MEL
    above = CORNER * np.exp(LOG_PER_MEL * np.maximum(mel - corner, 0))
    return np.where(mel < corner, mel * HZ_PER_MEL, above)
