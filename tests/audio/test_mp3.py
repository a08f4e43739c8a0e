"""Encoding as MP3 and back, at all sampling rates and bit rates of speech."""

import numpy as np
import pytest
import scipy.signal

from langid_fastai.audio.mp3 import MP3_BIT_RATES, MP3_RATES, code_mp3, encode_mp3


def noise(sr, seconds):
    """Noise with a falling spectrum, like speech, and a peak of 2."""
    rng = np.random.default_rng(sr)
    y = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(round(seconds * sr)))
    return (2 * y / np.abs(y).max()).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 2.37])
@pytest.mark.parametrize("sr", MP3_RATES)
def test_coding_preserves_time_level_and_length(sr, seconds):
    """With and without LAME's tag, which depends on the bit rate."""
    y, (low, high) = noise(sr, seconds), MP3_RATES[sr]
    for kbits in (low, 48, high):
        z = code_mp3(y, sr, kbits)
        assert (z.shape, z.dtype) == (y.shape, np.float32)
        lag = scipy.signal.correlate(z, y, method="fft").argmax() - (len(y) - 1)
        assert abs(lag) <= (1 if seconds < 1 else 0), kbits
        # 8 kb/s removes most of the band.
        assert 0.3 < np.linalg.norm(z) / np.linalg.norm(y) < 1.1, kbits


@pytest.mark.parametrize("sr", MP3_RATES)
def test_the_bit_rate_is_the_requested_one(sr):
    y, (low, high) = noise(sr, 10.0) / 4, MP3_RATES[sr]
    for kbits in (rate for rate in MP3_BIT_RATES if low <= rate <= min(high, 128)):
        n_bytes = len(encode_mp3(y, sr, kbits))
        assert 8 * n_bytes / 10 == pytest.approx(1000 * kbits, rel=0.04)


def test_silence_stays_silent():
    assert not code_mp3(np.zeros(16_000, dtype=np.float32), 16_000, 16).any()
