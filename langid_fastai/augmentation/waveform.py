"""Augment waveforms by named transforms.

Each is a transform of audiomentations (extra `augment`), and draws one parameter uniformly from a
range::

    white_noise                  the default range
    white_noise:10..20           another range
    white_noise:10               a fixed value

================  =====================================  ==========  ===============================
name              parameter                              range       transform
================  =====================================  ==========  ===============================
time_mask         fraction of the duration that is       0.05..0.2   `TimeMask`
                  silenced, in one piece
high_pass         cutoff in Hz, 12 to 24 dB per octave   50..600     `HighPassFilter` (drawn on the
                                                                     mel scale)
white_noise       signal-to-noise ratio, dB              5..30       `AddGaussianSNR`
pitch             semitones, at constant tempo           -2..2       `PitchShift` (Signalsmith)
polarity          none: samples are multiplied by -1                 `PolarityInversion`
gain              dB                                     -12..12     `Gain`
background_noise  signal-to-noise ratio, dB; a random    3..30       `AddBackgroundNoise`
                  piece of a file in the noise folder
speed             factor, as on a tape: also changes     0.9..1.1    `Resample`, its result played
                  the pitch and the duration                         at the old rate
room              absorption of the walls of a small     0.1..0.4    `RoomSimulator`: a room of 4 to
                  room; less gives longer                            6 m by image sources, order 10
                  reverberation
mp3               bit rate of MP3, kb/s; at least 32     8..32       `Mp3Compression` (LAME)
                  above 24 kHz
================  =====================================  ==========  ===============================

The default ranges are those of real recordings, so that the language remains recognisable. Speed is
that of Ko et al. 2015, "Audio augmentation for speech recognition"; pitch shifts of more than two
semitones sound unnatural.

Conventions: `y` is ``(n_samples,)`` float32; it is not clipped at full scale. Random values depend
on the seed alone, not on previous calls or on the process: audiomentations uses the global
generators of `random` and numpy, which are seeded for the call and restored after it. (So do not
call it from several threads at once.)

Contents: `Augmentation`, a transform and its range; `parse_augmentations`, from their names;
`augment_waveform`, for one waveform; `validate_rate`, `require_extra` and `find_noises`, for checks
before long work.
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

from langid_fastai.corpus.readers.recognise import find_audio
from langid_fastai.errors import AudioError, RunError
from langid_fastai.utils.dependencies import require

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "augment_waveform",
    "find_noises",
    "parse_augmentations",
    "require_extra",
    "validate_rate",
]

# Maximum number of reflections in `RoomSimulator`, 0.15 s. Each further order takes longer than all
# before it, and its ray tracing cannot be seeded.
ROOM_ORDER = 10
# Files that audiomentations reads as noises.
NOISE_SUFFIXES = {".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"}
# Above this sampling rate, MP3 has no bit rate below `MP3_LEAST` (ISO 11172-3; lower sampling rates
# are defined in 13818-3).
MP3_LOW_SR, MP3_LEAST = 24_000, 32
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_BIT_RATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320)
MP3_SECONDS = 0.1  # minimum duration for fast_mp3_augment


class _Transform(NamedTuple):
    """Default range of the parameter, its limits, and the function that makes the transform."""

    low: float
    high: float
    least: float
    most: float
    make: Callable[[ModuleType, Augmentation, int, list[str]], Any]
    changes: str = "sound"  # or only "level" or "sign", which some kinds of clips do not show


# Transforms of the table above; `make` is called with audiomentations, augmentation, sr, noises.
AUGMENTATIONS: dict[str, _Transform] = {
    "time_mask": _Transform(
        0.05, 0.2, 0, 0.9, lambda am, a, sr, _: am.TimeMask(a.low, a.high, p=1.0)
    ),
    "high_pass": _Transform(
        *(50, 600, 1, 20_000),
        lambda am, a, sr, _: am.HighPassFilter(a.low, a.high, 12, 24, p=1.0),
    ),
    "white_noise": _Transform(
        *(5, 30, -20, 100), lambda am, a, sr, _: am.AddGaussianSNR(a.low, a.high, p=1.0)
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
    # Downsampled audio played at the old rate is faster.
    "speed": _Transform(
        *(0.9, 1.1, 0.5, 2),
        lambda am, a, sr, _: am.Resample(round(sr / a.high), round(sr / a.low), p=1.0),
    ),
    "room": _Transform(0.1, 0.4, 0.01, 1, lambda am, a, sr, _: _room(am, a)),
    "mp3": _Transform(8, 32, 8, 320, lambda am, a, sr, _: _mp3(am, a, sr)),
}


@dataclass(frozen=True)
class Augmentation:
    """A transform, and the range of its parameter.

    Parameters
    ----------
    name : one of `AUGMENTATIONS`
    low, high : range of the parameter, see the table in the module docstring; default: as in the
        table

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
    text : e.g. ``white_noise:10..20,pitch``

    Raises
    ------
    RunError : see `Augmentation`; or one name twice

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
    """Augment a waveform.

    Parameters
    ----------
    y : (n_samples,), in [-1, 1]
    sr : Hz
    augmentation : the transform and its range
    seed : random seed; the same seed gives the same bytes
    noises : folder of recordings without speech, for ``background_noise``

    Returns
    -------
    y : float32, (n_samples,); ``speed`` changes its length; its peak may be above 1

    Raises
    ------
    AudioError : `y` is not mono, is empty, or too short for ``mp3``; or see `validate_rate`
    RunError : the extra `augment` is not installed, or there are no noises

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
    if augmentation.name == "mp3" and len(y) < MP3_SECONDS * sr:
        raise AudioError(
            f"{len(y) / sr:.3f} s of audio is too short for mp3; pass at least {MP3_SECONDS} s"
        )
    transform = _transform(augmentation, sr, str(noises) if noises is not None else None)
    with _seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*had to be resampled")  # noises of another rate
        changed = transform(y.copy(), sr)
    return np.asarray(changed, dtype=np.float32)


def validate_rate(augmentation: Augmentation, sr: int) -> None:
    """Check that an augmentation is possible at a sampling rate.

    Parameters
    ----------
    augmentation : the transform and its range
    sr : Hz

    Raises
    ------
    AudioError : MP3 does not support the rate, or the cutoff of the filter is not below half of it
    """
    if augmentation.name == "mp3" and sr not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise AudioError(f"{augmentation} at {sr} Hz: the sampling rates of MP3 are {rates} Hz")
    if augmentation.name == "high_pass" and augmentation.high >= sr / 2:
        raise AudioError(
            f"{augmentation} at {sr} Hz: the filter may remove everything; end the range below "
            f"{sr / 2:g} Hz"
        )


def require_extra() -> None:
    """Check that the libraries that augment waveforms are installed.

    Raises
    ------
    RunError : the extra `augment` is not installed
    """
    libraries = ("audiomentations", "fast_mp3_augment", "pyroomacoustics")
    require("augment", "augmentation of waveforms", *libraries)


def find_noises(folder: str) -> list[str]:
    """Find the recordings in a folder of noises and its sub-folders.

    Parameters
    ----------
    folder : of recordings without speech

    Returns
    -------
    files : sorted, since the order of files on disk may vary

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
    """Parse a name and range, e.g. ``white_noise:10..20``."""
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


def _mp3(am: ModuleType, augmentation: Augmentation, sr: int) -> Any:
    least = MP3_LEAST if sr > MP3_LOW_SR else 0
    low, high = max(math.ceil(augmentation.low), least), max(math.floor(augmentation.high), least)
    return am.Mp3Compression(low, high, p=1.0)


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
