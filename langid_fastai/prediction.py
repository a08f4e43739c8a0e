"""Identify the language spoken in a recording, with a trained model.

::

    identifier = LanguageIdentifier.load("runs/demo")
    identifier("call.mp3")                    [{"label": "es", "score": 0.97}, …]
    identifier.timeline("call.mp3")           [{"start": 0.0, "end": 22.5, "label": "es", …}, …]
    identifier.predict_many(files)            a generator: many files, in worker processes

A recording of any length is cut into windows as long as a clip, which overlap by half. Silent
windows and pauses are skipped; the log-probabilities of the others, calibrated by the model's
temperature, are averaged. Recordings are read block by block, so hours of audio need no more memory
than seconds. Each recording in a list is identified independently of the others.

Pickling an identifier stores the path of its model folder, not the weights, so it can be passed to
other processes.

See `langid_fastai.audio.levels` for the definition of silence, `langid_fastai.inference.timeline`
for timelines, and `langid_fastai.inference.posterior` for `candidates`, `prior` and `unknown`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from langid_fastai.audio.channels import EACH, Channel, channel_number
from langid_fastai.audio.levels import validate_waveform
from langid_fastai.audio.raw_pcm import resampled
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.inference.backends import Engine, Precision, load_engine, one_thread
from langid_fastai.inference.inputs import Audio, each_channel, name_of, named, opened, validate_sr
from langid_fastai.inference.posterior import UNKNOWN, Answer, Choice, answers_of, mean_log_probs
from langid_fastai.inference.timeline import Segment, find_segments
from langid_fastai.inference.windows import spoken_windows
from langid_fastai.models.folder import model_hash, read_info
from langid_fastai.models.hub import is_hub_name
from langid_fastai.models.model_info import ModelInfo

if TYPE_CHECKING:
    from langid_fastai.inference.bulk import Prediction

__all__ = ["UNKNOWN", "Answer", "Audio", "LanguageIdentifier", "Segment"]

# Windows per batch: more are no faster on a CPU, and each needs memory.
BATCH = 8

AnyAudio = TypeVar("AnyAudio", bound=Audio)


@dataclass(frozen=True)
class LanguageIdentifier:
    """Identify the language spoken in a recording; use `load` to make an identifier.

    Parameters
    ----------
    info : description of the model; ``info.vocab`` lists its languages
    engine : backend that runs the network; ``engine.name`` is the library used
    folder : model folder; None if the model was not loaded from one
    progress : function called after each block with the duration read so far, s; None for none
    """

    info: ModelInfo
    engine: Engine
    folder: Path | None = None
    progress: Callable[[float], object] | None = None

    def __repr__(self) -> str:
        return f"LanguageIdentifier({self.info.arch} by {self.engine.name}: {self.info.vocab})"

    @classmethod
    def load(cls, folder: str | Path) -> LanguageIdentifier:
        """Load a model from a model folder, a run folder or the Hugging Face Hub.

        An untrusted folder is safe to load: no code in it is run.

        Parameters
        ----------
        folder : e.g. ``runs/demo``, ``runs/demo/model``, ``hf:owner/name`` or
            ``hf:owner/name@revision`` (extra `hub`; downloaded once, see
            `langid_fastai.models.hub`)

        Raises
        ------
        ModelError : there is no model, or it is damaged

        Warns
        -----
        UserWarning : ``model.onnx`` was exported from another model, and is ignored
        """
        info = read_info(Path(folder))
        return cls(info, load_engine(Path(folder), info), Path(folder))

    def __reduce__(self) -> tuple[Callable[..., LanguageIdentifier], tuple[str, str]]:
        """Pickle as the absolute path of the folder, and a hash of the model in it."""
        if self.folder is None:
            raise ModelError("an identifier that was not loaded from a folder cannot be pickled")
        folder = self.folder if is_hub_name(self.folder) else self.folder.absolute()
        return _load_same, (str(folder), model_hash(folder, self.info))

    @overload
    def __call__(
        self,
        audio: Audio,
        *,
        top_k: int = ...,
        candidates: Iterable[str] | None = ...,
        prior: Mapping[str, float] | None = ...,
        unknown: bool = ...,
        channel: Channel | None = ...,
    ) -> list[Answer]: ...

    @overload
    def __call__(
        self,
        audio: list[AnyAudio],
        *,
        top_k: int = ...,
        candidates: Iterable[str] | None = ...,
        prior: Mapping[str, float] | None = ...,
        unknown: bool = ...,
        channel: Channel | None = ...,
    ) -> list[list[Answer]]: ...

    @overload
    def __call__(
        self,
        audio: Audio | list[AnyAudio],
        *,
        top_k: int = ...,
        candidates: Iterable[str] | None = ...,
        prior: Mapping[str, float] | None = ...,
        unknown: bool = ...,
        channel: str,
    ) -> Any: ...

    def __call__(
        self,
        audio: Audio | list[AnyAudio],
        *,
        top_k: int = 5,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
        channel: Channel | None = None,
    ) -> Any:
        """Identify the language of a recording, or of each recording in a list.

        Parameters
        ----------
        audio : a path, the bytes of an audio file, a file opened in binary mode, or ``(y, sr)``: a
            mono waveform, (n_samples,), in [-1, 1], and its sampling rate, Hz; or a list of these
        top_k : maximum number of answers per recording
        candidates : labels of the possible languages; only these are scored, and their scores sum
            to 1. By default, all languages of the model
        prior : relative prior probability of each candidate, e.g. ``{"es": 9, "ca": 1}``; uniform
            by default
        unknown : whether to also answer "unknown", if the probability of every candidate (before
            `candidates` and `prior` are applied) is below the model's threshold
        channel : "left", "right", or a channel number, from 1; "each" for all channels. By default
            the channel that the model was trained on, or the mean of the channels

        Returns
        -------
        answers : list of `label` and `score`, best first; for a list of recordings, a list of such
            lists. With channel "each", each recording has one such list per channel, empty if the
            channel is silent. With `unknown`, the label "unknown" comes first if it applies; its
            score is the calibrated probability that the best candidate is wrong. Do not compare it
            with the other scores, which assume that the language is one of the model's

        Raises
        ------
        AudioError : a recording is unreadable, silent, shorter than a second, or has no such
            channel
        ModelError : an option is not supported by the model, e.g. a label that it does not have

        Examples
        --------
        ::

            identifier("call.mp3", candidates=["es", "ca"], top_k=1)
        """
        _validate_count("top_k", top_k)
        choice = Choice(self.info, candidates, prior, unknown)

        def answer(one: Audio, channel: Channel | None = channel) -> list[Answer]:
            return answers_of(self.log_probs(one, channel=channel), choice, top_k)

        of_one = partial(each_channel, answer=answer) if channel == EACH else answer
        return [of_one(one) for one in audio] if isinstance(audio, list) else of_one(audio)

    def timeline(
        self,
        audio: Audio,
        *,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
        channel: Channel | None = None,
    ) -> Any:
        """Find when each language is spoken in a recording.

        Parameters
        ----------
        audio : one recording, as in `__call__`
        candidates, prior, unknown, channel : as in `__call__`

        Returns
        -------
        segments : list of `start` and `end`, s; `label`; and `score`, the mean calibrated
            probability of the label over the segment. Segments are in order and do not overlap;
            silence and pauses are gaps, so a silent recording has no segments. With channel "each",
            a list of such lists. With `unknown`, a segment may be labelled "unknown"; its score is
            the mean probability that the best candidate is wrong

        Raises
        ------
        AudioError : the recording is unreadable or shorter than a second
        ModelError : an option is not supported by the model, e.g. a label that it does not have

        Examples
        --------
        ::

            for segment in identifier.timeline("meeting.flac", candidates=["es", "ca"]):
                print(segment["start"], segment["end"], segment["label"])
        """
        choice = Choice(self.info, candidates, prior, unknown)
        if isinstance(audio, list):
            raise AudioError("timeline takes one recording, not a list; call it for each recording")

        def segments(one: Audio, channel: Channel | None = channel) -> list[Segment]:
            with named(name_of(one)), self._opened(one, channel) as blocks:
                return list(
                    find_segments(blocks, self.info.mel, self.engine.score, choice, batch=BATCH)
                )

        return each_channel(audio, segments) if channel == EACH else segments(audio)

    def predict_many(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        timeline: bool = False,
        top_k: int = 5,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
        channel: Channel | None = None,
        jobs: int = -1,
        batch_size: int | None = None,
        device: str | None = None,
        precision: Precision = "fp32",
        dask: str | None = None,
    ) -> Iterator[Prediction]:
        """Identify the languages of many files, read in worker processes and scored in batches.

        Scores equal those of `__call__` or `timeline` to 1e-5 (with the default precision).
        Memory use depends neither on the number of files nor on their lengths.

        Parameters
        ----------
        files : paths, or addresses such as ``s3://bucket/call.mp3``; iterated over as needed
        timeline : whether to return segments instead of answers
        top_k, candidates, prior, unknown : as in `__call__`
        channel : as in `__call__`, but not "each"
        jobs : number of processes that read files; -1 for all cores, 1 for this process
        batch_size : number of windows in a batch; by default, 8 on a CPU and 64 on a GPU
        device : ``cpu``, ``cuda`` or ``cuda:1``; by default, a GPU if there is one
        precision : number format of the network; ``bf16``, or ``fp16`` on a GPU, changes scores in
            the third decimal
        dask : address of a Dask cluster to use instead, e.g. ``tcp://host:8786``; `jobs`,
            `batch_size` and `device` are then ignored. Files and the model folder must have the
            same paths on its machines

        Yields
        ------
        prediction : `path`, `answers` (or segments), `duration` (s) and `failure`, the reason if
            there is no answer, else empty; in the order of `files`

        Raises
        ------
        ModelError : an option is not supported by the model or this machine
        RunError : worker processes cannot be started, or the cluster cannot be used

        Examples
        --------
        ::

            for prediction in identifier.predict_many(Path("calls").glob("*.mp3"), top_k=1):
                print(prediction.path, prediction.failure or prediction.answers[0]["label"])
        """
        from langid_fastai.inference import bulk
        from langid_fastai.utils.parallel import validate_jobs

        if isinstance(files, str | bytes | os.PathLike):
            raise AudioError(f"files={files!r} must be a list of paths, such as [{files!r}]")
        _validate_count("top_k", top_k)
        validate_jobs(jobs)
        choice = Choice(self.info, candidates, prior, unknown)
        request = bulk.Request(choice, top_k, timeline, channel_number(channel))
        paths = (os.fspath(file) for file in files)
        if dask is not None:
            if precision != "fp32":
                raise ModelError(f"precision={precision!r} is not available with dask; use 'fp32'")
            return bulk.predict_on_cluster(paths, self, request, dask)
        engine = self.engine
        if self.folder is not None:
            engine = load_engine(
                self.folder, self.info, device=device, precision=precision, quick_start=False
            )
        size = bulk.default_batch(engine) if batch_size is None else batch_size
        _validate_count("batch_size", size)
        return bulk.predict_files(paths, engine, self.info.mel, request, jobs, size)

    def follow(
        self,
        blocks: Iterable[np.ndarray],
        sr: int,
        *,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
        longest: float = 10.0,
    ) -> Iterator[Segment]:
        """Find when each language is spoken in a live stream.

        The segments are those of `timeline`, but a long segment is yielded in pieces, before it
        ends. The delay is at most the duration of two clips, and usually less.

        Parameters
        ----------
        blocks : consecutive pieces of a mono waveform in [-1, 1], each (n_samples,), of any lengths
        sr : sampling rate of the blocks, Hz
        candidates, prior, unknown : as in `__call__`
        longest : duration at which a piece is yielded, s; ``math.inf`` yields whole segments

        Yields
        ------
        segment : as from `timeline`

        Raises
        ------
        AudioError : the stream is shorter than a second, or a block is not a mono waveform
        ModelError : an option is not supported by the model

        Examples
        --------
        ::

            record = "arecord -t raw -f S16_LE -c 1 -r 22050".split()
            with subprocess.Popen(record, stdout=subprocess.PIPE) as recorder:
                for segment in identifier.follow(stream_pcm(recorder.stdout, sr=22_050), 22_050):
                    print(segment["label"])
        """
        choice = Choice(self.info, candidates, prior, unknown)
        if not longest > 0:
            raise ModelError(f"longest={longest!r} must be a number of seconds above 0")
        validate_sr(sr)
        mel = self.info.mel
        waveforms = resampled(map(validate_waveform, filter(np.size, blocks)), sr, mel.sr)
        return find_segments(waveforms, mel, self.engine.score, choice, longest=longest)

    def log_probs(self, audio: Audio, *, channel: Channel | None = None) -> np.ndarray:
        """Compute the log-probability of each language in one recording.

        Parameters
        ----------
        audio, channel : as in `__call__`, but not a list, and not "each"

        Returns
        -------
        log_probs : (n_languages,), natural logarithm, calibrated, in the order of ``info.vocab``
        """
        name = name_of(audio)
        scores: list[np.ndarray] = []
        levels: list[float] = []
        with named(name), self._opened(audio, channel) as blocks:
            windows = spoken_windows(blocks, self.info.mel)
            while batch := list(islice(windows, BATCH)):
                scores.extend(self.engine.score(np.stack([y for y, _ in batch])))
                levels += [level for _, level in batch]
        return mean_log_probs(name, scores, levels)

    @contextmanager
    def _opened(self, audio: Audio, channel: Channel | None) -> Iterator[Iterator[np.ndarray]]:
        with opened(audio, self.info.mel, channel) as blocks:
            yield self._counted(blocks)

    def _counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        n_read = 0
        for block in blocks:
            yield block
            n_read += len(block)
            if self.progress:
                self.progress(n_read / self.info.mel.sr)


def _validate_count(name: str, n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ModelError(f"{name}={n!r} must be a whole number from 1")


@lru_cache(maxsize=2)  # a pool of processes passes an identifier with each of its tasks
def _load_same(folder: str, wanted: str) -> LanguageIdentifier:
    """Load a model folder in another process, after checking that it has not changed."""
    if model_hash(Path(folder), read_info(Path(folder))) != wanted:
        raise ModelError(
            f"{folder}: its model has changed since the identifier was loaded; load it again"
        )
    if multiprocessing.parent_process() is None:
        return LanguageIdentifier.load(folder)
    one_thread()
    identifier = LanguageIdentifier.load(folder)
    one_thread()  # if torch was only loaded now
    return identifier
