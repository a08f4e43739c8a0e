"""Settings of utterances and mixtures: defaults, limits and help texts.

They are separate from the code that cuts and mixes, since the command line needs them before any
recording is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langid_fastai.audio import HIGHEST_SR, LOWEST_SR
from langid_fastai.corpus import TEST, VALID
from langid_fastai.errors import CorpusError
from langid_fastai.utils.options import option

__all__ = ["FRAME", "CutRules", "MixConfig"]

FRAME = 0.02  # s; at least one period of the lowest voice
SPARE = 0.1  # s by which `longest` must exceed twice `shortest`, to allow for rounding to frames


@dataclass(frozen=True)
class CutRules:
    """Limits of pauses and utterances.

    Parameters
    ----------
    shortest, longest : limits of the duration of an utterance, including margins, s
    pause_db : how far the level of a pause is below the speech level, dB
    min_pause : shortest pause, s; silence shorter than 0.25 s is part of articulation, e.g. a
        stop closure (F. Goldman-Eisler, "Psycholinguistics", 1968)

    Raises
    ------
    CorpusError : a value is outside its range
    """

    shortest: float = option(3.0, help="Minimum duration of an utterance, in seconds.")
    longest: float = option(15.0, help="Maximum duration of an utterance, in seconds.")
    pause_db: float = option(
        20.0,
        help="How far below the speech level of the recording a pause is, in dB.",
    )
    min_pause: float = option(0.25, help="Minimum duration of a pause, in seconds.")

    def __post_init__(self) -> None:
        if not 0.5 <= self.shortest <= self.longest <= 600:
            raise CorpusError(
                f"shortest={self.shortest}, longest={self.longest} must be between 0.5 and 600 s, "
                "the shorter first; did you pass milliseconds?"
            )
        if self.longest < 2 * self.shortest + SPARE:
            raise CorpusError(
                f"longest={self.longest} must be at least {2 * self.shortest + SPARE:g}, twice "
                f"shortest={self.shortest} plus {SPARE} s: otherwise speech too long for one "
                "utterance may be too short for two"
            )
        if not 3 <= self.pause_db <= 80:
            raise CorpusError(f"pause_db={self.pause_db} must be between 3 and 80 dB")
        if not 3 * FRAME <= self.min_pause <= 5:
            raise CorpusError(
                f"min_pause={self.min_pause} must be between {3 * FRAME:g} and 5 s; did you pass "
                "milliseconds?"
            )


@dataclass(frozen=True)
class MixConfig:
    """Settings of mixtures.

    Parameters
    ----------
    n : total number of mixtures in all splits
    speakers : maximum number of speakers in a mixture; all numbers from 1 are equally frequent
    seconds : duration of a mixture, s
    sr : sampling rate, Hz
    levels : range of the level of each further speaker relative to the first, dB
    overlap : range of the fraction of time with two or more speakers
    valid, test : fractions of the mixtures
    seed : random seed
    format : format of the files, with 16 bits per sample

    Raises
    ------
    CorpusError : a value is outside its range
    """

    n: int = option(1000, help="Total number of mixtures in all splits.")
    speakers: int = option(5, help="Maximum number of speakers in a mixture.")
    seconds: float = option(5.0, help="Duration of a mixture, in seconds.")
    sr: int = option(8_000, help="Sampling rate of the mixtures, in Hz.")
    levels: tuple[float, float] = (-5.0, 5.0)
    overlap: tuple[float, float] = (0.5, 1.0)
    valid: float = option(
        VALID,
        help="Fraction of the mixtures used for validation, and of the recordings if the corpus "
        "has no validation split.",
    )
    test: float = option(
        TEST,
        help="Fraction of the mixtures used for testing, and of the recordings if the corpus has "
        "no test split.",
    )
    seed: int = option(0, help="Random seed for the split and the mixtures.")
    format: Literal["flac", "wav"] = option("flac", help="Audio format of the mixtures.")

    def __post_init__(self) -> None:
        if not 2 <= self.speakers <= 100:
            raise CorpusError(f"speakers={self.speakers} must be 2 to 100")
        if not 1 <= self.seconds <= 60:
            raise CorpusError(f"seconds={self.seconds} must be 1 to 60")
        if not LOWEST_SR <= self.sr <= HIGHEST_SR:
            raise CorpusError(f"sr={self.sr} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
        if not -60 <= self.levels[0] <= self.levels[1] <= 60:
            raise CorpusError(f"levels={self.levels} must be a range within -60 to 60 dB")
        if not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise CorpusError(f"overlap={self.overlap} must be a range within 0 to 1")
        if not (0 < self.valid < 1 and 0 < self.test < 1 and self.valid + self.test < 1):
            raise CorpusError(
                f"valid={self.valid} and test={self.test} must be fractions in (0, 1), sum below 1"
            )
        if self.format not in ("flac", "wav"):
            raise CorpusError(f"format={self.format!r} must be flac or wav")
        if too_few := [split for split, n in self.sizes.items() if n < self.speakers]:
            raise CorpusError(
                f"n={self.n} leaves {self.sizes[too_few[0]]} mixtures for {too_few[0]}, fewer than "
                f"one for each number of speakers up to {self.speakers}; increase n"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of mixtures in each split."""
        valid, test = round(self.n * self.valid), round(self.n * self.test)
        return {"train": self.n - valid - test, "valid": valid, "test": test}
