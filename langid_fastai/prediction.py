"""Identify the language spoken in a recording, with a trained model.

::

    identifier = LanguageIdentifier.load("runs/demo")
    identifier("call.mp3")                    [{"label": "es", "score": 0.97}, …]
    identifier.timeline("call.mp3")           [{"start": 0.0, "end": 22.5, "label": "es", …}, …]

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

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar, overload

import numpy as np
import soxr

from langid_fastai.audio import HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.files import stream_audio
from langid_fastai.audio.levels import is_silent, sound_level, validate_waveform
from langid_fastai.audio.raw_pcm import resampled
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.inference.backends import Engine, load_engine, one_thread
from langid_fastai.inference.posterior import UNKNOWN, Answer, Choice, answers_of
from langid_fastai.inference.timeline import Segment, find_segments
from langid_fastai.inference.windows import are_pauses, windows_of
from langid_fastai.models.folder import ModelInfo, read_info, tensors_hash

__all__ = ["UNKNOWN", "Answer", "Audio", "LanguageIdentifier", "Segment"]

# Windows per batch: more are no faster on a CPU, and each needs memory.
BATCH = 8

Audio = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]
AnyAudio = TypeVar("AnyAudio", bound=Audio)


@dataclass(frozen=True)
class LanguageIdentifier:
    """Identify the language spoken in a recording. Made by `load`.

    Parameters
    ----------
    info : description of the model: its languages are ``info.vocab``
    engine : runs the network; ``engine.name`` names the library it uses
    folder : of the model; None if it was not loaded from one
    """

    info: ModelInfo
    engine: Engine
    folder: Path | None = None

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
        folder = self.folder.absolute()
        return _load_same, (str(folder), _fingerprint(folder, self.info))

    @overload
    def __call__(
        self,
        audio: Audio,
        *,
        top_k: int = ...,
        candidates: Iterable[str] | None = ...,
        prior: Mapping[str, float] | None = ...,
        unknown: bool = ...,
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
    ) -> list[list[Answer]]: ...

    def __call__(
        self,
        audio: Audio | list[AnyAudio],
        *,
        top_k: int = 5,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
    ) -> list[Answer] | list[list[Answer]]:
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

        Returns
        -------
        answers : `label` and `score`, best first; for a list, a list of such lists. With `unknown`,
            the label "unknown" comes first where it applies, and its score is the calibrated
            probability that the best candidate is wrong: do not compare it with the other scores,
            which are conditional on the language being one of the model's

        Raises
        ------
        AudioError : a recording is unreadable, silent, or shorter than a second
        ModelError : an option that the model does not support, such as an unknown label

        Examples
        --------
        ::

            identifier("call.mp3", candidates=["es", "ca"], top_k=1)
        """
        if isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)) or top_k < 1:
            raise ModelError(f"top_k={top_k!r} must be a whole number from 1")
        choice = Choice(self.info, candidates, prior, unknown)
        if isinstance(audio, list):
            return [answers_of(self.log_probs(one), choice, top_k) for one in audio]
        return answers_of(self.log_probs(audio), choice, top_k)

    def timeline(
        self,
        audio: Audio,
        *,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
    ) -> list[Segment]:
        """Find which language is spoken when in a recording.

        Parameters
        ----------
        audio, candidates, prior, unknown : as for a call

        Returns
        -------
        segments : `start` and `end`, s; `label`; `score`, the mean of the label's calibrated
            probability over the segment. In order, without overlap; silence and pauses are gaps, so
            a silent recording has no segments. With `unknown`, a segment may be labelled "unknown";
            its score is the mean probability that the best candidate is wrong

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
        with _named(_name_of(audio)), _opened(audio, self.info.mel.sr) as blocks:
            return list(
                find_segments(blocks, self.info.mel, self.engine.score, choice, batch=BATCH)
            )

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
        _validate_sr(sr)
        mel = self.info.mel
        waveforms = resampled(map(validate_waveform, filter(np.size, blocks)), sr, mel.sr)
        return find_segments(waveforms, mel, self.engine.score, choice, longest=longest)

    def log_probs(self, audio: Audio) -> np.ndarray:
        """Score one recording.

        Parameters
        ----------
        audio : as for a call

        Returns
        -------
        log_probs : (n_languages,), natural logarithm, calibrated, in the order of ``info.vocab``
        """
        name = _name_of(audio)
        scores: list[np.ndarray] = []
        levels: list[float] = []
        sr = self.info.mel.sr
        with _named(name), _opened(audio, sr) as blocks:
            windows = (y for _, y in windows_of(blocks, self.info.mel) if not is_silent(y, sr))
            while batch := list(islice(windows, BATCH)):
                scores.extend(self.engine.score(np.stack(batch)))
                levels += [sound_level(y, sr) for y in batch]
        if not scores:
            raise AudioError(f"{name}: silent from start to end")
        spoken = np.stack(scores)[~are_pauses(np.array(levels))]
        mean = spoken.mean(axis=0, dtype=np.float64)
        if not np.isfinite(mean).all():
            raise ModelError(
                f"{name}: its scores are not finite; did the training of the model diverge?"
            )
        return mean - np.logaddexp.reduce(mean)


@lru_cache(maxsize=2)  # a pool of processes passes an identifier with each of its tasks
def _load_same(folder: str, fingerprint: str) -> LanguageIdentifier:
    """Load a model folder in another process, after checking that it has not changed."""
    if _fingerprint(Path(folder), read_info(Path(folder))) != fingerprint:
        raise ModelError(
            f"{folder}: contains another model than when the identifier was loaded; load it again"
        )
    if multiprocessing.parent_process() is None:
        return LanguageIdentifier.load(folder)
    one_thread()
    identifier = LanguageIdentifier.load(folder)
    one_thread()  # if torch was only loaded now
    return identifier


def _fingerprint(folder: Path, info: ModelInfo) -> str:
    """Return a hash of a model, whatever ``model.onnx`` was exported from it since."""
    tensors = info.tensors or tensors_hash(folder)
    values = asdict(replace(info, tensors=tensors, onnx=None))
    content = json.dumps(values, sort_keys=True, default=str).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _name_of(audio: Audio) -> str:
    """Name of a recording in messages."""
    if isinstance(audio, (str, os.PathLike)):
        return str(Path(audio))  # as in `stream_audio`
    if isinstance(audio, tuple):
        return "waveform"
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else "audio"


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Prefix audio errors with the recording's name."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error


@contextmanager
def _opened(audio: Audio, sr: int) -> Iterator[Iterable[np.ndarray]]:
    """Mono blocks at `sr`, from any kind of input."""
    if isinstance(audio, (str, os.PathLike)):
        yield map(validate_waveform, stream_audio(Path(audio), sr=sr))
    elif isinstance(audio, tuple):
        if len(audio) != 2:
            raise AudioError("a tuple must be (y, sr); pass several recordings as a list")
        yield [_resampled(*audio, sr)]
    else:
        # Decoders need a file: they read only seekable streams, and not in every format.
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "audio"
            _copy(audio, file)
            try:
                yield map(validate_waveform, stream_audio(file, sr=sr))
            except AudioError as error:
                raise AudioError(str(error).removeprefix(f"{file}: ")) from error


def _copy(audio: bytes | BinaryIO, file: Path) -> None:
    if isinstance(audio, (bytes, bytearray, memoryview)):
        file.write_bytes(audio)
        return
    if not hasattr(audio, "read"):
        raise AudioError(
            f"audio of type {type(audio).__name__} must be a path, bytes, a binary file, (y, sr), "
            "or a list of these"
        )
    try:
        with file.open("wb") as target:
            shutil.copyfileobj(audio, target)
    except TypeError as error:  # it returns str, not bytes
        raise AudioError("opened as text; open it in binary mode, as open(path, 'rb')") from error


def _resampled(y: np.ndarray, sr_in: int, sr: int) -> np.ndarray:
    """Check a waveform and resample it to the model's rate."""
    _validate_sr(sr_in)
    y = validate_waveform(y)
    return y if sr_in == sr else soxr.resample(y, sr_in, sr, quality="HQ")


def _validate_sr(sr: int) -> None:
    if isinstance(sr, bool) or not isinstance(sr, (int, np.integer)):
        raise AudioError(f"sr of type {type(sr).__name__} must be a whole number of Hz: (y, sr)")
    if not LOWEST_SR <= sr <= HIGHEST_SR:
        raise AudioError(f"sr={sr} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
