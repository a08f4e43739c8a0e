"""Make ``mel_golden.npy``, the image that `mel_image` must give for `signal` with `CONFIG`.

It is computed here by librosa in double precision, not by our code. Run it only if the image is
meant to change, and say why in the same commit: ``python tests/golden/make_mel_golden.py``.
"""

from pathlib import Path

import librosa
import numpy as np

CONFIG = {"sr": 8_000, "n_fft": 256, "hop_length": 128, "n_mels": 16}
FILE = Path(__file__).with_name("mel_golden.npy")


def signal():
    """A rising tone that grows loud, with its octave below: all bands, all levels; 20 frames."""
    t = np.arange(19 * 128) / 8_000
    phase = 2 * np.pi * (150 * t + 5_500 * t**2)  # 150 to 3500 Hz
    return 0.7 * 10 ** (-3 + 9 * t) * (np.sin(phase) + 0.3 * np.sin(phase / 2))


def make():
    y = signal() - signal().mean()
    S = np.abs(librosa.stft(y, n_fft=256, hop_length=128, dtype=np.complex128)) ** 2
    M = librosa.filters.mel(sr=8_000, n_fft=256, n_mels=16, dtype=np.float64) @ S
    M_db = librosa.power_to_db(M, ref=np.max, amin=1e-30, top_db=80)
    return np.rint((M_db[::-1] + 80) / 80 * 255).astype(np.uint8)


if __name__ == "__main__":
    np.save(FILE, make())
