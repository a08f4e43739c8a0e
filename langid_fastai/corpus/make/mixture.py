"""Draw the content of one mixture of speakers, and make its audio.

Conventions
-----------
Stretch
    The speech of one speaker in a mixture: a piece of one utterance, repeated if that is too short.
    All stretches of a mixture have the same length and are equally spaced; the first begins and the
    last ends with the mixture.
Overlap
    Fraction of the mixture's duration in which two or more stretches overlap: 1 if all speak from
    start to end, 0 if they take turns. It determines the length of the stretches. Pauses inside a
    stretch are ignored.
Level
    Root mean square of a stretch, including pauses, in dB relative to that of the first speaker.

The peak of every mixture is 0.9 of full scale, so nothing is clipped, and loudness does not reveal
the number of speakers.

A mixture depends only on the settings, its split and its number: not on the number of processes or
on the mixtures made before.

Contents: `plan_mixture` and `write_mixture`, used by `langid_fastai.corpus.make.mix`;
`remake_mixture`, from a row of the index; `place_stretches`, the geometry.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from langid_fastai.audio.files import load_audio, write_sound
from langid_fastai.audio.levels import is_silent, remove_offset
from langid_fastai.corpus.groups import SEPARATOR
from langid_fastai.corpus.make.settings import MixConfig
from langid_fastai.errors import AudioError

__all__ = [
    "Voice",
    "place_stretches",
    "plan_mixture",
    "remake_mixture",
    "write_mixture",
]

PEAK = 0.9  # of full scale
FADE = 0.01  # s, at the edges of a stretch, so that no click reveals where a speaker begins
# A piece with less than this fraction of its utterance's RMS (-20 dB) is a pause. At most `TRIES`
# pieces are tried.
QUIET = 0.1
TRIES = 8


class Voice(NamedTuple):
    """A speaker, with sex (`F`, `M` or, if unknown, `U`), and utterances with durations in s."""

    name: str
    sex: str
    paths: list[str]
    durations: np.ndarray


def plan_mixture(
    voices: Sequence[Voice], split: str, number: int, config: MixConfig
) -> dict[str, Any]:
    """Draw the speakers of a mixture, their utterances, levels and positions.

    Parameters
    ----------
    voices : speakers of the split, sorted by name
    split, number : split and index of the mixture; the index determines its number of speakers
    config : settings of all mixtures

    Returns
    -------
    plan : row of the mixture in the index, without the columns that depend on its audio
    """
    rng = random.Random(f"{config.seed}/{split}/{number}")
    n_speakers = 1 + number % config.speakers
    pool = list(voices)
    # Python guarantees the same `random()` in all versions, but not the same `sample()`.
    speaking = [pool.pop(int(rng.random() * len(pool))) for _ in range(n_speakers)]
    low, high = config.overlap
    overlap = round(low + (high - low) * rng.random(), 3) if n_speakers > 1 else 0.0
    length, begins = place_stretches(round(config.seconds * config.sr), n_speakers, overlap)
    low, high = config.levels
    levels = [0.0] + [round(low + (high - low) * rng.random(), 2) for _ in speaking[1:]]
    sexes = "".join(voice.sex for voice in speaking)
    return {
        "path": f"{split}/{n_speakers}/{number:06}.{config.format}",
        "language": str(n_speakers),
        "split": split,
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
    """Make one mixture, and write it atomically.

    Parameters
    ----------
    root : root of the source corpus
    folder : folder of the mixtures
    plan : from `plan_mixture`

    Returns
    -------
    row : the plan and two more columns: `starts`, the position of the stretch in each source (s),
        and `reason`, why the mixture could not be made
    """
    rng = random.Random(f"{config.seed}/{plan['split']}/{plan['number']}/starts")
    n = round(plan["stretch"] * config.sr)
    starts, stretches = [], []
    try:
        for source in plan["sources"].split(SEPARATOR):
            start, y = _audible(_load(root / source, config), config.sr, n, rng, source)
            starts.append(round(start / config.sr, 6))
            stretches.append(y)
    except AudioError as error:
        return plan | {"starts": "", "reason": str(error).removeprefix(f"{root}{os.sep}")}
    file = folder / plan["path"]
    y = _add(stretches, plan, config)
    write_sound(file, y, config.sr, format=config.format.upper())
    return plan | {"starts": _text(starts), "reason": ""}


def remake_mixture(row: Mapping[Any, Any], root: str | Path, config: MixConfig) -> np.ndarray:
    """Regenerate a mixture from its row of the index, without the rounding to 16 bits.

    Parameters
    ----------
    row : row of ``index.csv``; `sources`, `starts`, `levels`, `begins` and `stretch` are used
    root : root of the source corpus
    config : settings of the mixtures

    Returns
    -------
    y : float32, (n_samples,), at `config.sr`

    Raises
    ------
    AudioError : a source is missing
    """
    n = round(float(row["stretch"]) * config.sr)
    starts = [round(start * config.sr) for start in _numbers(row["starts"])]
    stretches = [
        _piece(_load(Path(root) / source, config), start, n)
        for source, start in zip(row["sources"].split(SEPARATOR), starts, strict=True)
    ]
    return _add(stretches, row, config)


def place_stretches(n_samples: int, n_speakers: int, overlap: float) -> tuple[int, list[int]]:
    """Compute the length and positions of the stretches that give the requested overlap.

    Let k stretches be d long and begin s apart, as fractions of the mixture: d + (k - 1) s = 1. If
    at most two overlap (d <= 2 s), neighbours overlap k - 1 times by d - s, in total k d - 1.
    Otherwise, one speaker speaks alone only during the first s and the last s: the overlap is
    1 - 2 s.

    Parameters
    ----------
    n_samples : length of the mixture, samples
    n_speakers : at least 1; a single speaker speaks all the time
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
    """Draw an utterance long enough for the stretch; if there is none, return the longest."""
    long_enough = np.flatnonzero(voice.durations >= seconds)
    if not len(long_enough):
        return voice.paths[int(voice.durations.argmax())]
    return voice.paths[long_enough[int(rng.random() * len(long_enough))]]


def _audible(
    y: np.ndarray, sr: int, n: int, rng: random.Random, source: str
) -> tuple[int, np.ndarray]:
    """Draw a piece of an utterance; return its start in samples, and the piece.

    It is the first of up to `TRIES` random pieces that is not a pause, else the loudest.
    """
    quiet = QUIET * _rms(y)
    tried = []
    for _ in range(TRIES):
        start = int(rng.random() * max(1, len(y) - n + 1))
        tried.append((_rms(_piece(y, start, n)), start))
        if tried[-1][0] > quiet:
            break
    _, start = max(tried)
    if is_silent(_piece(y, start, n), sr):
        raise AudioError(f"{source}: silent")
    return start, _piece(y, start, n)


def _load(file: Path, config: MixConfig) -> np.ndarray:
    return remove_offset(load_audio(file, sr=config.sr))


def _piece(y: np.ndarray, start: int, n: int) -> np.ndarray:
    """Return `n` samples from `start`, repeated if there are too few."""
    return y[start : start + n] if start + n <= len(y) else np.resize(y[start:], n)


def _add(stretches: list[np.ndarray], row: Mapping[Any, Any], config: MixConfig) -> np.ndarray:
    """Apply fades and levels to the stretches, sum them, and scale the peak to `PEAK`."""
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
