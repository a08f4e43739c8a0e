"""A recording that somebody sent, within limits → its languages, and what the network saw.

The length that a file states is not believed: it is read until it ends or the limit is passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from langid_fastai.audio.files import stream_audio
from langid_fastai.errors import AudioError, RunError
from langid_fastai.inference.posterior import Answer
from langid_fastai.inference.timeline import Segment
from langid_fastai.inference.windows import is_silent
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import clips_of, mel_image

__all__ = ["Heard", "Limits", "hear"]


@dataclass(frozen=True)
class Limits:
    """What a recording may measure.

    Parameters
    ----------
    max_mb : size of the file, MB of 2²⁰ bytes, as Gradio counts them
    max_minutes : duration, min; it is held in memory, 5 MB a minute at 22 050 Hz

    Raises
    ------
    RunError : a limit that is not above 0 and finite
    """

    max_mb: float = 50.0
    max_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_minutes"):
            if not 0 < getattr(self, name) < math.inf:
                raise RunError(f"{name}={getattr(self, name)!r} must be above 0 and finite")

    @property
    def max_bytes(self) -> int:
        """Size of the file, bytes."""
        return int(self.max_mb * (1 << 20))


@dataclass(frozen=True)
class Heard:
    """What is said of one recording.

    Parameters
    ----------
    duration : s
    answers : every language, best first; "unknown" before them where it applies
    timeline : who speaks what when; none for a recording of one clip or less
    image : uint8, (n_mels, n_frames), of the first clip that holds sound
    offset : where that clip starts, s
    """

    duration: float
    answers: list[Answer]
    timeline: list[Segment]
    image: np.ndarray
    offset: float


def hear(
    identifier: LanguageIdentifier,
    path: str | Path,
    *,
    candidates: Sequence[str] = (),
    unknown: bool = False,
    limits: Limits = Limits(),
) -> Heard:
    """Name the languages of a file.

    Parameters
    ----------
    path : of the file; no message names it
    candidates : the languages it can be; none for any
    unknown : also answer "unknown", as for a `LanguageIdentifier`
    limits : of which the duration is checked here, the size where the file arrives

    Raises
    ------
    AudioError : a file that cannot be read, is longer than allowed, too short or silent
    ModelError : a candidate that the model does not know, or no threshold for "unknown"
    """
    mel = identifier.info.mel
    try:
        y = _read_within(path, mel.sr, limits.max_minutes)
        among = list(candidates) or None
        n_answers = len(identifier.info.vocab) + 1  # and "unknown"
        answers = identifier((y, mel.sr), top_k=n_answers, candidates=among, unknown=unknown)
        timeline = (
            identifier.timeline((y, mel.sr), candidates=among, unknown=unknown)
            if len(y) > mel.n_samples
            else []
        )
    except AudioError as error:
        raise AudioError(_without_names(str(error), path)) from error
    offset, clip = next(found for found in clips_of([y], mel) if not is_silent(found[1]))
    return Heard(len(y) / mel.sr, answers, timeline, mel_image(clip, mel), offset)


def _read_within(path: str | Path, sr: int, max_minutes: float) -> np.ndarray:
    """Read a recording as mono at `sr`, but no further than the limit."""
    blocks = []
    n_left = int(max_minutes * 60 * sr)
    for y in stream_audio(path, sr=sr):
        n_left -= len(y)
        if n_left < 0:
            raise AudioError(
                f"longer than {max_minutes:g} min, the limit of this page; cut it, or start the "
                "page with a higher --max-minutes"
            )
        blocks.append(y)
    return np.concatenate(blocks)


def _without_names(message: str, path: str | Path) -> str:
    """Leave out where the file lies on the server, which is no business of who sent it."""
    message = message.removeprefix("waveform: ").removeprefix(f"{path}: ")
    return message.replace(str(path), "the file")
