"""Identify the languages of many recordings, read in worker processes and scored in batches.

::

    files ─► worker processes: read, cut into windows, make clips ─► batches ─► network ─► answers

Conventions: scores differ by at most 1e-5 from those of recordings predicted one by one.
Predictions are in the order of the files. A batch contains windows of several recordings. A long
recording is sent in pieces, and a worker process waits until its piece is received, so memory use
depends neither on the number of recordings nor on their lengths. Separate threads run the network,
while the caller's thread collects batches.

Contents: `Request`, the options; `Prediction`, the result for one recording; `predict_files`, on
this machine; `predict_on_cluster`, on a Dask cluster; `default_batch`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from langid_fastai.errors import AudioError
from langid_fastai.inference.backends import Engine, scoring_threads
from langid_fastai.inference.inputs import opened
from langid_fastai.inference.posterior import Answer, Choice, answers_of, mean_log_probs
from langid_fastai.inference.timeline import Segment, hops_to_score, segments_of
from langid_fastai.inference.windows import spoken_windows
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.cluster import on_cluster
from langid_fastai.utils.parallel import AHEAD, TaskEnd, streamed
from langid_fastai.utils.task_limits import TaskFailure, alive

__all__ = [
    "Prediction",
    "Request",
    "default_batch",
    "predict_files",
    "predict_on_cluster",
]

# Number of windows that a worker sends at once, and of windows in a batch on a CPU.
WINDOWS = 8
GPU_BATCH = 64


class Prediction(NamedTuple):
    """The result for one recording.

    Parameters
    ----------
    path : path of the recording
    answers : languages, or segments of a timeline; empty if the recording failed
    duration : duration of the audio that was read, s
    failure : reason why there is no answer, e.g. silence or an unreadable file; empty otherwise
    """

    path: str
    answers: list[Answer] | list[Segment]
    duration: float
    failure: str = ""


class Loaded(Protocol):
    """A `LanguageIdentifier` loaded from a folder; it is pickled as the path of the folder."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def engine(self) -> Engine: ...


@dataclass(frozen=True)
class Request:
    """Options for the prediction of each recording.

    Parameters
    ----------
    choice : candidates, prior and threshold
    top_k : maximum number of answers per recording
    timeline : whether to predict the segments of a timeline instead of answers
    channel : channel number, from 1; None for the channel that the model was trained on, if any,
        otherwise the mean of all channels
    """

    choice: Choice
    top_k: int = 5
    timeline: bool = False
    channel: int | None = None


def predict_files(
    files: Iterable[str],
    engine: Engine,
    mel: MelConfig,
    request: Request,
    n_jobs: int = -1,
    batch_size: int = WINDOWS,
) -> Iterator[Prediction]:
    """Yield a prediction for each file, in order.

    Parameters
    ----------
    files : paths or addresses of recordings; the iterator is read as needed
    engine, mel : engine and `MelConfig` of the model
    request : options
    n_jobs : number of processes that read files; -1 for all cores, 1 for the calling process
    batch_size : number of windows in a batch; `engine` scores several batches at once

    Raises
    ------
    ModelError : scores are not finite
    """
    reader = _Reader(mel, engine.clip_of, request.timeline, request.channel)
    recordings: dict[int, _Recording] = {}
    first = 0
    with (
        closing(streamed(reader, enumerate(files), n_jobs=n_jobs)) as items,
        scoring_threads(engine) as pool,
    ):
        batches = _Batches(pool, engine, batch_size)
        for (number, path), item in items:
            recording = recordings.setdefault(number, _Recording(path))
            if isinstance(item, _Piece):
                recording.add(item)
                batches.add(recording, item.clips)
            else:
                recording.end(item)
            batches.collect(batches.n_threads + 1)  # the next batch is always ready
            if len(recordings) > AHEAD and recordings[first].is_read:
                batches.finish()  # files without clips fill no batch
            while first in recordings and recordings[first].is_done:
                yield recordings.pop(first).prediction(request, mel.sr)
                first += 1
        batches.finish()
    for number in sorted(recordings):
        yield recordings.pop(number).prediction(request, mel.sr)


def predict_on_cluster(
    files: Iterable[str], identifier: Loaded, request: Request, address: str
) -> Iterator[Prediction]:
    """Yield a prediction for each file, in order, computed on a Dask cluster.

    Parameters
    ----------
    files : addresses, or paths that are the same on all machines
    identifier : loaded from a folder that is at the same path on all machines
    request : options
    address : address of the scheduler, see `on_cluster`

    Raises
    ------
    RunError : the cluster cannot be used
    ModelError : a machine has no model in that folder, or a different one
    """
    work = partial(_predict_one, identifier=identifier, request=request)
    done: dict[int, Prediction] = {}
    first = 0
    for (number, path), result in on_cluster(work, enumerate(files), address):
        if isinstance(result, TaskFailure):
            result = Prediction(path, [], 0.0, result.reason)
        done[number] = result
        while first in done:
            yield done.pop(first)
            first += 1


def _predict_one(task: tuple[int, str], *, identifier: Loaded, request: Request) -> Prediction:
    """Predict one file, on a worker of a cluster."""
    engine, mel = identifier.engine, identifier.info.mel
    [prediction] = predict_files([task[1]], engine, mel, request, n_jobs=1)
    return prediction


def default_batch(engine: Engine) -> int:
    """Return the default number of windows in a batch."""
    return GPU_BATCH if engine.on_gpu else WINDOWS


class _Piece(NamedTuple):
    """Consecutive windows of a recording, as clips to be scored.

    Parameters
    ----------
    clips : clips of the windows that are not silent, (n, …); None if all are silent
    notes : for each window, whether it is in `clips`, and its level; for a timeline, its new hops
    n_samples : number of samples of the recording that were read so far
    failure : reason why the recording cannot be read; empty otherwise
    """

    clips: np.ndarray | None
    notes: list[tuple[bool, Any]]
    n_samples: int
    failure: str = ""


@dataclass(frozen=True)
class _Reader:
    """Read recordings and cut them into pieces, in worker processes."""

    mel: MelConfig
    clip_of: Callable[[np.ndarray], np.ndarray] | None
    timeline: bool
    channel: int | None

    def __call__(self, task: tuple[int, str]) -> Iterator[_Piece]:
        n_read = 0

        def counted(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            nonlocal n_read
            for block in blocks:
                n_read += len(block)
                yield block

        clips: list[np.ndarray] = []
        notes: list[tuple[bool, Any]] = []
        _, path = task
        try:
            with opened(path, self.mel, self.channel) as sound:
                blocks = counted(alive(sound))
                for y, note in (hops_to_score if self.timeline else spoken_windows)(
                    blocks, self.mel
                ):
                    if y is not None:
                        clips.append(self.clip_of(y) if self.clip_of else y)
                    notes.append((y is not None, note))
                    if len(notes) == WINDOWS:
                        yield _Piece(np.stack(clips) if clips else None, notes, n_read)
                        clips, notes = [], []
        except AudioError as error:
            yield _Piece(None, [], n_read, _reason(error, path))
        else:
            yield _Piece(np.stack(clips) if clips else None, notes, n_read)


def _reason(error: AudioError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path)}: ")


@dataclass
class _Recording:
    """Pieces and scores received so far for one recording."""

    path: str
    notes: list[tuple[bool, Any]] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    n_clips: int = 0
    n_samples: int = 0
    failure: str = ""
    is_read: bool = False

    def add(self, piece: _Piece) -> None:
        self.notes += piece.notes
        self.n_clips += 0 if piece.clips is None else len(piece.clips)
        self.n_samples = piece.n_samples
        self.failure = piece.failure

    def end(self, item: TaskEnd | TaskFailure) -> None:
        self.is_read = True
        if isinstance(item, TaskFailure):
            self.failure = item.reason

    @property
    def is_done(self) -> bool:
        return self.is_read and len(self.scores) == self.n_clips

    def prediction(self, request: Request, sr: int) -> Prediction:
        answers: list[Answer] | list[Segment] = []
        if not self.failure:
            try:
                answers = self._answers(request, sr)
            except AudioError as error:
                self.failure = _reason(error, self.path)
        return Prediction(self.path, answers, self.n_samples / sr, self.failure)

    def _answers(self, request: Request, sr: int) -> list[Answer] | list[Segment]:
        if request.timeline:
            scores = iter(self.scores)
            hops = ((next(scores) if scored else None, new) for scored, new in self.notes)
            return list(segments_of(hops, sr, request.choice))
        levels = [level for _, level in self.notes]
        log_probs = mean_log_probs(self.path, self.scores, levels)
        return answers_of(log_probs, request.choice, request.top_k)


class _Batches:
    """Collect clips of several recordings into batches, and score them in threads."""

    def __init__(self, pool: ThreadPoolExecutor, engine: Engine, size: int) -> None:
        self.pool, self.score, self.size = pool, engine.score_clips, size
        self.n_threads = engine.n_threads
        self.waiting: list[tuple[_Recording, np.ndarray]] = []
        self.n_waiting = 0
        self.running: deque[tuple[Future[np.ndarray], list[tuple[_Recording, int]]]] = deque()

    def add(self, recording: _Recording, clips: np.ndarray | None) -> None:
        """Add clips, and start scoring the batches that are full."""
        if clips is not None:
            self._add(recording, clips, self.size)

    def collect(self, n_running: int) -> None:
        """Add scores to their recordings, and wait until at most `n_running` batches are left."""
        while self.running and (len(self.running) > n_running or self.running[0][0].done()):
            future, owners = self.running.popleft()
            scores = iter(future.result())
            for recording, n in owners:
                recording.scores += [next(scores) for _ in range(n)]

    def finish(self) -> None:
        """Score the remaining clips, divided among the threads."""
        remaining, size = self.waiting, -(-self.n_waiting // self.n_threads)
        self.waiting, self.n_waiting = [], 0
        for recording, clips in remaining:
            self._add(recording, clips, size)
        if self.waiting:
            self._start()
        self.collect(0)

    def _add(self, recording: _Recording, clips: np.ndarray, size: int) -> None:
        while len(clips):
            some, clips = np.split(clips, [size - self.n_waiting])
            self.waiting.append((recording, some))
            self.n_waiting += len(some)
            if self.n_waiting == size:
                self._start()

    def _start(self) -> None:
        clips = np.concatenate([clips for _, clips in self.waiting])
        owners = [(recording, len(clips)) for recording, clips in self.waiting]
        self.running.append((self.pool.submit(self.score, clips), owners))
        self.waiting, self.n_waiting = [], 0
