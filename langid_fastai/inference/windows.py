"""Cut a recording into the overlapping windows that are scored.

To identify the language of a recording, the windows are the clips used in training, plus one
halfway between each adjacent pair, so that speech across a boundary is complete in one window. For
a timeline, windows start one hop apart, a quarter of a clip. A recording of at most one clip has
one window, the clip used in training.

Contents: `windows_of` and `spoken_windows`, for recordings; `hop_windows`, for timelines;
`are_pauses`, which finds parts that are not speech.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from langid_fastai.audio.levels import sound_level
from langid_fastai.preprocessing import MelConfig, clips_of

__all__ = ["HOPS", "are_pauses", "hop_windows", "spoken_windows", "windows_of"]

# Number of hops in a window of a timeline; a hop is 2.5 s with clips of 10 s. Boundaries are
# accurate to half a hop at best, and each hop requires scoring one window.
HOPS = 4

# A part is a pause if its level is this far below the loudest of the recording, dB. Room noise is
# 30 to 60 dB below speech, the softer speaker of a conversation less than 20 dB below the louder.
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
    offset, y : start in the recording, s; samples, float32, (config.n_samples,)

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


def spoken_windows(
    blocks: Iterable[np.ndarray], config: MelConfig = MelConfig()
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the windows of `windows_of` that are not silent, each with its `sound_level`."""
    for _, y in windows_of(blocks, config):
        if level := sound_level(y, config.sr):
            yield y, level


def hop_windows(
    blocks: Iterable[np.ndarray], config: MelConfig = MelConfig()
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Cut a recording into hops, and yield the window of one clip that ends with each hop.

    The first window is yielded with all its hops, each later one with its last hop. The last hop
    of the recording may be shorter than the others. A recording shorter than a clip is repeated
    until it fills one window.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording at `config.sr`, as for `clips_of`

    Yields
    ------
    y, hops : samples of the window, float32, (config.n_samples,); samples of the hops that are
        yielded for the first time, each (n_samples / 4,), or fewer at the end

    Raises
    ------
    AudioError : the recording is shorter than a second

    Examples
    --------
    >>> windows = hop_windows([np.ones(int(22_050 * 16), dtype=np.float32)])
    >>> [[round(len(hop) / 22_050, 3) for hop in hops] for _, hops in windows]
    [[2.5, 2.5, 2.5, 2.5], [2.5], [2.5], [1.0]]
    """
    n = config.n_samples
    hops = _pieces(blocks, -(-n // HOPS))
    first = list(islice(hops, HOPS))
    if sum(map(len, first)) < n:
        for _, y in clips_of(first, config):
            yield y, first
        return
    heard = deque(first, maxlen=HOPS + 1)  # the last may be short
    yield np.concatenate(heard)[-n:], first
    for hop in hops:
        heard.append(hop)
        yield np.concatenate(heard)[-n:], [hop]


def _pieces(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Regroup blocks into pieces of equal size; the last may be shorter."""
    rest = np.empty(0, dtype=np.float32)
    for block in blocks:
        block = np.asarray(block, dtype=np.float32)
        rest = np.concatenate([rest, block]) if len(rest) else block
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    if len(rest):
        yield rest


def are_pauses(levels: np.ndarray, loudest: float | None = None) -> np.ndarray:
    """Find the parts of a recording that are too soft, compared with the loudest, to be speech.

    Parameters
    ----------
    levels : (n,), `sound_level` of each part; 0 for silence, which is always a pause
    loudest : level of the loudest part; by default the maximum of `levels`

    Returns
    -------
    pauses : bool, (n,)

    Examples
    --------
    >>> are_pauses(np.array([0.1, 0.05, 0.0005])).tolist()
    [False, False, True]
    """
    loudest = levels.max() if loudest is None else loudest
    return levels <= loudest * 10 ** (-PAUSE_DB / 20)
