"""Find which language is spoken when, for recordings of any length, in constant memory.

Conventions: times are seconds from the start of the recording. Segments are in order and do not
overlap. Adjacent segments have different labels. Silence and pauses are gaps between segments.

How a segment is found:

1. The audio is cut into hops of a quarter of a clip (2.5 s). A window of one clip ends with each
   hop, so a hop is in four windows, or fewer near the start and the end.
2. A hop is a pause if it is 40 dB softer than the loudest hop up to the end of the last window that
   contains it. Windows that contain only pauses are not scored.
3. The log-probabilities of a hop are the mean over the windows that contain it.
4. The labels of the hops are the best path, found by Viterbi's algorithm. The score of a path is
   the sum of the log-posteriors of its languages, without pauses, minus `CHANGE_COST` for each
   change. Labels are final as soon as all surviving paths agree on them, or after `LAG_HOPS`, when
   those of the best path so far are taken.
5. Adjacent hops with the same label form a segment. Its score is the mean probability of the label
   over the segment.

Boundaries are multiples of a hop. A passage shorter than about a clip and a half may be missed,
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

# Number of samples and `sound_level` of each of consecutive hops.
Measures = list[tuple[int, float]]

# Gain in log-probability required for a change of language: the labels must be e times as probable
# as without the change. Tuned on synthetic recordings, some noisy, in which the language changes
# every 10 to 30 s or never: without a cost, single hops are mislabelled; from 2 on, changes are
# missed.
CHANGE_COST = 1.0
# Number of hops after which a label is final: one clip. A longer lag made no difference in tests.
LAG_HOPS = 4


class Segment(TypedDict):
    """A passage in one language without a pause: times in s, label, mean calibrated probability."""

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
    mel : settings of the model's images
    score : function from windows to log-probabilities, as `Engine.score`
    choice : candidates, prior and threshold
    batch : number of windows scored at once; affects only speed and latency
    longest : length at which a segment is yielded and a new one is started, s

    Raises
    ------
    AudioError : the audio is shorter than a second, or contains invalid samples
    ModelError : scores are not finite
    """
    windows = _windows(_measured(blocks, mel))
    hops = _labelled(_scored(windows, score, batch), choice)
    return _merged(hops, mel.sr, longest)


def hops_to_score(
    blocks: Iterable[np.ndarray], mel: MelConfig
) -> Iterator[tuple[np.ndarray | None, Measures]]:
    """Cut a recording into windows, to be scored by the caller.

    Parameters
    ----------
    blocks, mel : as for `find_segments`

    Yields
    ------
    y, new : the window, float32 (mel.n_samples,), or None if it contains only pauses; number of
        samples and `sound_level` of the hops that the previous window did not contain
    """
    for window in _windows(_measured(blocks, mel)):
        yield (window.y if window.spoken else None), window.new


def segments_of(
    windows: Iterable[tuple[np.ndarray | None, Measures]], sr: int, choice: Choice
) -> Iterator[Segment]:
    """Yield the segments of a recording from the scores of its windows.

    Parameters
    ----------
    windows : pairs from `hops_to_score`, with the scores of a window, (n_languages,), in place of
        its samples
    sr : sampling rate of the windows, Hz
    choice : candidates, prior and threshold
    """
    hops = _scored(_windows(windows), lambda scores: scores, batch=1)
    return _merged(_labelled(hops, choice), sr, math.inf)


@dataclass
class _Hop:
    """A quarter of a clip, with its scores so far.

    Parameters
    ----------
    start, end : position in the recording, samples
    level : `sound_level` of the hop; 0 for silence
    pause : whether the hop is a pause, compared with the audio so far
    log_probs : sum over the `n_windows` that contain the hop, (n_languages,)
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
    """A window of one clip, and its hops; `spoken` unless all are pauses in the audio so far."""

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
    """Yield windows in order; `pause` of a hop is final in the last window that contains it."""
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
            yield window.hops[0]  # the next window starts after this hop
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
    """Return the weight and the probability of each state in a hop, (n,) each."""
    if hop.pause:
        return np.zeros(n), np.zeros(n)
    log_probs = hop.mean()
    weights = choice.log_posterior(log_probs)
    scores = np.exp(weights)
    if choice.threshold is not None:
        # The weight of "unknown" exceeds that of the best candidate by as much as the candidate is
        # below the threshold, so that "unknown" wins if it is below on average.
        highest = choice.highest(log_probs)
        unknown = weights.max() + math.log(choice.threshold) - highest
        weights, scores = np.append(weights, unknown), np.append(scores, -math.expm1(highest))
    return weights, scores


def _merged(hops: Iterable[tuple[_Hop, str, float]], sr: int, longest: float) -> Iterator[Segment]:
    """Join adjacent hops with the same label into segments, leaving out pauses."""
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
    """A segment that is not final: position in samples, and sum of the label's probability."""

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
    n : number of states
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
        self._totals = totals - totals.max()  # stays near 0 over hours of audio
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
        """Remove the oldest hops and return their states on the best path."""
        state = int(self._totals.argmax())
        for i in reversed(range(count, len(self._back))):
            state = int(self._back[i][state])
        return self._take(count, state)

    def _take(self, count: int, state: int) -> list[int]:
        """Remove the oldest hops and return their states; `state` is that of the last of them."""
        path = []
        for i in reversed(range(count)):
            path.append(state)
            state = int(self._back[i][state])
        for _ in path:
            self._back.popleft()
        return path[::-1]
