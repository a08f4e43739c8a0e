"""A recording → the overlapping windows that are scored.

The windows are the clips that training made of a recording, and one more halfway between each two
neighbours, so that what is said across a border is heard whole once. A recording of one clip, or
shorter, has exactly the window that training saw.

Contents: `windows_of`; `is_silent` and `are_pauses` for what is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from langid_fastai.errors import AudioError
from langid_fastai.preprocessing import LOUDEST, SILENCE, MelConfig, clips_of

__all__ = ["are_pauses", "is_silent", "windows_of"]

# A window this far below the loudest of its recording is a pause: room noise lies 30 to 60 dB below
# speech, the softer half of a conversation less than 20.
PAUSE_DB = 40.0


def windows_of(
    blocks: Iterable[np.ndarray], config: MelConfig = MelConfig()
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a recording into windows of one clip that overlap by half.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording at `config.sr`, as for `clips_of`

    Yields
    ------
    offset, y : start in the recording, s; float32, (config.n_samples,)

    Raises
    ------
    AudioError : the recording is shorter than a second

    Examples
    --------
    >>> [offset for offset, _ in windows_of([np.ones(int(22_050 * 23.5), dtype=np.float32)])]
    [0.0, 5.0, 10.0, 13.5]
    """
    n, half = config.n_samples, config.n_samples // 2
    before = None
    for offset, y in clips_of(blocks, config):
        if before is not None:
            step = round((offset - before[0]) * config.sr)  # samples; less than n for the last clip
            if step > half:
                both = np.concatenate([before[1], y[n - step :]])
                yield before[0] + half / config.sr, both[half : half + n]
        yield offset, y
        before = offset, y


def is_silent(y: np.ndarray) -> bool:
    """Whether a window holds no sound, by the rule of `mel_image`.

    Raises
    ------
    AudioError : a sample that is none of sound
    """
    peak = np.abs(y).max()
    if peak > LOUDEST:
        raise AudioError(f"a sample of {peak:.1g} is not sound in [-1, 1]; is the file damaged?")
    return bool(peak < SILENCE)


def are_pauses(levels: np.ndarray) -> np.ndarray:
    """Which windows of a recording are so much softer than its loudest that nobody speaks there.

    Parameters
    ----------
    levels : (n_windows,), root mean square of each

    Returns
    -------
    pauses : bool, (n_windows,)

    Examples
    --------
    >>> are_pauses(np.array([0.1, 0.05, 0.0005])).tolist()
    [False, False, True]
    """
    return levels < levels.max() * 10 ** (-PAUSE_DB / 20)
