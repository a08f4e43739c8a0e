"""Identify the language of an uploaded recording, within limits.

The duration in a file's header is not trusted: audio is read until it ends or exceeds the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from langid_fastai.audio.files import stream_audio, usual_channel
from langid_fastai.audio.levels import is_silent
from langid_fastai.errors import AudioError, RunError
from langid_fastai.inference.posterior import Answer
from langid_fastai.inference.timeline import Segment
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig, clips_of, mel_image

__all__ = ["Limits", "Progress", "Result", "identify_file", "no_progress"]

Progress = Callable[[str, float], object]


def no_progress(step: str, done: float) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Limits:
    """Limits of an uploaded recording.

    Parameters
    ----------
    max_mb : maximum size of the file, in MB of 2²⁰ bytes as in Gradio
    max_minutes : maximum duration, min; a recording takes 5 MB of memory per minute at 22 050 Hz

    Raises
    ------
    RunError : a limit is not a finite number above 0
    """

    max_mb: float = 50.0
    max_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise RunError(f"{name}={getattr(self, name)!r} must be above 0 and finite")

    @property
    def max_bytes(self) -> int:
        """Maximum size of a file, bytes."""
        return int(self.max_mb * (1 << 20))


@dataclass(frozen=True)
class Result:
    """Result for one recording.

    Parameters
    ----------
    duration : duration of the recording, s
    answers : all languages with their scores, best first; preceded by "unknown" if no language is
        probable enough
    timeline : segments with their language; empty for a recording of one clip or less
    image : mel image of the first clip that is not silent, uint8, (n_mels, n_frames)
    offset : start of that clip, s
    """

    duration: float
    answers: list[Answer]
    timeline: list[Segment]
    image: np.ndarray
    offset: float


def identify_file(
    identifier: LanguageIdentifier,
    path: str | Path,
    *,
    candidates: Sequence[str] = (),
    unknown: bool = False,
    limits: Limits = Limits(),
    on_progress: Progress = no_progress,
) -> Result:
    """Identify the language of a file.

    Parameters
    ----------
    path : audio file; error messages do not reveal its path
    candidates : possible languages; empty for any
    unknown : answer "unknown" if no language is probable enough, see `LanguageIdentifier`
    limits : limits of an upload; only the duration is checked here
    on_progress : called with the current step, and the share of the recording that it has begun,
        0 to 1

    Raises
    ------
    AudioError : the recording is unreadable, too long, too short or silent
    ModelError : the model does not know a candidate, or has no threshold for "unknown"
    """
    mel = identifier.info.mel

    def reporting(step: str) -> LanguageIdentifier:
        return replace(identifier, progress=lambda seconds: on_progress(step, seconds / duration))

    try:
        on_progress("Reading the recording", 0.0)
        y = _read_within(path, mel, limits.max_minutes)
        duration = len(y) / mel.sr
        among = list(candidates) or None
        n_answers = len(identifier.info.vocab) + 1  # and "unknown"
        answers = reporting("Identifying the language")(
            (y, mel.sr), top_k=n_answers, candidates=among, unknown=unknown
        )
        timeline = []
        if len(y) > mel.n_samples:
            timeline = reporting("Finding the timeline").timeline(
                (y, mel.sr), candidates=among, unknown=unknown
            )
    except AudioError as error:
        raise AudioError(_without_names(str(error), path)) from error
    offset, clip = next(found for found in clips_of([y], mel) if not is_silent(found[1], mel.sr))
    return Result(duration, answers, timeline, mel_image(clip, mel), offset)


def _read_within(path: str | Path, mel: MelConfig, max_minutes: float) -> np.ndarray:
    """Read a recording at the sampling rate of the model, up to the limit."""
    blocks = []
    n_left = int(max_minutes * 60 * mel.sr)
    channel = usual_channel(path, mel.channel)
    for y in stream_audio(path, sr=mel.sr, channel=channel):
        n_left -= len(y)
        if n_left < 0:
            raise AudioError(
                f"longer than {max_minutes:g} min, the limit of this page; cut it, or start the "
                "page with a higher --max-minutes"
            )
        blocks.append(y)
    return np.concatenate(blocks)


def _without_names(message: str, path: str | Path) -> str:
    """Remove the path of the file on the server, which users must not see."""
    message = message.removeprefix("waveform: ").removeprefix(f"{path}: ")
    return message.replace(str(path), "the file")
