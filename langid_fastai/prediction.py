"""A trained model and a recording → which language is spoken, and how sure that is.

::

    identifier = LanguageIdentifier.load("runs/demo")
    identifier("call.mp3")                    [{"label": "es", "score": 0.97}, …]

A recording of any length is cut into windows of one clip that overlap by half; silent ones and
pauses are skipped; the mean of their log-probabilities, calibrated by the model's temperature, is
the recording's score. It is read block by block, so hours need the memory of seconds. The answer
does not depend on what else is in the list.

A model knows no language but its own, and names one for whatever it hears. `candidates`, `prior`
and `unknown` are the ways to tell it more.
"""

from __future__ import annotations

import difflib
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypedDict, TypeVar, overload

import numpy as np
import soxr

from langid_fastai.audio import HIGHEST_SR, LOWEST_SR, stream_audio
from langid_fastai.engines import Engine, load_engine
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.model_folder import ModelInfo, read_info
from langid_fastai.windows import are_pauses, is_silent, windows_of

__all__ = ["UNKNOWN", "Answer", "Audio", "LanguageIdentifier"]

# Windows scored at once: more are no faster on a CPU, and each needs memory.
BATCH = 8
# The label where the model is not sure enough of any language.
UNKNOWN = "unknown"

Audio = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]
AnyAudio = TypeVar("AnyAudio", bound=Audio)


class Answer(TypedDict):
    """A language, and its calibrated probability."""

    label: str
    score: float


@dataclass(frozen=True)
class LanguageIdentifier:
    """Tells which language is spoken in a recording. Made by `load`.

    Parameters
    ----------
    info : what the model is: its languages are ``info.vocab``
    engine : what computes, ``engine.name`` says by which library
    """

    info: ModelInfo
    engine: Engine

    @classmethod
    def load(cls, folder: str | Path) -> LanguageIdentifier:
        """Load a model folder, or the one inside a run folder.

        A folder from a stranger is safe to load: nothing in it is code.

        Parameters
        ----------
        folder : as ``runs/demo`` or ``runs/demo/model``

        Raises
        ------
        ModelError : no model, or a damaged one

        Warns
        -----
        UserWarning : its ``model.onnx`` was made of another model, and is left aside
        """
        info = read_info(Path(folder))
        return cls(info, load_engine(Path(folder), info))

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
        """Name the languages of one recording, or of each in a list.

        Parameters
        ----------
        audio : a path, the bytes of an audio file, a file opened in binary mode, or ``(y, sr)``: a
            mono waveform in [-1, 1], (n_samples,), and its Hz; or a list of any of these
        top_k : most answers for a recording
        candidates : the languages it can be; the others are left out, and the scores sum to one
            over these
        prior : how likely each candidate is before anything is heard, as ``{"es": 9, "ca": 1}``; by
            default all alike
        unknown : also answer "unknown", if the model has a threshold for it: where no candidate has
            a probability as high as the threshold, before `candidates` and `prior` are applied

        Returns
        -------
        answers : `label` and `score`, best first; for a list, a list of such lists. With `unknown`,
            the label "unknown" stands first where it applies, and its score is the calibrated
            probability that the best candidate is wrong: not to be compared with the others, which
            say what it would be if it is one of the model's languages

        Raises
        ------
        AudioError : a recording that cannot be read, is silent, or shorter than a second
        ModelError : an option the model does not allow, as an unknown label

        Examples
        --------
        ::

            identifier("call.mp3", candidates=["es", "ca"], top_k=1)
        """
        answerer = _Answerer(self.info, top_k, candidates, prior, unknown)
        if isinstance(audio, list):
            return [answerer(self.log_probs(one)) for one in audio]
        return answerer(self.log_probs(audio))

    def log_probs(self, audio: Audio) -> np.ndarray:
        """Score one recording.

        Parameters
        ----------
        audio : as for a call

        Returns
        -------
        log_probs : (n_languages,), natural, calibrated, in the order of ``info.vocab``
        """
        name = _name_of(audio)
        scores: list[np.ndarray] = []
        levels: list[float] = []
        try:
            with _opened(audio, self.info.mel.sr) as blocks:
                windows = (y for _, y in windows_of(blocks, self.info.mel) if not is_silent(y))
                while batch := list(islice(windows, BATCH)):
                    scores.extend(self.engine.score(np.stack(batch)))
                    levels += [float(np.sqrt(np.mean(np.square(y)))) for y in batch]
        except AudioError as error:
            raise AudioError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
        if not scores:
            raise AudioError(f"{name}: silent from start to end")
        spoken = np.stack(scores)[~are_pauses(np.array(levels))]
        mean = spoken.mean(axis=0, dtype=np.float64)
        if not np.isfinite(mean).all():
            raise ModelError(
                f"{name}: its scores are no numbers; did the model's training diverge?"
            )
        return mean - np.logaddexp.reduce(mean)


def _name_of(audio: Audio) -> str:
    """How messages call a recording."""
    if isinstance(audio, (str, os.PathLike)):
        return str(audio)
    if isinstance(audio, tuple):
        return "waveform"
    name = getattr(audio, "name", None)
    return name if isinstance(name, str) else "audio"


class _Answerer:
    """Turns log-probabilities into answers, as the options of one call say."""

    def __init__(
        self,
        info: ModelInfo,
        top_k: int,
        candidates: Iterable[str] | None,
        prior: Mapping[str, float] | None,
        unknown: bool,
    ) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ModelError(f"top_k={top_k!r} must be a whole number from 1")
        threshold = info.calibration.threshold
        if unknown and threshold is None:
            raise ModelError(
                "unknown=True, but this model has no threshold for it: its validation recordings "
                "were too few to choose one"
            )
        self.top_k = top_k
        self.threshold = threshold if unknown else None
        self.vocab = info.vocab
        self.columns = _columns(info.vocab, candidates)
        self.log_prior = _log_prior([info.vocab[i] for i in self.columns], prior, info.vocab)

    def __call__(self, log_probs: np.ndarray) -> list[Answer]:
        """Restrict, re-weight, and sort."""
        among = log_probs[self.columns]
        highest = float(np.exp(among.max()))
        weighted = among + self.log_prior
        scores = np.exp(weighted - np.logaddexp.reduce(weighted))
        order = np.argsort(-scores, kind="stable")
        answers = [Answer(label=self.vocab[self.columns[i]], score=float(scores[i])) for i in order]
        if self.threshold is not None and highest < self.threshold:
            answers.insert(0, Answer(label=UNKNOWN, score=1 - highest))
        return answers[: self.top_k]


def _columns(vocab: Sequence[str], candidates: Iterable[str] | None) -> list[int]:
    """Positions of the candidates in the vocab."""
    if candidates is None:
        return list(range(len(vocab)))
    if isinstance(candidates, str):
        raise ModelError(f"candidates={candidates!r} must be a list, as {candidates.split(',')}")
    wanted = list(candidates)
    if not wanted:
        raise ModelError("candidates=[] must name at least one language")
    _validate_labels("candidates", wanted, vocab)
    return [i for i, label in enumerate(vocab) if label in wanted]


def _log_prior(
    candidates: Sequence[str], prior: Mapping[str, float] | None, vocab: Sequence[str]
) -> np.ndarray:
    """Natural log of each candidate's prior; a language may have none at all."""
    if prior is None:
        return np.zeros(len(candidates))
    _validate_labels("prior", prior, vocab)
    if missing := [label for label in candidates if label not in prior]:
        raise ModelError(
            f"prior lacks {missing[0]!r}; give every language a number, 0 if it cannot be, or name "
            "in candidates those it can be"
        )
    weights = [prior[label] for label in candidates]
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ModelError(f"prior={dict(prior)} must be numbers from 0, not all 0")
    with np.errstate(divide="ignore"):
        return np.log(np.array(weights, dtype=np.float64))


def _validate_labels(what: str, labels: Iterable[str], vocab: Sequence[str]) -> None:
    for label in labels:
        if label not in vocab:
            near = difflib.get_close_matches(str(label), vocab, n=3)
            known = f"did you mean {', '.join(near)}?" if near else f"it knows {', '.join(vocab)}"
            raise ModelError(f"{what}: the model does not know {label!r}; {known}")


@contextmanager
def _opened(audio: Audio, sr: int) -> Iterator[Iterable[np.ndarray]]:
    """Blocks of mono at `sr`, whatever the recording comes as."""
    if isinstance(audio, (str, os.PathLike)):
        yield stream_audio(Path(audio), sr=sr)
    elif isinstance(audio, tuple):
        if len(audio) != 2:
            raise AudioError("a tuple must be (y, sr); pass several recordings as a list")
        yield [_resampled(*audio, sr)]
    else:
        # Decoders read files; of streams, only those that can seek, and not in every format.
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "audio"
            _copy(audio, file)
            try:
                yield stream_audio(file, sr=sr)
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
    except TypeError as error:  # it gives str, not bytes
        raise AudioError("opened as text; open it in binary mode, as open(path, 'rb')") from error


def _resampled(y: np.ndarray, sr_in: int, sr: int) -> np.ndarray:
    """A waveform at the model's rate, after checking that it is one."""
    y = np.asarray(y)
    if y.ndim != 1:
        raise AudioError(f"y.shape={y.shape} must be (n_samples,); average the channels first")
    if not np.issubdtype(y.dtype, np.floating):
        raise AudioError(f"y.dtype={y.dtype} must be floating point; divide it by its range")
    if not np.isfinite(y).all():
        raise AudioError("y holds NaN or infinite samples")
    if not LOWEST_SR <= sr_in <= HIGHEST_SR:
        raise AudioError(f"sr={sr_in} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
    y = y.astype(np.float32, copy=False)
    return y if sr_in == sr else soxr.resample(y, sr_in, sr, quality="HQ")
