"""Find which language is spoken when, as segments; for any length, in constant memory.

Conventions: times are seconds from the start. Segments are in order, do not overlap, and two that
touch have different labels. Silence and pauses are gaps between segments.

How a segment is found:

1. The audio is cut into hops of a quarter of a clip (2.5 s). A window of one clip ends with each
   hop, so a hop is in four windows, fewer near the start and the end.
2. A hop 40 dB softer than the loudest so far, up to the end of the last window that contains it, is
   a pause. Windows that contain only pauses are not scored.
3. The log-probabilities of a hop are the mean of those of its windows, in log space.
4. The labels are the best path through the hops, found by Viterbi's algorithm: a path gains the
   log-posterior of its language in each hop, nothing in pauses, and loses `CHANGE_COST` at each
   change. The common prefix of all surviving paths is final, so labels are emitted as early as
   possible; after `LAG_HOPS` the best path so far decides.
5. Adjacent hops with the same label form a segment. Its score is the mean probability of the label
   over its time.

Boundaries are on the grid of hops. A passage shorter than about a clip and a half may be missed,
since each window is scored as a whole and normalised to its own loudest sound.

References
----------
L. Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 77, 1989, section III B (Viterbi).
H. Bourlard and N. Morgan, "Connectionist speech recognition", 1994 (posteriors of a network as
scores of states). J. Bloit and X. Rodet, "Short-time Viterbi for online HMM decoding", ICASSP 2008
(output where all paths agree).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import numpy as np

from langid_fastai.audio.levels import sound_level
from langid_fastai.errors import ModelError
from langid_fastai.inference.posterior import UNKNOWN, Choice
from langid_fastai.inference.windows import are_pauses, hop_windows
from langid_fastai.preprocessing import MelConfig

__all__ = ["Segment", "find_segments", "hops_to_score", "segments_of"]

# Of consecutive hops: number of samples, and `sound_level`.
Measures = list[tuple[int, float]]

# Gain in log-probability required for a change of language: what follows must be e times as
# probable as without it. Tuned on synthetic recordings, some of them noisy, that change every 10 to
# 30 s or never: without a cost single hops flip, from 2 on changes are missed.
CHANGE_COST = 1.0
# Hops to wait before a label is forced: a clip. A longer lag made no difference in that test.
LAG_HOPS = 4


class Segment(TypedDict):
    """One language without a pause: from when to when, s, and its mean calibrated probability."""

    start: float
    end: float
    label: str
    score: float


def find_segments(
    blocks: Iterable[np.ndarray],
    mel: MelConfig,
    score: Callable[[np.ndarray], np.ndarray],
    choice: Choice,
    *,
    batch: int = 1,
    longest: float = math.inf,
) -> Iterator[Segment]:
    """Yield each segment as soon as it is final.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording at `mel.sr`; their lengths do not matter
    mel : settings of the model
    score : from an `Engine`
    choice : candidates, prior and threshold
    batch : windows scored at once; affects only speed and latency
    longest : s; a segment that reaches this length is yielded, and continues as the next

    Raises
    ------
    AudioError : less than a second of audio, or invalid samples
    ModelError : scores that are not finite
    """
    windows = _windows(_measured(blocks, mel))
    hops = _labelled(_scored(windows, score, batch), choice)
    return _merged(hops, mel.sr, longest)


def hops_to_score(
    blocks: Iterable[np.ndarray], mel: MelConfig
) -> Iterator[tuple[np.ndarray | None, Measures]]:
    """Cut a recording into windows, to be scored elsewhere.

    Parameters
    ----------
    blocks, mel : as for `find_segments`

    Yields
    ------
    y, new : a window, float32 (mel.n_samples,), or None if it contains only pauses; the hops that
        are new in it
    """
    for window in _windows(_measured(blocks, mel)):
        yield (window.y if window.spoken else None), window.new


def segments_of(
    windows: Iterable[tuple[np.ndarray | None, Measures]], sr: int, choice: Choice
) -> Iterator[Segment]:
    """Yield the segments of a recording whose windows have been scored.

    Parameters
    ----------
    windows : as from `hops_to_score`, but with the scores of each window, (n_languages,), in place
        of its samples
    sr : Hz
    choice : candidates, prior and threshold
    """
    hops = _scored(_windows(windows), lambda scores: scores, batch=1)
    return _merged(_labelled(hops, choice), sr, math.inf)


@dataclass
class _Hop:
    """A quarter of a clip, with its scores so far.

    Parameters
    ----------
    start, end : samples
    level : see `sound_level`; 0 for silence
    pause : judged by the audio so far
    log_probs : sum over `n_windows`, (n_languages,)
    """

    start: int
    end: int
    level: float
    pause: bool = False
    log_probs: np.ndarray | float = 0.0
    n_windows: int = 0

    def add(self, log_probs: np.ndarray) -> None:
        if not np.isfinite(log_probs).all():
            raise ModelError("its scores are not finite; did the training of the model diverge?")
        self.log_probs = self.log_probs + log_probs.astype(np.float64)
        self.n_windows += 1

    def mean(self) -> np.ndarray:
        mean = self.log_probs / self.n_windows
        return mean - np.logaddexp.reduce(mean)


@dataclass(frozen=True)
class _Window:
    """One clip and its hops, old and new; `spoken` unless all were pauses at that time."""

    y: np.ndarray
    hops: tuple[_Hop, ...]
    new: Measures
    spoken: bool


def _measured(
    blocks: Iterable[np.ndarray], mel: MelConfig
) -> Iterator[tuple[np.ndarray, Measures]]:
    for y, new in hop_windows(blocks, mel):
        yield y, [(len(hop), sound_level(hop, mel.sr)) for hop in new]


def _windows(measured: Iterable[tuple[Any, Measures]]) -> Iterator[_Window]:
    """Yield windows in order; the last window of a hop decides whether the hop is a pause."""
    held: deque[_Hop] = deque()
    loudest = 0.0
    end = 0
    for y, new in measured:
        if end:
            held.popleft()
        for n_samples, level in new:
            held.append(_Hop(end, end + n_samples, level))
            end += n_samples
            loudest = max(loudest, level)
        pauses = are_pauses(np.array([hop.level for hop in held]), loudest)
        for hop, pause in zip(held, pauses, strict=True):
            hop.pause = bool(pause)
        yield _Window(y, tuple(held), new, not all(hop.pause for hop in held))


def _scored(
    windows: Iterable[_Window], score: Callable[[np.ndarray], np.ndarray], batch: int
) -> Iterator[_Hop]:
    """Score windows, and yield each hop once all windows that contain it are scored."""
    windows = iter(windows)
    rest: tuple[_Hop, ...] = ()
    while some := list(islice(windows, batch)):
        spoken = [window for window in some if window.spoken]
        if spoken:
            scores = score(np.stack([window.y for window in spoken]))  # (n, n_languages)
            for window, log_probs in zip(spoken, scores, strict=True):
                for hop in window.hops:
                    hop.add(log_probs)
        for window in some:
            yield window.hops[0]  # the next window begins after it
        rest = some[-1].hops[1:]
    yield from rest


def _labelled(hops: Iterable[_Hop], choice: Choice) -> Iterator[tuple[_Hop, str, float]]:
    """Yield the label of each hop and its probability."""
    labels = [*choice.labels, UNKNOWN] if choice.threshold is not None else choice.labels
    decoder = _Decoder(len(labels))
    waiting: deque[tuple[_Hop, np.ndarray]] = deque()
    for hop in hops:
        weights, scores = _states(hop, choice, len(labels))
        waiting.append((hop, scores))
        for state in decoder.push(weights):
            final, scores = waiting.popleft()
            yield final, labels[state], float(scores[state])
    for state in decoder.finish():
        final, scores = waiting.popleft()
        yield final, labels[state], float(scores[state])


def _states(hop: _Hop, choice: Choice, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and probability of each state in a hop; (n,) each."""
    if hop.pause:
        return np.zeros(n), np.zeros(n)
    log_probs = hop.mean()
    weights = choice.log_posterior(log_probs)
    scores = np.exp(weights)
    if choice.threshold is not None:
        # As far from the best candidate as that is from the threshold, so that "unknown" wins
        # where the best candidate is below the threshold on average.
        highest = choice.highest(log_probs)
        unknown = weights.max() + math.log(choice.threshold) - highest
        weights, scores = np.append(weights, unknown), np.append(scores, -math.expm1(highest))
    return weights, scores


def _merged(hops: Iterable[tuple[_Hop, str, float]], sr: int, longest: float) -> Iterator[Segment]:
    """Join adjacent hops with the same label; leave pauses out."""
    run: _Run | None = None
    for hop, label, score in hops:
        if run and (hop.pause or label != run.label):
            yield run.segment(sr)
            run = None
        if hop.pause:
            continue
        run = run or _Run(hop.start, hop.start, label)
        run.score += score * (hop.end - hop.start)
        run.end = hop.end
        if run.end - run.start >= longest * sr:
            yield run.segment(sr)
            run = None
    if run:
        yield run.segment(sr)


@dataclass
class _Run:
    """An open segment: its samples, and the sum of the label's probability over them."""

    start: int
    end: int
    label: str
    score: float = 0.0

    def segment(self, sr: int) -> Segment:
        score = self.score / (self.end - self.start)
        return Segment(start=self.start / sr, end=self.end / sr, label=self.label, score=score)


class _Decoder:
    """Viterbi's algorithm, hop by hop.

    Parameters
    ----------
    n : states
    """

    def __init__(self, n: int) -> None:
        self._totals = np.zeros(n)  # log-probability of the best path that ends in each state
        self._back: deque[np.ndarray] = deque()  # previous states of each hop that is not final

    def push(self, weights: np.ndarray) -> list[int]:
        """Add a hop; return the states of the oldest hops that have become final."""
        best = int(self._totals.argmax())
        changed = self._totals[best] - CHANGE_COST
        stays = self._totals >= changed
        self._back.append(np.where(stays, np.arange(len(weights)), best))
        totals = np.where(stays, self._totals, changed) + weights
        self._totals = totals - totals.max()  # bounded for hours of audio
        paths = np.arange(len(weights))
        for i in reversed(range(len(self._back))):
            if (paths == paths[0]).all():
                return self._take(i + 1, int(paths[0]))
            paths = self._back[i][paths]
        if len(self._back) > LAG_HOPS:
            return self._forced(1)
        return []

    def finish(self) -> list[int]:
        """Return the states of all remaining hops."""
        return self._forced(len(self._back))

    def _forced(self, count: int) -> list[int]:
        """Take the oldest hops from the best path."""
        state = int(self._totals.argmax())
        for i in reversed(range(count, len(self._back))):
            state = int(self._back[i][state])
        return self._take(count, state)

    def _take(self, count: int, state: int) -> list[int]:
        """Take the oldest hops, the last of which has this state."""
        path = []
        for i in reversed(range(count)):
            path.append(state)
            state = int(self._back[i][state])
        for _ in path:
            self._back.popleft()
        return path[::-1]
