import os

# One thread each: the tests run side by side, and threads that share cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile as sf
from PIL import Image


@pytest.fixture
def rng():
    """The same random numbers for every test, whatever ran before."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tone():
    """Make a sine of amplitude 0.5: ``tone(f, sr, seconds)``, Hz, Hz, s."""

    def make(f, sr=22_050, seconds=1.0):
        t = np.arange(round(sr * seconds)) / sr
        return (0.5 * np.sin(2 * np.pi * f * t)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def write_audio():
    """Write a waveform, its folder included: ``write_audio(path, y, sr, **options)``."""

    def write(path, y, sr=22_050, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, y, sr, **options)
        return path

    return write


@pytest.fixture
def picture_folder(tmp_path):
    """Images as an export makes them, tiny and easy to tell apart: bright below or above."""
    rng = np.random.default_rng(0)
    for side, n in (("train", 8), ("valid", 4)):
        for language, rows in (("de", slice(0, 16)), ("es", slice(16, 32))):
            folder = tmp_path / "pictures" / side / language
            folder.mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 100, (32, 48), dtype=np.uint8)
                image[rows] += 150
                Image.fromarray(image).save(folder / f"{i}@0.00.png")
    return tmp_path / "pictures"
