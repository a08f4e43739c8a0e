"""One mixture of voices: what is in it, drawn by chance, and its sound.

Conventions
-----------
Stretch
    What is heard of a voice: a piece of one utterance, repeated if that is too short. All stretches
    of a mixture are of one length, and begin at equal distances; the first begins and the last ends
    with the mixture.
Overlap
    Share of the mixture's time in which two stretches or more sound: 1 when all voices speak from
    start to end, 0 when they take turns. It fixes the length of the stretches. Pauses inside a
    stretch are not looked for.
Level
    Root mean square of a stretch, pauses included, in dB relative to that of the first voice.

The peak of every mixture is 0.9 of full scale: nothing is clipped, and loudness tells nothing.

What a mixture is follows from the settings, its side and its number, and from nothing else: not
from the number of processes, nor from what was made before.

Contents: `MixConfig`; `plan_mixture` and `write_mixture`, used by `langid_fastai.corpus.make.mix`;
`remake_mixture`, from a row of the index; `place_stretches`, the geometry.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from langid_fastai.audio import HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.files import load_audio, write_sound
from langid_fastai.corpus import TEST, VALID
from langid_fastai.corpus.groups import SEPARATOR
from langid_fastai.errors import AudioError, CorpusError

__all__ = [
    "MixConfig",
    "Voice",
    "place_stretches",
    "plan_mixture",
    "remake_mixture",
    "write_mixture",
]

PEAK = 0.9  # of full scale
FADE = 0.01  # s, at the edges of a stretch, so that no click tells where a voice begins
# A piece of an utterance this far below the whole (20 dB) is a pause; so many pieces are tried.
QUIET = 0.1
TRIES = 8


@dataclass(frozen=True)
class MixConfig:
    """How mixtures are made.

    Parameters
    ----------
    n : mixtures on all sides together
    speakers : most voices in one; there are as many mixtures of 1 voice as of 2, …
    seconds : length of each, s
    sr : Hz
    levels : range in dB that the level of each further voice, relative to the first, is drawn from
    overlap : range that the share of time with two voices or more is drawn from
    valid, test : shares of the mixtures
    seed : another seed, other mixtures
    format : of the files, 16 bits

    Raises
    ------
    CorpusError : a value outside its range
    """

    n: int = 1000
    speakers: int = 5
    seconds: float = 5.0
    sr: int = 8_000
    levels: tuple[float, float] = (-5.0, 5.0)
    overlap: tuple[float, float] = (0.5, 1.0)
    valid: float = VALID
    test: float = TEST
    seed: int = 0
    format: Literal["flac", "wav"] = "flac"

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
                f"valid={self.valid} and test={self.test} must be shares in (0, 1), sum below 1"
            )
        if self.format not in ("flac", "wav"):
            raise CorpusError(f"format={self.format!r} must be flac or wav")
        if fewest := [side for side, n in self.sizes.items() if n < self.speakers]:
            raise CorpusError(
                f"n={self.n} leaves {self.sizes[fewest[0]]} mixtures for {fewest[0]}, fewer than "
                f"the {self.speakers} numbers of speakers; make more"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Mixtures of each side."""
        valid, test = round(self.n * self.valid), round(self.n * self.test)
        return {"train": self.n - valid - test, "valid": valid, "test": test}


class Voice(NamedTuple):
    """A speaker with `F`, `M` or `U` (unknown), and the paths and lengths (s) of utterances."""

    name: str
    sex: str
    paths: list[str]
    durations: np.ndarray


def plan_mixture(
    voices: Sequence[Voice], side: str, number: int, config: MixConfig
) -> dict[str, Any]:
    """Draw who speaks in a mixture, which utterance of each, how loud, and where.

    Parameters
    ----------
    voices : of the side, in the order of their names
    side, number : which mixture; how many speak in it follows from the number

    Returns
    -------
    plan : the columns of its row that can be told without sound, rounded first and used then
    """
    rng = random.Random(f"{config.seed}/{side}/{number}")
    n_speakers = 1 + number % config.speakers
    pool = list(voices)
    # Python promises that `random()` stays the same from version to version, not `sample()`.
    speaking = [pool.pop(int(rng.random() * len(pool))) for _ in range(n_speakers)]
    low, high = config.overlap
    overlap = round(low + (high - low) * rng.random(), 3) if n_speakers > 1 else 0.0
    length, begins = place_stretches(round(config.seconds * config.sr), n_speakers, overlap)
    low, high = config.levels
    levels = [0.0] + [round(low + (high - low) * rng.random(), 2) for _ in speaking[1:]]
    sexes = "".join(voice.sex for voice in speaking)
    return {
        "path": f"{side}/{n_speakers}/{number:06}.{config.format}",
        "language": str(n_speakers),
        "split": side,
        "number": number,
        "speakers": SEPARATOR.join(voice.name for voice in speaking),
        "sexes": sexes,
        "n_female": sexes.count("F"),
        "n_male": sexes.count("M"),
        "overlap": overlap,
        "stretch": round(length / config.sr, 6),
        "levels": _text(levels),
        "begins": _text([round(begin / config.sr, 6) for begin in begins]),
        "sources": SEPARATOR.join(_utterance(v, length / config.sr, rng) for v in speaking),
    }


def write_mixture(
    root: Path, folder: Path, plan: dict[str, Any], config: MixConfig
) -> dict[str, Any]:
    """Write one mixture, atomically.

    Parameters
    ----------
    root : of the corpus that is mixed
    folder : of the mixtures
    plan : from `plan_mixture`

    Returns
    -------
    row : the plan, and where in each source its stretch `starts`, or the `reason` why it could not
        be made
    """
    rng = random.Random(f"{config.seed}/{plan['split']}/{plan['number']}/starts")
    n = round(plan["stretch"] * config.sr)
    starts, stretches = [], []
    try:
        for source in plan["sources"].split(SEPARATOR):
            start, y = _audible(load_audio(root / source, sr=config.sr), n, rng, source)
            starts.append(round(start / config.sr, 6))
            stretches.append(y)
    except AudioError as error:
        return plan | {"starts": "", "reason": str(error).removeprefix(f"{root}{os.sep}")}
    file = folder / plan["path"]
    y = _add(stretches, plan, config)
    write_sound(file, y, config.sr, format=config.format.upper())
    return plan | {"starts": _text(starts), "reason": ""}


def remake_mixture(row: Mapping[Any, Any], root: str | Path, config: MixConfig) -> np.ndarray:
    """Make one mixture again from its row of the index, as before its file was rounded to 16 bits.

    Parameters
    ----------
    row : of ``index.csv``: `sources`, `starts`, `levels`, `begins` and `stretch` are used
    root : of the corpus that was mixed
    config : of the mixtures

    Returns
    -------
    y : float32, (n_samples,), at `config.sr`

    Raises
    ------
    AudioError : a source is gone
    """
    n = round(float(row["stretch"]) * config.sr)
    starts = [round(start * config.sr) for start in _numbers(row["starts"])]
    stretches = [
        _piece(load_audio(Path(root) / source, sr=config.sr), start, n)
        for source, start in zip(row["sources"].split(SEPARATOR), starts, strict=True)
    ]
    return _add(stretches, row, config)


def place_stretches(n_samples: int, n_speakers: int, overlap: float) -> tuple[int, list[int]]:
    """Length of each stretch, and where each begins, so that the mixture has the overlap asked.

    Let k stretches be d long and begin s apart, as shares of the mixture: d + (k - 1) s = 1. While
    no more than two meet (d <= 2 s), neighbours overlap k - 1 times by d - s, together k d - 1.
    Beyond that, a voice is alone only during the first s and the last s: the overlap is 1 - 2 s.

    Parameters
    ----------
    n_samples : of the mixture
    n_speakers : from 1; one voice speaks all the time
    overlap : in [0, 1]

    Returns
    -------
    length, begins : samples

    Examples
    --------
    >>> place_stretches(1000, 2, 0.5)
    (750, [0, 250])
    >>> place_stretches(1000, 4, 0.0)
    (250, [0, 250, 500, 750])
    """
    if n_speakers == 1:
        return n_samples, [0]
    apart = (1 - overlap) / 2
    length = 1 - (n_speakers - 1) * apart
    if length < 2 * apart:
        length = (1 + overlap) / n_speakers
    n = round(n_samples * length)
    return n, [round(i * (n_samples - n) / (n_speakers - 1)) for i in range(n_speakers)]


def _utterance(voice: Voice, seconds: float, rng: random.Random) -> str:
    """One long enough for the stretch, by chance; else the longest."""
    long_enough = np.flatnonzero(voice.durations >= seconds)
    if not len(long_enough):
        return voice.paths[int(voice.durations.argmax())]
    return voice.paths[long_enough[int(rng.random() * len(long_enough))]]


def _audible(y: np.ndarray, n: int, rng: random.Random, source: str) -> tuple[int, np.ndarray]:
    """Where a piece of an utterance with speech in it starts, and the piece.

    The first of a few drawn that is no pause, else the loudest of them.
    """
    quiet = QUIET * _rms(y)
    tried = []
    for _ in range(TRIES):
        start = int(rng.random() * max(1, len(y) - n + 1))
        tried.append((_rms(_piece(y, start, n)), start))
        if tried[-1][0] > quiet:
            break
    loudness, start = max(tried)
    if loudness == 0:
        raise AudioError(f"{source}: silent")
    return start, _piece(y, start, n)


def _piece(y: np.ndarray, start: int, n: int) -> np.ndarray:
    """`n` samples from `start`; what is too short is repeated."""
    return y[start : start + n] if start + n <= len(y) else np.resize(y[start:], n)


def _add(stretches: list[np.ndarray], row: Mapping[Any, Any], config: MixConfig) -> np.ndarray:
    """Fade, level and place the stretches, add them up, and bring the peak to `PEAK`."""
    total = np.zeros(round(config.seconds * config.sr))
    n_fade = round(FADE * config.sr)
    fade = np.sin(np.linspace(0, np.pi / 2, n_fade)) ** 2
    places = zip(stretches, _numbers(row["levels"]), _numbers(row["begins"]), strict=True)
    for stretch, level, begin in places:
        y = stretch.astype(np.float64)
        y[:n_fade] *= fade
        y[-n_fade:] *= fade[::-1]
        begins = round(begin * config.sr)
        total[begins : begins + len(y)] += y * 10 ** (level / 20) / _rms(y)
    return (total * (PEAK / np.abs(total).max())).astype(np.float32)


def _rms(y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(y, dtype=np.float64))))


def _text(numbers: Sequence[float]) -> str:
    return SEPARATOR.join(str(number) for number in numbers)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in str(text).split(SEPARATOR)]
