"""Augment waveforms by named transforms.

Conventions: `y` is ``(n_samples,)`` float32; it is not clipped at full scale. Random values depend
only on the seed: the global generators of `random` and numpy, used by audiomentations, are seeded
for each call and restored after it. (So do not call it from multiple threads at once.)

Contents: `Augmentation`, a transform and its range, with a table of all transforms;
`parse_augmentations`, from text; `augment_waveform`, for one waveform; `add_white_noise` and
`change_speed`; `validate_rate`, `require_extra` and `find_noises`, for checks before long work.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import soxr

from langid_fastai.audio.mp3 import MP3_BIT_RATES, MP3_RATES, code_mp3, writes_mp3
from langid_fastai.corpus.readers.find import find_audio
from langid_fastai.errors import AudioError, RunError
from langid_fastai.utils.dependencies import require

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "add_white_noise",
    "augment_waveform",
    "change_speed",
    "find_noises",
    "parse_augmentations",
    "require_extra",
    "validate_rate",
]

# Maximum number of reflections in `RoomSimulator`, 0.15 s. Each further order takes longer than all
# before it, and its ray tracing cannot be seeded.
ROOM_ORDER = 10
# Suffixes of noise files that audiomentations reads.
NOISE_SUFFIXES = {".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"}


class _Transform(NamedTuple):
    """Default range and limits of the parameter, and a function that makes the transform."""

    low: float
    high: float
    least: float
    most: float
    make: Callable[[ModuleType, Augmentation, int, list[str]], Any]
    changes: str = "sound"  # property that changes: "level" and "sign" are not visible in all clips


# Transforms in the table above; arguments of `make`: audiomentations, augmentation, sr, noises.
AUGMENTATIONS: dict[str, _Transform] = {
    "time_mask": _Transform(
        0.05, 0.2, 0, 0.9, lambda am, a, sr, _: am.TimeMask(a.low, a.high, p=1.0)
    ),
    "high_pass": _Transform(
        *(50, 600, 1, 20_000),
        lambda am, a, sr, _: am.HighPassFilter(a.low, a.high, 12, 24, p=1.0),
    ),
    "white_noise": _Transform(
        *(5, 30, -20, 100), lambda am, a, sr, _: lambda y, sr: add_white_noise(y, _draw(a), _rng())
    ),
    "pitch": _Transform(-2, 2, -24, 24, lambda am, a, sr, _: am.PitchShift(a.low, a.high, p=1.0)),
    "polarity": _Transform(0, 0, 0, 0, lambda am, a, sr, _: am.PolarityInversion(p=1.0), "sign"),
    "gain": _Transform(
        -12, 12, -60, 60, lambda am, a, sr, _: am.Gain(a.low, a.high, p=1.0), "level"
    ),
    "background_noise": _Transform(
        *(3, 30, -20, 100),
        lambda am, a, sr, noises: am.AddBackgroundNoise(noises, a.low, a.high, p=1.0),
    ),
    "speed": _Transform(
        *(0.9, 1.1, 0.5, 2), lambda am, a, sr, _: lambda y, sr: change_speed(y, sr, _draw(a))
    ),
    "room": _Transform(0.1, 0.4, 0.01, 1, lambda am, a, sr, _: _room(am, a)),
    "mp3": _Transform(8, 32, 8, 320, lambda am, a, sr, _: lambda y, sr: _mp3(a, y, sr)),
}


@dataclass(frozen=True)
class Augmentation:
    """A transform, and the range of its parameter.

    The parameter is drawn uniformly from the range. On the command line, the range is given after
    the name: ``white_noise:10..20``, ``white_noise:10`` for a fixed value, ``white_noise`` for the
    default range. The default ranges are realistic, and keep the language recognisable.

    | name | parameter | default range |
    |---|---|---|
    | `time_mask` | fraction of the duration that is silenced, in one piece | 0.05..0.2 |
    | `high_pass` | cutoff in Hz, 12 to 24 dB per octave | 50..600 |
    | `white_noise` | signal-to-noise ratio, dB | 5..30 |
    | `pitch` | semitones, at constant tempo; more than 2 sound unnatural | -2..2 |
    | `polarity` | none: samples are multiplied by -1 | |
    | `gain` | dB | -12..12 |
    | `background_noise` | SNR of a random piece of a file in the noise folder, dB | 3..30 |
    | `speed` | factor, as on a tape: also changes pitch and duration | 0.9..1.1 |
    | `room` | absorption of the walls of a small room; less gives longer reverberation | 0.1..0.4 |
    | `mp3` | bit rate of MP3, kb/s; at least 32 above 24 kHz | 8..32 |

    Most transforms are from audiomentations: `TimeMask`, `HighPassFilter` (drawn on the mel scale),
    `PitchShift` (Signalsmith), `PolarityInversion`, `Gain`, `AddBackgroundNoise` and
    `RoomSimulator` (a room of 4 to 6 m by image sources, order 10). `add_white_noise`,
    `change_speed` (with the range of Ko et al. 2015, "Audio augmentation for speech recognition")
    and `code_mp3` of `audio.mp3` are also used for the table of robustness.

    Parameters
    ----------
    name : a name in the table
    low, high : range of the parameter, in the units of the table; by default, the range there

    Raises
    ------
    RunError : unknown name, or an invalid range

    Examples
    --------
    >>> str(Augmentation("pitch")), str(Augmentation("white_noise", 10, 20))
    ('pitch:-2..2', 'white_noise:10..20')
    """

    name: str
    low: float = math.nan
    high: float = math.nan

    def __post_init__(self) -> None:
        if self.name not in AUGMENTATIONS:
            raise RunError(f"augmentation {self.name!r} must be one of {', '.join(AUGMENTATIONS)}")
        limits = AUGMENTATIONS[self.name]
        if math.isnan(self.low) and math.isnan(self.high):
            object.__setattr__(self, "low", limits.low)
            object.__setattr__(self, "high", limits.high)
        elif self.low > self.high:
            raise RunError(
                f"augmentation {self.name}:{self.low:g}..{self.high:g} must have the lower value "
                f"first, e.g. {self.name}:{self.high:g}..{self.low:g}"
            )
        elif not limits.least <= self.low <= self.high <= limits.most:
            raise RunError(
                f"augmentation {self.name}:{self.low:g}..{self.high:g} must be within "
                f"{limits.least:g}..{limits.most:g}, "
                f"e.g. {self.name}:{limits.low:g}..{limits.high:g}"
            )
        if self.name == "mp3" and not any(self.low <= r <= self.high for r in MP3_BIT_RATES):
            raise RunError(
                f"augmentation {self} must include a bit rate of MP3: "
                f"{', '.join(map(str, MP3_BIT_RATES))} kb/s"
            )

    def __str__(self) -> str:
        if self.low == self.high:
            return self.name if self.name == "polarity" else f"{self.name}:{self.low:g}"
        return f"{self.name}:{self.low:g}..{self.high:g}"


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """Parse comma-separated names, each with an optional range.

    Parameters
    ----------
    text : names and ranges, e.g. ``white_noise:10..20,pitch``

    Raises
    ------
    RunError : no name, an unknown name, or an invalid range

    Examples
    --------
    >>> [str(a) for a in parse_augmentations("white_noise:10..20, speed:1.1,polarity")]
    ['white_noise:10..20', 'speed:1.1', 'polarity']
    """
    found = tuple(_parse(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise RunError(f"augmentations {text!r} must name some of {', '.join(AUGMENTATIONS)}")
    return found


def augment_waveform(
    y: np.ndarray,
    sr: int,
    augmentation: Augmentation,
    *,
    seed: int = 0,
    noises: str | Path | None = None,
) -> np.ndarray:
    """Apply an augmentation to a waveform.

    Parameters
    ----------
    y : (n_samples,), waveform in [-1, 1]
    sr : sampling rate, Hz
    augmentation : the transform and its range
    seed : random seed; the same seed gives the same samples
    noises : folder of recordings without speech, required for ``background_noise``

    Returns
    -------
    y : float32, (n_samples,); its length differs with ``speed``, and its peak may exceed 1

    Raises
    ------
    AudioError : `y` is not mono, or is empty; or see `validate_rate`
    RunError : the extra `augment` is not installed, or `noises` is missing or has no recordings

    Examples
    --------
    >>> y = np.sin(np.arange(16_000) / 10).astype(np.float32)
    >>> noisy = augment_waveform(y, 16_000, Augmentation("white_noise", 10, 10))
    >>> float(round(10 * np.log10(np.mean(y**2) / np.mean((noisy - y) ** 2))))
    10.0
    """
    y = np.asarray(y, dtype=np.float32)
    if y.ndim != 1 or not y.size:
        raise AudioError(f"y.shape={y.shape} must be (n_samples,), not empty; pass one waveform")
    validate_rate(augmentation, sr)
    transform = _transform(augmentation, sr, str(noises) if noises is not None else None)
    with _seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*had to be resampled")  # of noises at another rate
        changed = transform(y.copy(), sr)
    return np.asarray(changed, dtype=np.float32)


def add_white_noise(y: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise whose power is exactly `snr` dB below the mean power of the waveform.

    Parameters
    ----------
    y : waveform, (n_samples,)
    snr : signal-to-noise ratio, dB
    rng : random generator of the noise

    Returns
    -------
    y : float64, (n_samples,)

    Examples
    --------
    >>> y = np.sin(np.arange(16_000) / 10)
    >>> noise = add_white_noise(y, 10.0, np.random.default_rng(0)) - y
    >>> float(round(10 * np.log10(np.mean(y**2) / np.mean(noise**2)), 6))
    10.0
    """
    noise = rng.standard_normal(len(y))
    power = np.mean(np.square(y, dtype=np.float64)) / 10 ** (snr / 10)
    return y + noise * np.sqrt(power / np.mean(noise**2))


def change_speed(y: np.ndarray, sr: int, speed: float) -> np.ndarray:
    """Play a waveform `speed` times as fast, which also shifts the pitch, as ``sox speed`` does.

    Parameters
    ----------
    y : waveform, (n_samples,)
    sr : sampling rate of `y` and of the result, Hz
    speed : factor; above 1, the result is shorter

    Returns
    -------
    y : about (n_samples / speed,), with the dtype of `y`
    """
    return soxr.resample(y, speed * sr, sr)


def validate_rate(augmentation: Augmentation, sr: int) -> None:
    """Check that an augmentation is possible at a sampling rate.

    Parameters
    ----------
    augmentation : the transform and its range
    sr : sampling rate, Hz

    Raises
    ------
    AudioError : for ``mp3``, MP3 does not support the rate, or libsndfile cannot write MP3; for
        ``high_pass``, the cutoff is not below half the rate
    """
    if augmentation.name == "mp3" and not writes_mp3():
        raise AudioError(f"{augmentation}: libsndfile is too old to write MP3; upgrade soundfile")
    if augmentation.name == "mp3" and sr not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise AudioError(f"{augmentation} at {sr} Hz: MP3 supports only {rates} Hz; leave it out")
    if augmentation.name == "high_pass" and augmentation.high >= sr / 2:
        raise AudioError(
            f"{augmentation} at {sr} Hz: the filter may remove everything; end the range below "
            f"{sr / 2:g} Hz"
        )


def require_extra() -> None:
    """Check that the libraries for augmentation are installed.

    Raises
    ------
    RunError : the extra `augment` is not installed
    """
    libraries = ("audiomentations", "pyroomacoustics")
    require("augment", "augmentation of waveforms", *libraries)


def find_noises(folder: str) -> list[str]:
    """Find the recordings in a folder of noises and its sub-folders.

    Parameters
    ----------
    folder : folder of recordings without speech

    Returns
    -------
    files : paths, sorted, since their order on disk may vary

    Raises
    ------
    RunError : no such folder, or no recordings in it
    """
    if not Path(folder).is_dir():
        raise RunError(f"noises {folder!r}: no such folder; pass one of recordings without speech")
    found = [Path(folder, path) for path in find_audio(Path(folder))[0]]
    files = [str(file) for file in found if file.suffix.lower() in NOISE_SUFFIXES]
    if not files:
        raise RunError(
            f"noises {folder!r}: no {' '.join(sorted(NOISE_SUFFIXES))} file in it; pass a folder "
            "of recordings without speech"
        )
    return files


def _parse(text: str) -> Augmentation:
    """Parse a name with an optional range, e.g. ``white_noise:10..20``."""
    name, _, numbers = text.partition(":")
    if not numbers:
        return Augmentation(name)
    low, dots, high = numbers.partition("..")
    try:
        bounds = float(low), float(high if dots else low)
    except ValueError:
        bounds = (math.nan, math.nan)
    if math.isnan(sum(bounds)):
        raise RunError(
            f"augmentation {text!r}: {numbers!r} must be a number, or a range such as 10..20"
        )
    return Augmentation(name, *bounds)


@lru_cache(maxsize=64)
def _transform(augmentation: Augmentation, sr: int, noises: str | None) -> Callable[..., Any]:
    require_extra()
    import audiomentations

    files = find_noises(noises) if noises is not None else []
    if augmentation.name == "background_noise" and not files:
        raise RunError("background_noise needs noises: a folder of recordings without speech")
    return AUGMENTATIONS[augmentation.name].make(audiomentations, augmentation, sr, files)


def _room(am: ModuleType, augmentation: Augmentation) -> Any:
    return am.RoomSimulator(
        min_absorption_value=augmentation.low,
        max_absorption_value=augmentation.high,
        use_ray_tracing=False,
        max_order=ROOM_ORDER,
        leave_length_unchanged=True,
        p=1.0,
    )


def _mp3(augmentation: Augmentation, y: np.ndarray, sr: int) -> np.ndarray:
    least, most = MP3_RATES[sr]
    low, high = np.clip([augmentation.low, augmentation.high], least, most)
    rates = [rate for rate in MP3_BIT_RATES if low <= rate <= high]
    return code_mp3(y, sr, random.choice(rates))


def _draw(augmentation: Augmentation) -> float:
    return random.uniform(augmentation.low, augmentation.high)


def _rng() -> np.random.Generator:
    return np.random.default_rng(random.getrandbits(64))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators inside the block, and restore them afterwards."""
    before, before_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # used by audiomentations
    random.seed(seed)
    np.random.seed([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF])  # noqa: NPY002  # words of 32 bits
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)  # noqa: NPY002  # as above
