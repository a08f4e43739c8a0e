"""Recordings that a network separates easily: a "language" is a pitch."""

import numpy as np
import soundfile as sf

SR = 8000


def make_tones(folder, pitches, speakers="abcd", *, seed=0, seconds=2.2, suffix="wav"):
    """Write two recordings of each speaker, whose pitch is a little above the language's.

    Parameters
    ----------
    folder : gets ``<language>/<language>-<speaker>/<n>.wav``
    pitches : language → Hz
    """
    rng = np.random.default_rng(seed)
    for language, f in pitches.items():
        for speaker in speakers:
            for i in range(2):
                t = np.arange(int(seconds * SR)) / SR
                y = 0.3 * np.sin(2 * np.pi * (f + 20 * rng.random()) * t)
                file = folder / language / f"{language}-{speaker}" / f"{i}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                sf.write(file, y + 0.02 * rng.standard_normal(len(t)), SR)
    return folder
