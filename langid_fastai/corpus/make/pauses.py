"""Find the pauses of a long recording, and cut it into the utterances between them.

A frame is quiet if its level is `pause_db` or more below the speech level, and a pause is a run of
quiet frames of at least `min_pause`. This is the energy criterion of Rabiner & Sambur [1]_; their
zero-crossing criterion, which finds a weak fricative at the edge of a word, is replaced by a
margin: every utterance includes a part of the pauses around it.

As a consequence, speech that is `pause_db` softer than the rest of a recording, e.g. by an
interviewer far from the microphone, counts as a pause and is left out.

The speech level is gated like programme loudness [2]_: it is the mean power of all frames that are
less than 10 dB below the overall mean power. So neither a click nor an hour of silence changes it.

Dynamic programming finds the optimal cuts: first, minimise the speech that is dropped because it is
too short; then, the number of forced cuts; then, the duration of pauses inside utterances. In other
words: every stretch between two pauses is an utterance; one that is too short is joined to its
neighbour over the shorter pause; one that fits nowhere is dropped. A stretch that is too long and
has no pause is cut at its softest point, which may be inside a word: such a cut is called forced.

Conventions: powers are mean squares of frames of `FRAME` seconds; positions are samples.

References
----------
.. [1] L. R. Rabiner and M. R. Sambur, "An algorithm for determining the endpoints of isolated
   utterances", Bell System Technical Journal 54 (2), 1975, pp. 297-315.
.. [2] ITU-R BS.1770-4, "Algorithms to measure audio programme loudness and true-peak audio level",
   2015, annex 1: the relative gate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from langid_fastai.corpus.make.settings import FRAME, CutRules
from langid_fastai.errors import AudioError

__all__ = [
    "MARGIN",
    "Cuts",
    "Stretch",
    "choose_cuts",
    "frame_powers",
    "find_cuts",
]

MARGIN = 0.2  # s; part of a pause kept with the adjacent speech, for weak consonants and breath
GATE_DB = 10.0  # BS.1770
SOFT_FRAMES = 3  # a forced cut is in the softest run of frames; a single one may be a stop closure
# A recording with less power is silent; a full-scale sine has 0.5, the lowest of 16 bits 1e-9.
SILENT = 1e-10


@dataclass(frozen=True)
class Cuts:
    """Cuts of one recording; positions are ``(start, end)`` in samples.

    Parameters
    ----------
    utterances : the parts that are kept, in order
    dropped : stretches of speech that are too short and cannot be joined to a neighbour
    n_forced : number of cuts outside any pause
    """

    utterances: list[tuple[int, int]]
    dropped: list[tuple[int, int]]
    n_forced: int


@dataclass(frozen=True)
class Stretch:
    """Speech between two pauses, with its margins.

    Parameters
    ----------
    start, end : positions in the recording, samples
    pause : length of the whole preceding pause, samples; 0 if there is none, e.g. after a forced
        cut
    is_forced : whether it begins at a forced cut
    """

    start: int
    end: int
    pause: int = 0
    is_forced: bool = False


def frame_powers(blocks: Iterable[np.ndarray], sr: int) -> tuple[np.ndarray, int]:
    """Compute the power of each frame of a recording of any length.

    The mean of each frame is subtracted, to remove the DC offset of a microphone.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording, each (n_samples,)
    sr : sampling rate, Hz

    Returns
    -------
    powers : float32, (n_frames,), mean squares; the last frame may be shorter
    n : total number of samples

    Examples
    --------
    >>> powers, n = frame_powers([np.tile([1.0, -1.0], 400), np.zeros(800)], 16_000)
    >>> powers.tolist(), n
    ([1.0, 1.0, 0.5, 0.0, 0.0], 1600)
    """
    hop, n = round(FRAME * sr), 0
    rest = np.empty(0, dtype=np.float32)
    powers = []
    for block in blocks:
        n += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // hop * hop
        powers.append(rest[:whole].reshape(-1, hop).var(axis=1, dtype=np.float64))
        rest = rest[whole:]
    if len(rest):
        powers.append(rest.var(keepdims=True, dtype=np.float64))
    return np.concatenate([*powers, []]).astype(np.float32), n


def find_cuts(powers: np.ndarray, n: int, sr: int, rules: CutRules = CutRules()) -> Cuts:
    """Choose the cuts of one recording.

    Parameters
    ----------
    powers, n : powers of the frames and number of samples, from `frame_powers`
    sr : sampling rate, Hz

    Raises
    ------
    AudioError : the recording is silent

    Examples
    --------
    >>> speech, pause = np.full(200, 0.1), np.full(50, 1e-6)  # 4 s and 1 s
    >>> cuts = find_cuts(np.concatenate([speech, pause, speech]), 450 * 320, 16_000)
    >>> [(start / 16_000, end / 16_000) for start, end in cuts.utterances]
    [(0.0, 4.2), (4.8, 9.0)]
    """
    if not len(powers) or powers.mean(dtype=np.float64) < SILENT:
        raise AudioError("silent: there is nothing to cut")
    hop = round(FRAME * sr)
    limits = math.ceil(rules.shortest * sr), math.floor(rules.longest * sr)
    stretches = [
        part
        for start, end, pause in _between_pauses(powers, rules)
        for part in _cut_long(
            Stretch(start * hop, min(end * hop, n), pause * hop), powers, hop, limits
        )
    ]
    return choose_cuts(stretches, *limits)


def choose_cuts(stretches: list[Stretch], shortest: int, longest: int) -> Cuts:
    """Join stretches of speech into utterances, by the priorities given in the module docstring.

    Parameters
    ----------
    stretches : stretches in order of time, none longer than `longest`
    shortest, longest : limits of the length of an utterance, samples
    """
    in_pauses = list(accumulate(stretch.pause for stretch in stretches))
    best: list[tuple[int, int, int]] = [(0, 0, 0)]  # speech dropped, cuts forced, pauses inside
    first: list[int | None] = []  # first stretch of the utterance ending at i; None: dropped
    for i, last in enumerate(stretches):
        dropped, forced, inside = best[i]
        choice = (dropped + last.end - last.start, forced, inside)
        begins = None
        for j in range(i, -1, -1):
            length = last.end - stretches[j].start
            if length > longest:
                break
            if length >= shortest:
                dropped, forced, inside = best[j]
                inside += in_pauses[i] - in_pauses[j]
                cost = (dropped, forced + stretches[j].is_forced, inside)
                if cost < choice:
                    choice, begins = cost, j
        best.append(choice)
        first.append(begins)
    utterances: list[tuple[int, int]] = []
    lost: list[tuple[int, int]] = []
    n = len(stretches)
    while n:  # backtrack through the best solutions for the first `n` stretches
        last, begins = stretches[n - 1], first[n - 1]
        if begins is None:
            lost.append((last.start, last.end))
            n -= 1
        else:
            utterances.append((stretches[begins].start, last.end))
            n = begins
    return Cuts(utterances[::-1], lost[::-1], best[-1][1])


def _between_pauses(powers: np.ndarray, rules: CutRules) -> list[tuple[int, int, int]]:
    """Return start, end (with margins) and preceding pause of each stretch, in frames."""
    gate = powers.mean(dtype=np.float64) * 10 ** (-GATE_DB / 10)
    speech_level = powers[powers > gate].mean(dtype=np.float64)
    is_quiet = powers < speech_level * 10 ** (-rules.pause_db / 10)
    turns = np.flatnonzero(np.diff(np.concatenate([[False], is_quiet, [False]]).astype(np.int8)))
    min_frames, margin = math.ceil(rules.min_pause / FRAME - 1e-9), round(MARGIN / FRAME)
    stretches, start, pause = [], 0, 0
    for quiet, loud in turns.reshape(-1, 2).tolist():
        if loud - quiet < min_frames:
            continue
        # Each neighbour keeps up to half of a pause; a pause at an edge has only one neighbour.
        is_inside = quiet > 0 and loud < len(powers)
        kept = min(margin, (loud - quiet) // (2 if is_inside else 1))
        if quiet > 0:
            stretches.append((start, quiet + kept, pause))
        start, pause = (loud - kept if loud < len(powers) else loud), loud - quiet
    if start < len(powers):
        stretches.append((start, len(powers), pause))
    return stretches


def _cut_long(
    whole: Stretch, powers: np.ndarray, hop: int, limits: tuple[int, int]
) -> list[Stretch]:
    """Cut a stretch that is too long into parts.

    Each cut is at the softest point between half the maximum length and the maximum length after
    the previous cut, and leaves at least the minimum length for the last part.
    """
    shortest, longest = limits
    bounds = [whole.start]
    while whole.end - bounds[-1] > longest:
        start = bounds[-1] // hop  # frames, from here on
        low = max(longest // hop // 2, -(-shortest // hop))
        high = min(longest // hop, (whole.end - bounds[-1] - shortest) // hop)
        near = powers[start + low - 1 : start + high + 2].astype(np.float64)
        soft = np.convolve(near, np.ones(SOFT_FRAMES), mode="valid")
        # Cut at the start of the middle one of the three softest frames.
        bounds.append((start + low + int(soft[: high - low + 1].argmin())) * hop)
    bounds.append(whole.end)
    return [
        Stretch(start, end, whole.pause if not k else 0, is_forced=bool(k))
        for k, (start, end) in enumerate(pairwise(bounds))
    ]
