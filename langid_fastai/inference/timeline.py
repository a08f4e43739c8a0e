"""A recording → which language is spoken when, as segments; of any length, in constant memory.

Conventions: times are seconds from the start. Segments are in order, do not overlap, and two that
touch have different labels. Silence and pauses are gaps between segments.

How a segment is found:

1. The sound is cut into hops of a quarter of a clip (2.5 s). With each hop ends a window of one
   clip, so a hop is heard in four windows, fewer near the start and the end.
2. A hop 40 dB softer than the loudest heard so far, up to the end of the last window that holds it,
   is a pause. Windows of pauses alone are not scored.
3. The log-probabilities of a hop are the mean of those of its windows, in log space.
4. The labels are the best path through the hops: it gains the log-posterior of its language in
   each, nothing in pauses, and loses `CHANGE_COST` with each change. Viterbi's algorithm finds it.
   What all paths that can still become the best have in common is final, so a label waits no longer
   than it must; after `LAG_HOPS` the path that is best by then decides.
5. Neighbouring hops of one label are a segment. Its score is the mean probability of the label over
   its time.

Borders lie on the grid of hops. A stretch shorter than about a clip and a half may be overlooked,
for each window is scored as a whole, and normalised to its own loudest sound.

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
from typing import TypedDict

import numpy as np

from langid_fastai.errors import ModelError
from langid_fastai.inference.posterior import UNKNOWN, Choice
from langid_fastai.inference.windows import are_pauses, hop_windows, is_silent
from langid_fastai.preprocessing import MelConfig

__all__ = ["Segment", "find_segments"]

# What a change of language must gain in log-probability: what follows must be e times as probable
# as without it. Chosen by trial on made-up recordings, some of them noisy, that change every 10 to
# 30 s or never: without a cost single hops flip, from 2 on changes are overlooked.
CHANGE_COST = 1.0
# Hops that a label may wait for later ones: a clip. Longer changed nothing in that trial.
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
    """Give each segment as soon as it is final.

    Parameters
    ----------
    blocks : consecutive pieces of one mono recording at `mel.sr`; their lengths do not matter
    mel : of the model
    score : of an `Engine`
    choice : among which languages
    batch : windows scored at once; changes nothing but speed, and how soon a segment comes
    longest : s; a segment that reaches it is given, and goes on as the next

    Raises
    ------
    AudioError : less than a second of sound, or samples that are none
    ModelError : scores that are no numbers
    """
    windows = _windows(blocks, mel)
    hops = _labelled(_scored(windows, score, batch), choice)
    return _merged(hops, mel.sr, longest)


@dataclass
class _Hop:
    """A quarter of a clip, and what is known of it so far.

    Parameters
    ----------
    start, end : samples
    level : root mean square; 0 for silence
    pause : by what has been heard so far
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
            raise ModelError("its scores are no numbers; did the model's training diverge?")
        self.log_probs = self.log_probs + log_probs.astype(np.float64)
        self.n_windows += 1

    def mean(self) -> np.ndarray:
        mean = self.log_probs / self.n_windows
        return mean - np.logaddexp.reduce(mean)


@dataclass(frozen=True)
class _Window:
    """One clip, and the hops it holds; `spoken` unless all were pauses when it was heard."""

    y: np.ndarray
    hops: tuple[_Hop, ...]
    spoken: bool


def _windows(blocks: Iterable[np.ndarray], mel: MelConfig) -> Iterator[_Window]:
    """Windows in order, each hop in all that hold it; the last of them decides on its pause."""
    held: deque[_Hop] = deque()
    loudest = 0.0
    end = 0
    for y, new in hop_windows(blocks, mel):
        if end:
            held.popleft()
        for piece in new:
            level = 0.0 if is_silent(piece) else float(np.sqrt(np.mean(np.square(piece))))
            held.append(_Hop(end, end + len(piece), level))
            end += len(piece)
            loudest = max(loudest, level)
        pauses = are_pauses(np.array([hop.level for hop in held]), loudest)
        for hop, pause in zip(held, pauses, strict=True):
            hop.pause = bool(pause)
        yield _Window(y, tuple(held), not all(hop.pause for hop in held))


def _scored(
    windows: Iterable[_Window], score: Callable[[np.ndarray], np.ndarray], batch: int
) -> Iterator[_Hop]:
    """Score windows, and give each hop when all windows that hold it are scored."""
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
            yield window.hops[0]  # the next window begins behind it
        rest = some[-1].hops[1:]
    yield from rest


def _labelled(hops: Iterable[_Hop], choice: Choice) -> Iterator[tuple[_Hop, str, float]]:
    """Decide on the label of each hop, and say how probable it is there."""
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
    """What a hop adds to each state's path, and the probability it gives the state; (n,) each."""
    if hop.pause:
        return np.zeros(n), np.zeros(n)
    log_probs = hop.mean()
    weights = choice.log_posterior(log_probs)
    scores = np.exp(weights)
    if choice.threshold is not None:
        # As far from the best candidate as that is from the threshold: so "unknown" wins where,
        # on average over its time, the best candidate is below.
        highest = choice.highest(log_probs)
        unknown = weights.max() + math.log(choice.threshold) - highest
        weights, scores = np.append(weights, unknown), np.append(scores, -math.expm1(highest))
    return weights, scores


def _merged(hops: Iterable[tuple[_Hop, str, float]], sr: int, longest: float) -> Iterator[Segment]:
    """Join neighbours of one label; leave pauses out."""
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
    """A segment that may go on: samples, and the sum of the label's probability over them."""

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
        self._back: deque[np.ndarray] = deque()  # of each hop not yet final, the states before it

    def push(self, weights: np.ndarray) -> list[int]:
        """Add a hop; return the states that are final now, of the oldest hops that were not."""
        best = int(self._totals.argmax())
        changed = self._totals[best] - CHANGE_COST
        stays = self._totals >= changed
        self._back.append(np.where(stays, np.arange(len(weights)), best))
        totals = np.where(stays, self._totals, changed) + weights
        self._totals = totals - totals.max()  # hours add up to no large number
        paths = np.arange(len(weights))
        for i in reversed(range(len(self._back))):
            if (paths == paths[0]).all():
                return self._take(i + 1, int(paths[0]))
            paths = self._back[i][paths]
        if len(self._back) > LAG_HOPS:
            return self._forced(1)
        return []

    def finish(self) -> list[int]:
        """Return the states of all hops left."""
        return self._forced(len(self._back))

    def _forced(self, count: int) -> list[int]:
        """Take the oldest hops as the best path has them."""
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
