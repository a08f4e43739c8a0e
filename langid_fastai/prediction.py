"""Identify the language spoken in a recording, with a trained model.

::

    identifier = LanguageIdentifier.load("runs/demo")
    identifier("call.mp3")                    [{"label": "es", "score": 0.97}, …]
    identifier.timeline("call.mp3")           [{"start": 0.0, "end": 22.5, "label": "es", …}, …]
    identifier.predict_many(files)            a generator: many files, in worker processes

A recording of any length is cut into windows of one clip that overlap by half; silent windows and
pauses are skipped; the mean of the log-probabilities of the others, calibrated by the model's
temperature, is the score of the recording. It is read block by block, so hours of audio need no
more memory than seconds. The answer does not depend on the other recordings in the list.

An identifier pickles as the folder it was loaded from, so it can be passed to other processes.

See `langid_fastai.audio.levels` for what is silent, `langid_fastai.inference.timeline` for how a
timeline is made, and `langid_fastai.inference.posterior` for what `candidates`, `prior` and
`unknown` do.
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
from langid_fastai.models.folder import ModelInfo, model_hash, read_info
from langid_fastai.models.hub import is_hub_name

if TYPE_CHECKING:
    from langid_fastai.inference.bulk import Prediction

__all__ = ["UNKNOWN", "Answer", "Audio", "LanguageIdentifier", "Segment"]

# Windows per batch: more are no faster on a CPU, and each needs memory.
BATCH = 8

AnyAudio = TypeVar("AnyAudio", bound=Audio)


@dataclass(frozen=True)
class LanguageIdentifier:
    """Identify the language spoken in a recording. Made by `load`.

    Parameters
    ----------
    info : description of the model: its languages are ``info.vocab``
    engine : runs the network; ``engine.name`` names the library it uses
    folder : model folder; None if the model was not loaded from one
    progress : called again and again with the seconds of a recording that have been read
    """

    info: ModelInfo
    engine: Engine
    folder: Path | None = None
    progress: Callable[[float], object] | None = None

    def __repr__(self) -> str:
        return f"LanguageIdentifier({self.info.arch} by {self.engine.name}: {self.info.vocab})"

    @classmethod
    def load(cls, folder: str | Path) -> LanguageIdentifier:
        """Load a model folder, the one inside a run folder, or one of the Hugging Face Hub.

        An untrusted folder is safe to load: nothing in it is code.

        Parameters
        ----------
        folder : e.g. ``runs/demo``, ``runs/demo/model``, ``hf:owner/name`` or
            ``hf:owner/name@revision`` (extra `hub`; downloaded once, see
            `langid_fastai.models.hub`)

        Raises
        ------
        ModelError : no model, or a damaged one

        Warns
        -----
        UserWarning : its ``model.onnx`` was exported from another model, and is ignored
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
            mono waveform in [-1, 1], (n_samples,), and its Hz; or a list of any of these
        top_k : maximum number of answers per recording
        candidates : possible languages; the others are left out, and the scores of these sum to one
        prior : relative prior probability of each candidate, e.g. ``{"es": 9, "ca": 1}``; uniform
            by default
        unknown : also answer "unknown", if the model has a threshold for it: when the probability
            of every candidate, before `candidates` and `prior` are applied, is below the threshold
        channel : "left", "right", or a channel number, from 1; "each" for all channels. By default
            the channel that the model was trained on, or the mean of the channels

        Returns
        -------
        answers : `label` and `score`, best first; for a list, a list of such lists. With "each", in
            place of the answers of a recording, a list of those of each channel, empty where a
            channel is silent. With `unknown`,
            the label "unknown" comes first where it applies, and its score is the calibrated
            probability that the best candidate is wrong: do not compare it with the other scores,
            which are conditional on the language being one of the model's

        Raises
        ------
        AudioError : a recording is unreadable, silent, shorter than a second, or has no such
            channel
        ModelError : an option that the model does not support, such as an unknown label

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
        """Find which language is spoken when in a recording.

        Parameters
        ----------
        audio, candidates, prior, unknown, channel : as for a call

        Returns
        -------
        segments : `start` and `end`, s; `label`; `score`, the mean of the label's calibrated
            probability over the segment. In order, without overlap; silence and pauses are gaps, so
            a silent recording has no segments. With "each", a list of such lists. With `unknown`, a
            segment may be labelled "unknown"; its score is the mean probability that the best
            candidate is wrong

        Raises
        ------
        AudioError : the recording is unreadable or shorter than a second
        ModelError : an option that the model does not support, such as an unknown label

        Examples
        --------
        ::

            for segment in identifier.timeline("meeting.flac", candidates=["es", "ca"]):
                print(segment["start"], segment["end"], segment["label"])
        """
        choice = Choice(self.info, candidates, prior, unknown)
        if isinstance(audio, list):
            raise AudioError("a list; timeline takes one recording, so call it for each in turn")

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
        """Identify the languages of many files: read in worker processes, scored in batches.

        The answers are those of a call, or of `timeline`, to 1e-5 (with the default precision).
        Memory use depends neither on the number of files nor on their lengths.

        Parameters
        ----------
        files : paths, or addresses such as ``s3://bucket/call.mp3``; read as needed
        timeline : segments instead of answers
        top_k, candidates, prior, unknown : as for a call
        channel : as for a call, but not "each"
        jobs : number of processes that read files; -1 for all cores, 1 for this process
        batch_size : windows scored at once; default: 8 on a CPU, 64 on a GPU
        device : ``cpu``, ``cuda`` or ``cuda:1``; by default a GPU if there is one
        precision : ``bf16``, or ``fp16`` on a GPU, changes the third decimal of scores
        dask : address of a Dask cluster, e.g. ``tcp://host:8786``, instead of the last three. Files
            and the model folder must have the same paths on its machines

        Yields
        ------
        prediction : `path`, `answers` (or segments), `duration` (s) and `failure`: why there is no
            answer, usually empty. In the order of `files`

        Raises
        ------
        ModelError : an option that the model or this machine does not support
        RunError : worker processes cannot be started, or the cluster cannot be used

        Examples
        --------
        ::

            for prediction in identifier.predict_many(Path("calls").glob("*.mp3"), top_k=1):
                print(prediction.path, prediction.failure or prediction.answers[0]["label"])
        """
        from langid_fastai.inference import bulk
        from langid_fastai.utils.parallel import validate_jobs

        _validate_count("top_k", top_k)
        validate_jobs(jobs)
        choice = Choice(self.info, candidates, prior, unknown)
        request = bulk.Request(choice, top_k, timeline, channel_number(channel))
        paths = (os.fspath(file) for file in files)
        if dask is not None:
            if precision != "fp32":
                raise ModelError(f"precision={precision!r} is not available on a cluster")
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
        """Find which language is spoken when in a live stream.

        The segments are those of `timeline`, but a long segment is yielded in pieces, before it
        ends. A piece is yielded at most two clips after its end: 20 s for clips of 10 s, usually
        less.

        Parameters
        ----------
        blocks : consecutive pieces of a mono waveform in [-1, 1], each (n_samples,), of any lengths
        sr : sampling rate of the blocks, Hz
        candidates, prior, unknown : as for a call
        longest : s; a piece is yielded once it is this long. ``math.inf``: whole segments only

        Yields
        ------
        segment : as from `timeline`

        Raises
        ------
        AudioError : the stream is shorter than a second, or a block is not a mono waveform
        ModelError : an option that the model does not support

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
        """Score one recording.

        Parameters
        ----------
        audio, channel : as for a call, but not "each"

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
            f"{folder}: contains another model than when the identifier was loaded; load it again"
        )
    if multiprocessing.parent_process() is None:
        return LanguageIdentifier.load(folder)
    one_thread()
    identifier = LanguageIdentifier.load(folder)
    one_thread()  # if torch was only loaded now
    return identifier
