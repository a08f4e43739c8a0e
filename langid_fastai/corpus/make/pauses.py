"""Where a long recording can be cut: its pauses, and the utterances between them.

A frame of sound is quiet when its level lies `pause_db` or more below the level of the speech, and
a pause is an unbroken run of quiet frames at least `min_pause` long. This is the energy half of
Rabiner & Sambur [1]_; their zero crossings, which find a weak fricative at the edge of a word, are
replaced by a margin that every utterance keeps of the pauses around it.

Who speaks `pause_db` softer than the rest of a recording, as an interviewer far from the
microphone, is thereby taken for a pause and left out.

The level of the speech is gated as programme loudness is [2]_: the mean power of all frames that
are less than 10 dB below the mean power of all. So neither a click nor an hour of silence moves it.

Which pauses become cuts is the best choice there is, found by dynamic programming: first, as little
speech as possible is left out for being too short; then, as few cuts as possible are forced; then,
as little time of pauses as possible stays inside the utterances. In other words: every stretch
between two pauses is an utterance of its own; one that is too short is joined to its neighbour over
the shorter pause; one that fits nowhere is dropped. A stretch that is too long and has no pause is
cut at its softest point, which may lie inside a word: such a cut is called forced.

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

from langid_fastai.errors import AudioError, CorpusError

__all__ = [
    "FRAME",
    "MARGIN",
    "CutRules",
    "Cuts",
    "Stretch",
    "choose_cuts",
    "frame_powers",
    "find_cuts",
]

FRAME = 0.02  # s; holds a period of the lowest voice
MARGIN = 0.2  # s of a pause that stay with the speech beside it: weak consonants and breath
GATE_DB = 10.0  # of BS.1770
SOFT_FRAMES = 3  # a forced cut goes where these are softest together: one frame may be a closure
SPARE = 0.1  # s by which `longest` exceeds twice `shortest`, so that rounding to frames has room
# Power of a recording that counts as silent: a full-scale sine is 0.5, one bit of 16 is 1e-9.
SILENT = 1e-10


@dataclass(frozen=True)
class CutRules:
    """What is a pause, and how long an utterance may be.

    Parameters
    ----------
    shortest, longest : limits of an utterance, margins included, s
    pause_db : how far below the level of the speech a pause lies, dB
    min_pause : shortest pause, s; quiet below 0.25 s belongs to articulation, as the closure of a
        stop (F. Goldman-Eisler, "Psycholinguistics", 1968)

    Raises
    ------
    CorpusError : a value outside its range
    """

    shortest: float = 3.0
    longest: float = 15.0
    pause_db: float = 20.0
    min_pause: float = 0.25

    def __post_init__(self) -> None:
        if not 0.5 <= self.shortest <= self.longest <= 600:
            raise CorpusError(
                f"shortest={self.shortest}, longest={self.longest} must be 0.5 s or more, and 600 s"
                " or less, the shorter first; did you pass milliseconds?"
            )
        if self.longest < 2 * self.shortest + SPARE:
            raise CorpusError(
                f"longest={self.longest} must be at least {2 * self.shortest + SPARE:g}, twice "
                f"shortest={self.shortest} and {SPARE} s: else something too long for one "
                "utterance can be too short for two"
            )
        if not 3 <= self.pause_db <= 80:
            raise CorpusError(f"pause_db={self.pause_db} must lie between 3 and 80 dB")
        if not 3 * FRAME <= self.min_pause <= 5:
            raise CorpusError(
                f"min_pause={self.min_pause} must lie between {3 * FRAME:g} and 5 s; did you pass "
                "milliseconds?"
            )


@dataclass(frozen=True)
class Cuts:
    """What became of one recording; all positions are samples, ``start, end``.

    Parameters
    ----------
    utterances : what is kept, in order
    dropped : stretches of speech too short for an utterance, and too far from any to join it
    n_forced : cuts that lie in no pause
    """

    utterances: list[tuple[int, int]]
    dropped: list[tuple[int, int]]
    n_forced: int


@dataclass(frozen=True)
class Stretch:
    """Sound between two pauses, with its margins.

    Parameters
    ----------
    start, end : samples
    pause : samples of the whole pause before it; 0 where there is none, as after a forced cut
    is_forced : begins at a forced cut
    """

    start: int
    end: int
    pause: int = 0
    is_forced: bool = False


def frame_powers(blocks: Iterable[np.ndarray], sr: int) -> tuple[np.ndarray, int]:
    """Measure the frames of a recording of any length.

    The mean of a frame is taken out first: the offset of a microphone is no sound.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording, each (n_samples,)
    sr : Hz

    Returns
    -------
    powers : float32, (n_frames,); the last frame may be a shorter one
    n : samples in all

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
    """Decide how one recording is cut.

    Parameters
    ----------
    powers, n : from `frame_powers`
    sr : Hz

    Raises
    ------
    AudioError : the recording is silent

    Examples
    --------
    >>> speech, pause = np.full(200, 0.1), np.full(50, 1e-6)  # of 4 s and of 1 s
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
    """Join stretches of speech to utterances, by the order of wishes that the module states.

    Parameters
    ----------
    stretches : in order, none longer than `longest`
    shortest, longest : limits of an utterance, samples
    """
    in_pauses = list(accumulate(stretch.pause for stretch in stretches))
    best: list[tuple[int, int, int]] = [(0, 0, 0)]  # speech dropped, cuts forced, pauses inside
    first: list[int | None] = []  # of the utterance that ends with a stretch; None: dropped
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
    while n:  # from the end, what the best choice for the first `n` ends with
        last, begins = stretches[n - 1], first[n - 1]
        if begins is None:
            lost.append((last.start, last.end))
            n -= 1
        else:
            utterances.append((stretches[begins].start, last.end))
            n = begins
    return Cuts(utterances[::-1], lost[::-1], best[-1][1])


def _between_pauses(powers: np.ndarray, rules: CutRules) -> list[tuple[int, int, int]]:
    """Stretches with their margins, and the whole pause before each, in frames."""
    gate = powers.mean(dtype=np.float64) * 10 ** (-GATE_DB / 10)
    speech_level = powers[powers > gate].mean(dtype=np.float64)
    is_quiet = powers < speech_level * 10 ** (-rules.pause_db / 10)
    turns = np.flatnonzero(np.diff(np.concatenate([[False], is_quiet, [False]]).astype(np.int8)))
    min_frames, margin = math.ceil(rules.min_pause / FRAME - 1e-9), round(MARGIN / FRAME)
    stretches, start, pause = [], 0, 0
    for quiet, loud in turns.reshape(-1, 2).tolist():
        if loud - quiet < min_frames:
            continue
        # Half of a pause belongs to either side; one at an edge of the recording has a single side.
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
    """The stretch, or parts of it that are not too long: from its start, a cut at the softest point
    of the second half of what fits, so long as as much is left as an utterance needs.
    """
    shortest, longest = limits
    bounds = [whole.start]
    while whole.end - bounds[-1] > longest:
        start = bounds[-1] // hop  # frames, from here on
        low = max(longest // hop // 2, -(-shortest // hop))
        high = min(longest // hop, (whole.end - bounds[-1] - shortest) // hop)
        near = powers[start + low - 1 : start + high + 2].astype(np.float64)
        soft = np.convolve(near, np.ones(SOFT_FRAMES), mode="valid")
        # Between the first frame of the softest three and the last: at the start of the middle one.
        bounds.append((start + low + int(soft[: high - low + 1].argmin())) * hop)
    bounds.append(whole.end)
    return [
        Stretch(start, end, whole.pause if not k else 0, is_forced=bool(k))
        for k, (start, end) in enumerate(pairwise(bounds))
    ]
