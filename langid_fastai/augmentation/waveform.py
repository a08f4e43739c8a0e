"""Speech changed in stated ways, by the names of the ways: more to train on than was recorded.

Each is a transform of audiomentations (extra `augment`), and draws one quantity, evenly, from a
range that can be chosen::

    white_noise                  the usual range
    white_noise:10..20           another
    white_noise:10               always this value

================  =====================================  ==========  ===============================
name              quantity                               range       transform
================  =====================================  ==========  ===============================
time_mask         share of the time made silent, in      0.05..0.2   `TimeMask`
                  one stretch
high_pass         cutoff in Hz, 12 to 24 dB an octave    50..600     `HighPassFilter` (drawn on the
                                                                     mel scale)
white_noise       signal-to-noise ratio, dB              5..30       `AddGaussianSNR`
pitch             semitones; the tempo stays             -2..2       `PitchShift` (Signalsmith)
polarity          none: every sample times -1                        `PolarityInversion`
gain              dB                                     -12..12     `Gain`
background_noise  signal-to-noise ratio, dB; a stretch   3..30       `AddBackgroundNoise`
                  of a file in the folder of noises
speed             factor, as a tape: the pitch moves     0.9..1.1    `Resample`, its result taken to
                  with it, and the length changes                    be at the old rate
room              share of the sound that the walls of   0.1..0.4    `RoomSimulator`: a room of 4 to
                  a small room swallow; less echoes                  6 m by image sources, order 10
                  longer
mp3               kb/s, of those that MP3 has; from 32   8..32       `Mp3Compression` (LAME)
                  above 24 kHz
================  =====================================  ==========  ===============================

Ranges are those that speech of another recording may show: they leave the language what it is.
Speed is that of Ko et al. 2015, "Audio augmentation for speech recognition"; more than two
semitones make voices that nobody has.

Conventions: `y` is ``(n_samples,)`` float32; nothing is cut off at full scale. What is drawn
follows from the seed alone, whatever was drawn before and in which process: audiomentations draws
from the global generators of `random` and numpy, which are seeded for the call and put back after
it. (So do not call it from several threads at once.)

Contents: `Augmentation`, one way and its range; `parse_augmentations`, from their names;
`augment_waveform`, for one waveform; `validate_rate`, `require_extra` and `find_noises`, for what
is to be seen before long work.
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

# Of `RoomSimulator`: echoes of up to so many walls, 0.15 s. Each further one costs more than all
# before, and its ray tracing cannot be seeded.
ROOM_ORDER = 10
# What audiomentations takes for noises.
NOISE_SUFFIXES = {".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"}
# Above this rate MP3 has no bit rate below `MP3_LEAST` (ISO 11172-3; 13818-3 has them for others).
MP3_LOW_SR, MP3_LEAST = 24_000, 32
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_BIT_RATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320)
MP3_SECONDS = 0.1  # what fast_mp3_augment encodes at least


class _Way(NamedTuple):
    """Range of a quantity, what it must lie in, and what makes the transform."""

    low: float
    high: float
    least: float
    most: float
    make: Callable[[ModuleType, Augmentation, int, list[str]], Any]
    changes: str = "sound"  # or only "level" or "sign", which some inputs do not show


# What each name of the table above is made by: (audiomentations, augmentation, sr, noises).
AUGMENTATIONS: dict[str, _Way] = {
    "time_mask": _Way(0.05, 0.2, 0, 0.9, lambda am, a, sr, _: am.TimeMask(a.low, a.high, p=1.0)),
    "high_pass": _Way(
        *(50, 600, 1, 20_000),
        lambda am, a, sr, _: am.HighPassFilter(a.low, a.high, 12, 24, p=1.0),
    ),
    "white_noise": _Way(
        *(5, 30, -20, 100), lambda am, a, sr, _: am.AddGaussianSNR(a.low, a.high, p=1.0)
    ),
    "pitch": _Way(-2, 2, -24, 24, lambda am, a, sr, _: am.PitchShift(a.low, a.high, p=1.0)),
    "polarity": _Way(0, 0, 0, 0, lambda am, a, sr, _: am.PolarityInversion(p=1.0), "sign"),
    "gain": _Way(-12, 12, -60, 60, lambda am, a, sr, _: am.Gain(a.low, a.high, p=1.0), "level"),
    "background_noise": _Way(
        *(3, 30, -20, 100),
        lambda am, a, sr, noises: am.AddBackgroundNoise(noises, a.low, a.high, p=1.0),
    ),
    # Samples that are fewer, and still taken to come at the old rate, are sooner over.
    "speed": _Way(
        *(0.9, 1.1, 0.5, 2),
        lambda am, a, sr, _: am.Resample(round(sr / a.high), round(sr / a.low), p=1.0),
    ),
    "room": _Way(0.1, 0.4, 0.01, 1, lambda am, a, sr, _: _room(am, a)),
    "mp3": _Way(8, 32, 8, 320, lambda am, a, sr, _: _mp3(am, a, sr)),
}


@dataclass(frozen=True)
class Augmentation:
    """One way to change speech, and the range of its quantity.

    Parameters
    ----------
    name : one of `AUGMENTATIONS`
    low, high : of the quantity, see the table of the module; by default as it says there

    Raises
    ------
    RunError : unknown name, or a range that is none or not of this quantity

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
        way = AUGMENTATIONS[self.name]
        if math.isnan(self.low) and math.isnan(self.high):
            object.__setattr__(self, "low", way.low)
            object.__setattr__(self, "high", way.high)
        elif self.low > self.high:
            raise RunError(
                f"augmentation {self.name}:{self.low:g}..{self.high:g} must name the lower value "
                f"first, as {self.name}:{self.high:g}..{self.low:g}"
            )
        elif not way.least <= self.low <= self.high <= way.most:
            raise RunError(
                f"augmentation {self.name}:{self.low:g}..{self.high:g} must lie within "
                f"{way.least:g}..{way.most:g}, as {self.name}:{way.low:g}..{way.high:g}"
            )
        if self.name == "mp3" and not any(self.low <= r <= self.high for r in MP3_BIT_RATES):
            raise RunError(
                f"augmentation {self} must span a bit rate of MP3, which are "
                f"{', '.join(map(str, MP3_BIT_RATES))} kb/s"
            )

    def __str__(self) -> str:
        if self.low == self.high:
            return self.name if self.name == "polarity" else f"{self.name}:{self.low:g}"
        return f"{self.name}:{self.low:g}..{self.high:g}"


def parse_augmentations(text: str) -> tuple[Augmentation, ...]:
    """Read names with commas between, each with a range if wanted.

    Parameters
    ----------
    text : as ``white_noise:10..20,pitch``

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
        raise RunError(f"augmentations {text!r} name none of {', '.join(AUGMENTATIONS)}")
    return found


def augment_waveform(
    y: np.ndarray,
    sr: int,
    augmentation: Augmentation,
    *,
    seed: int = 0,
    noises: str | Path | None = None,
) -> np.ndarray:
    """Change a waveform.

    Parameters
    ----------
    y : (n_samples,), in [-1, 1]
    sr : Hz
    augmentation : which, and its range
    seed : of what is drawn; the same seed, the same bytes
    noises : folder of recordings without speech, for ``background_noise``

    Returns
    -------
    y : float32, (n_samples,); of another length by ``speed``; its peak may be above 1

    Raises
    ------
    AudioError : `y` is not mono, is empty, or too short for ``mp3``; or see `validate_rate`
    RunError : the extra `augment` is not installed, or no noises are there

    Examples
    --------
    >>> y = np.sin(np.arange(16_000) / 10).astype(np.float32)
    >>> noisy = augment_waveform(y, 16_000, Augmentation("white_noise", 10, 10))
    >>> float(round(10 * np.log10(np.mean(y**2) / np.mean((noisy - y) ** 2))))
    10.0
    """
    y = np.asarray(y, dtype=np.float32)
    if y.ndim != 1 or not y.size:
        raise AudioError(f"y.shape={y.shape} must be (n_samples,), at least one; pass one waveform")
    validate_rate(augmentation, sr)
    if augmentation.name == "mp3" and len(y) < MP3_SECONDS * sr:
        raise AudioError(f"{len(y) / sr:.3f} s of sound is too short for mp3, as MP3 has frames")
    transform = _transform(augmentation, sr, str(noises) if noises is not None else None)
    with _seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*had to be resampled")  # noises of another rate
        changed = transform(y.copy(), sr)
    return np.asarray(changed, dtype=np.float32)


def validate_rate(augmentation: Augmentation, sr: int) -> None:
    """See that an augmentation can be had at a sampling rate.

    Parameters
    ----------
    augmentation : which, and its range
    sr : Hz

    Raises
    ------
    AudioError : MP3 lacks the rate, or the cutoff of the filter lies above half of it
    """
    if augmentation.name == "mp3" and sr not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise AudioError(f"{augmentation} at {sr} Hz: the sampling rates of MP3 are {rates} Hz")
    if augmentation.name == "high_pass" and augmentation.high >= sr / 2:
        raise AudioError(
            f"{augmentation} at {sr} Hz: nothing would be left; end below {sr / 2:g} Hz"
        )


def require_extra() -> None:
    """See that what augments waveforms is installed.

    Raises
    ------
    RunError : the extra `augment` is not
    """
    libraries = ("audiomentations", "fast_mp3_augment", "pyroomacoustics")
    require("augment", "augmentation of waveforms", *libraries)


def find_noises(folder: str) -> list[str]:
    """Find the recordings in a folder of noises, and those below it.

    Parameters
    ----------
    folder : of recordings without speech

    Returns
    -------
    files : sorted; audiomentations itself takes them in the order that the disk has them

    Raises
    ------
    RunError : no such folder, or none there
    """
    if not Path(folder).is_dir():
        raise RunError(f"noises {folder!r}: no such folder; give one of recordings without speech")
    found = [Path(folder, path) for path in find_audio(Path(folder))[0]]
    files = [str(file) for file in found if file.suffix.lower() in NOISE_SUFFIXES]
    if not files:
        raise RunError(
            f"noises {folder!r}: no {' '.join(sorted(NOISE_SUFFIXES))} file in it; give a folder "
            "of recordings without speech"
        )
    return files


def _parse(text: str) -> Augmentation:
    """``white_noise:10..20`` → its name and range."""
    name, _, numbers = text.partition(":")
    if not numbers:
        return Augmentation(name)
    low, dots, high = numbers.partition("..")
    try:
        bounds = float(low), float(high if dots else low)
    except ValueError:
        bounds = (math.nan, math.nan)
    if math.isnan(sum(bounds)):
        raise RunError(f"augmentation {text!r}: {numbers!r} must be a number, or two as 10..20")
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
    """Seed the global generators inside the block, and put them back."""
    before, before_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # its globals
    random.seed(seed)
    np.random.seed([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF])  # noqa: NPY002  # words of 32 bits
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)  # noqa: NPY002  # as above
