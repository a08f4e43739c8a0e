"""Make a waveform of voice-like bursts with pauses between them."""

import itertools

import numpy as np

SR = 8000


def speak(bursts, pauses, sr=SR, *, noise=1e-4, seed=0):
    """Bursts of voice-like sound with known pauses between: waveform, and spans of the bursts, s.

    A burst is a buzz of 120 Hz whose level swings by 12 dB four times a second, as syllables do.
    """
    rng = np.random.default_rng(seed)
    pieces, spans, at = [], [], 0
    for burst, pause in itertools.zip_longest(bursts, pauses, fillvalue=0.0):
        t = np.arange(round(burst * sr)) / sr
        swing = 10 ** (-(6 + 6 * np.cos(2 * np.pi * 4 * t)) / 20)
        pieces += [0.4 * np.sign(np.sin(2 * np.pi * 120 * t)) * swing, np.zeros(round(pause * sr))]
        spans.append((at / sr, (at + len(t)) / sr))
        at += len(t) + len(pieces[-1])
    y = np.concatenate(pieces)
    return (y + noise * rng.standard_normal(len(y))).astype(np.float32), spans
