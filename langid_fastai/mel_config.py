"""Settings that turn a waveform into a network's input, their limits, and their JSON file.

Contents: `MelConfig`; `Kind`, the input representations.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from langid_fastai.audio import DEFAULT_SR, HIGHEST_SR, LOWEST_SR
from langid_fastai.audio.channels import EACH, channel_number
from langid_fastai.errors import AudioError
from langid_fastai.utils.files import write_json
from langid_fastai.utils.options import option

__all__ = ["Kind", "MelConfig"]

# Input of a network: an image of a clip, see `langid_fastai.clips.image_kinds`, or its samples.
Kind = Literal["mel", "mfcc", "chroma", "stft", "waveform"]

# The shortest clip, s: less speech is too little to identify a language.
MIN_SECONDS = 1.0
# Limits on memory, since a configuration may be untrusted: 16 times the default number of bands, 64
# times the samples per frame, 38 times the pixels of an image; filters of 32 MB; a spectrum of
# 0.5 GB, 152 times the default.
MAX_MELS = 1 << 11
MAX_N_FFT = 1 << 17
MAX_PIXELS = 1 << 21
MAX_FILTERS = 1 << 23  # n_mels × frequencies
MAX_SPECTRUM = 1 << 26  # frequencies × frames
# Limits of `top_db`, dB: an image with less shows nothing, and float32 powers span no more.
TOP_DB = (10, 200)
# Pitch classes of an octave.
N_CHROMA = 12
# Frames that a delta spans, as in librosa.
DELTA_WIDTH = 9
# Heading of these options in the help of a command.
PANEL = "Spectrogram"
# Fields that are missing from files written by the first versions.
LATER = {"kind", "n_mfcc", "win_length", "channel"}
# Fields that are not stored if they are None, so that files with the default are unchanged.
OPTIONAL = ("win_length", "channel")


@dataclass(frozen=True)
class MelConfig:
    """Settings that turn a waveform into a network's input; stored with the images and the model.

    Parameters
    ----------
    sr : sampling rate that audio is resampled to, Hz
    clip_seconds : duration of one clip, s
    n_fft : samples per frame; 2048 is 93 ms at 22 050 Hz
    hop_length : samples between frames, at most `win_length`; 512 is 23 ms at 22 050 Hz
    n_mels : number of mel bands, which is the image height
    fmin, fmax : lowest and highest frequency in the image, Hz; `fmax` None is sr / 2
    top_db : dynamic range kept below the loudest bin, 10 to 200 dB
    kind : input of the network: an image (``mel``, ``mfcc``, ``chroma`` or ``stft``, see
        `langid_fastai.clips.image_kinds`) or an audio clip (``waveform``, see
        `langid_fastai.clips.waveforms`). For audio clips, the settings of the spectrogram are used
        only for images in the report and for the classical reference
    n_mfcc : number of cepstral coefficients in an image of kind ``mfcc``, which also shows their
        deltas
    win_length : length of the Hann window, samples; it is centred in the frame and zero-padded, as
        in librosa. None is `n_fft`
    channel : channel to use: ``left``, ``right`` or a channel number, from 1; stored as a number.
        None is the mean of the channels

    Raises
    ------
    AudioError : a value is outside its range, or images would be too large

    Examples
    --------
    >>> MelConfig().shape
    (128, 431)
    >>> MelConfig(kind="mfcc").shape
    (60, 431)
    """

    sr: int = option(
        DEFAULT_SR, panel=PANEL, help="Sampling rate that all audio is resampled to, in Hz."
    )
    clip_seconds: float = option(
        10.0,
        panel=PANEL,
        shown="10.0; 6.0 for speech_embedding",
        help="Duration of a clip, the audio that the network classifies at once, in seconds.",
    )
    n_fft: int = option(2048, panel=PANEL, help="Samples per FFT frame.")
    hop_length: int = option(512, panel=PANEL, help="Samples between successive frames.")
    n_mels: int = option(128, panel=PANEL, help="Number of mel bands (the image height).")
    fmin: float = option(0.0, panel=PANEL, help="Lowest frequency in the image, in Hz.")
    fmax: float | None = option(
        None, panel=PANEL, shown="half of --sr", help="Highest frequency in the image, in Hz."
    )
    top_db: float = option(
        80.0, panel=PANEL, help="Dynamic range of the image below its maximum, in dB."
    )
    kind: Kind = option(
        "mel",
        panel=PANEL,
        shown="what --arch expects",
        help="Input of the network: an image (mel, mfcc, chroma, stft) or the raw waveform.",
    )
    n_mfcc: int = option(20, panel=PANEL, help="Number of cepstral coefficients, with --kind mfcc.")
    win_length: int | None = option(
        None,
        panel=PANEL,
        shown="--n-fft",
        help="Length of the Hann window in samples, at most --n-fft.",
    )
    channel: str | int | None = option(
        None,
        panel=PANEL,
        shown="the mean of all channels",
        help="Channel of the recordings to use: left, right or a channel number (the first is 1).",
    )

    def __post_init__(self) -> None:
        if self.channel == EACH:
            raise AudioError(
                "channel='each': training uses one channel per recording; write each to its own "
                "file first, with: langid corpus cut CORPUS --channel each --out FOLDER"
            )
        object.__setattr__(self, "channel", channel_number(self.channel))
        if self.kind not in get_args(Kind):
            raise AudioError(f"kind={self.kind!r} must be one of {', '.join(get_args(Kind))}")
        for name in ("sr", "n_fft", "hop_length", "n_mels", "n_mfcc", "window_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                name = name.replace("window_length", "win_length")
                raise AudioError(f"{name}={value!r} must be a positive whole number")
        for name in ("clip_seconds", "fmin", "highest", "top_db"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise AudioError(f"{name.replace('highest', 'fmax')}={value!r} must be a number")
        if not LOWEST_SR <= self.sr <= HIGHEST_SR:
            raise AudioError(f"sr={self.sr} must be {LOWEST_SR} to {HIGHEST_SR} Hz; is it in kHz?")
        if not MIN_SECONDS <= self.clip_seconds <= 60:
            raise AudioError(
                f"clip_seconds={self.clip_seconds!r} must be between {MIN_SECONDS:g} and 60 s; "
                "did you pass milliseconds?"
            )
        if not 0 <= self.fmin < self.highest <= self.sr / 2:
            raise AudioError(
                f"fmin={self.fmin!r}, fmax={self.fmax!r} must be 0 <= fmin < fmax <= sr / 2 = "
                f"{self.sr / 2:g} Hz"
            )
        if not TOP_DB[0] <= self.top_db <= TOP_DB[1]:
            raise AudioError(
                f"top_db={self.top_db!r} must be {TOP_DB[0]} to {TOP_DB[1]} dB, e.g. 80"
            )
        self._validate_size()
        self._validate_kind()

    def _validate_size(self) -> None:
        """Reject settings that would skip samples or need an unreasonable amount of memory."""
        if self.window_length > self.n_fft:
            raise AudioError(
                f"win_length={self.win_length} must be at most n_fft={self.n_fft}, the samples per "
                "frame; did you swap the two?"
            )
        if self.hop_length > self.window_length:
            name = "n_fft" if self.win_length is None else "win_length"
            raise AudioError(
                f"hop_length={self.hop_length} must be at most {name}={self.window_length}: "
                "samples between two frames would be skipped"
            )
        n_bins, (height, width) = 1 + self.n_fft // 2, self.shape
        for what, size, largest in (
            ("mel bands", self.n_mels, MAX_MELS),
            ("samples per frame (n_fft)", self.n_fft, MAX_N_FFT),
            ("pixels (height × frames)", height * width, MAX_PIXELS),
            ("filter weights (n_mels × frequencies)", self.n_mels * n_bins, MAX_FILTERS),
            ("powers (frequencies × frames)", n_bins * width, MAX_SPECTRUM),
        ):
            if size > largest:
                raise AudioError(
                    f"n_mels={self.n_mels}, n_fft={self.n_fft}, hop_length={self.hop_length} give "
                    f"{size} {what}; the maximum is {largest}. Use a smaller n_mels or n_fft, or a "
                    "larger hop_length"
                )

    def _validate_kind(self) -> None:
        """Check the rules that apply to one kind only."""
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise AudioError(f"n_mfcc={self.n_mfcc} must be at most n_mels={self.n_mels}")
        if self.kind == "mfcc" and self.shape[1] < DELTA_WIDTH:
            raise AudioError(
                f"hop_length={self.hop_length} gives {self.shape[1]} frames per clip, but deltas "
                f"span {DELTA_WIDTH}; use a smaller hop_length"
            )
        if self.kind == "stft" and self.shape[0] < 1:
            raise AudioError(
                f"no frequency bin of n_fft={self.n_fft} is between fmin={self.fmin:g} and "
                f"{self.highest:g} Hz; use a larger n_fft, or move fmin and fmax further apart"
            )

    @property
    def highest(self) -> float:
        """Upper edge of the highest band, Hz."""
        return self.sr / 2 if self.fmax is None else self.fmax

    @property
    def window_length(self) -> int:
        """Length of the window, samples."""
        return self.n_fft if self.win_length is None else self.win_length

    @property
    def n_samples(self) -> int:
        """Samples in one clip."""
        return round(self.clip_seconds * self.sr)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of an image: mel bands (or rows of another `kind`) and frames."""
        bins = self.bins
        heights = {"mfcc": 3 * self.n_mfcc, "chroma": N_CHROMA, "stft": bins.stop - bins.start}
        return heights.get(self.kind, self.n_mels), 1 + self.n_samples // self.hop_length

    @property
    def bins(self) -> slice:
        """Indices of the FFT bins from `fmin` to `highest`."""
        per_hz = self.n_fft / self.sr
        return slice(math.ceil(self.fmin * per_hz), math.floor(self.highest * per_hz) + 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name, for JSON, omitting those in `OPTIONAL` that are None."""
        values = asdict(self).items()
        return {name: v for name, v in values if v is not None or name not in OPTIONAL}

    def write(self, path: Path) -> None:
        """Write the settings to a JSON file, atomically."""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path: Path) -> MelConfig:
        """Read a file written by `write`; unknown or missing names raise `AudioError`."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if missing := {field.name for field in fields(cls)} - LATER - set(content):
                raise AudioError(f"it lacks {', '.join(sorted(missing))}")
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise AudioError(f"{path}: not a MelConfig ({error})") from error
