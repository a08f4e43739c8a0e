"""Measure the accuracy on degraded test clips.

Conventions: `y` is one clip, ``(n_samples,)`` float32 at `sr` Hz. Each condition is applied to the
clean clip; conditions are not combined. A result longer than a clip is cut to its middle; a shorter
one is repeated until it fills a clip, as `clips_of` does with a short recording. Images (or audio
clips) are made by `encode_clip`, as in the export, so those of the condition ``clean`` are
identical to the exported ones.

=========  =========================================================================================
clean      as recorded
noise20 …  white noise, 20, 10 or 0 dB below the mean power of the clip including its pauses; a clip
           has the same noise at every level
telephone  resampled to 8 kHz, filtered to 300 to 3400 Hz (-3 dB at both), and resampled back
mp3        written as MP3 at 16 kb/s and read again; left out if libsndfile cannot write MP3
slow fast  played at 0.9 and 1.1 times the speed, which also changes the pitch, as ``sox speed``
cut1 …     its middle 1, 3, 5 or 10 s; left out if clips are shorter than that. A clip that repeats
           a short recording is cut like any other
=========  =========================================================================================

Contents: `CONDITIONS`; `available_conditions`, those possible with a `MelConfig`; `degrade`, for
one clip; `degraded_clips`, for all clips of a test; `measure_conditions`, the metrics.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import soxr
from joblib import Parallel, delayed

from langid_fastai.audio.files import stream_audio
from langid_fastai.audio.mp3 import code_mp3, writes_mp3
from langid_fastai.augmentation.waveform import add_white_noise, change_speed
from langid_fastai.clips.export import encode_clip
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.evaluation.draws import draw_decisions
from langid_fastai.evaluation.intervals import interval_of_draws, number_groups, wilson_interval
from langid_fastai.evaluation.scores import CLIP_COLUMNS, encode, validate_scores
from langid_fastai.preprocessing import MelConfig, clips_of, fit_clip
from langid_fastai.utils.text import list_some

__all__ = [
    "CONDITIONS",
    "Condition",
    "DegradedClip",
    "available_conditions",
    "degrade",
    "degraded_clips",
    "measure_conditions",
]

TELEPHONE_SR = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3400.0)  # Hz
TELEPHONE_ORDER = 8  # of the Butterworth filter: -14 dB at 250 Hz, -29 dB at 200 Hz

# MP3 supports nine sampling rates; results of models are comparable only at the same one.
MP3_SR = 22_050
# The next lower rate, 8 kb/s, limits the band to 3 kHz and would duplicate the telephone condition.
MP3_KBITS = 16

# One change of a clip: (y, sr, rng) -> y.
Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
Seed = tuple[int, int]


@dataclass(frozen=True)
class Condition:
    """One way to degrade a clip.

    Parameters
    ----------
    name : name in tables and ``metrics.json``
    words : description on the report page
    change : function from (y, sr, rng) to the degraded y, of any length
    seconds : length of a cut, s; None for other conditions
    """

    name: str
    words: str
    change: Change
    seconds: float | None = None


class DegradedClip(NamedTuple):
    """A degraded clip: its condition, its row in the table, and its PNG (or WAV) file as bytes."""

    condition: str
    row: int
    png: bytes


def degrade(y: np.ndarray, sr: int, condition: Condition, rng: np.random.Generator) -> np.ndarray:
    """Degrade one clip.

    Parameters
    ----------
    y : mono waveform, (n_samples,), float; it and the result may exceed [-1, 1]
    sr : sampling rate, Hz
    condition : one of `CONDITIONS`
    rng : random generator of the noise

    Returns
    -------
    y : (n_degraded,), float32, at `sr`; its length depends on the condition

    Raises
    ------
    AudioError : `y` is not mono, or is empty

    Examples
    --------
    >>> named = {condition.name: condition for condition in CONDITIONS}
    >>> y = np.ones(22_050, dtype=np.float32)
    >>> degrade(y, 22_050, named["fast"], np.random.default_rng(0)).shape
    (20045,)
    """
    y = np.asarray(y, dtype=np.float32)
    if y.ndim != 1 or not y.size:
        raise AudioError(f"y.shape={y.shape} must be (n_samples,), not empty; pass one clip")
    return condition.change(y, sr, rng).astype(np.float32, copy=False)


def degraded_clips(
    root: str | Path,
    clips: pd.DataFrame,
    config: MelConfig = MelConfig(),
    conditions: Sequence[Condition] | None = None,
    *,
    chunk: int = 256,
    seed: int = 0,
    n_jobs: int = -1,
) -> Iterator[list[DegradedClip]]:
    """Make the image of every clip under every condition, chunk by chunk.

    Each recording is read once, clip by clip, so memory use is limited to one chunk. The noise of a
    clip depends only on the seed and the path and offset of the clip.

    A clip that is silent under a condition, for example cut to digital silence, is left out of that
    condition. An unreadable recording raises an error, since results without it would not be
    comparable with the clean test.

    Parameters
    ----------
    root : folder of the corpus
    clips : from `read_clips`; `path` and `offset` (s) are used
    config : settings of the exported images
    conditions : conditions to apply; by default the `available_conditions`
    chunk : maximum number of images to yield at once, but at least all images of one clip; 256
        images need about 10 MB, and their audio 20 MB
    seed : random seed of the noise
    n_jobs : number of processes; -1 for all cores

    Yields
    ------
    images : sorted by recording in order of first appearance, then by offset, then by condition

    Raises
    ------
    AudioError : a recording is missing, cannot be read, or is now too short for one of its clips

    Examples
    --------
    ::

        clips = read_clips("runs/demo/images", corpus.index, "test")
        for chunk in degraded_clips(corpus.root, clips, config):
            log_probs = predict_images(learn, [clip.png for clip in chunk])
    """
    root = Path(root)
    conditions = available_conditions(config) if conditions is None else conditions
    missing = [path for path in clips["path"].unique() if not (root / path).is_file()]
    if missing:
        raise AudioError(
            f"{list_some(missing)}: no such file in {root}; degrading clips needs the recordings, "
            "so pass the corpus that the images were made from"
        )
    sounds = _read_clips(root, clips, config)
    # Batch by batch, since joblib's generator does not wait for a slow consumer.
    with Parallel(n_jobs=n_jobs, max_nbytes=None) as parallel:
        while batch := list(islice(sounds, max(1, chunk // len(conditions)))):
            images = parallel(
                delayed(_degraded)(y, row, config, conditions, (seed, _hash(path, offset)))
                for row, path, offset, y in batch
            )
            yield list(chain.from_iterable(images))


def measure_conditions(
    scores: Mapping[str, tuple[pd.DataFrame, np.ndarray]], vocab: Sequence[str], *, seed: int = 0
) -> dict:
    """Compute section `robustness` of ``metrics.json``: the metrics under each condition.

    Parameters
    ----------
    scores : for each condition by name, including ``clean``: the table of the clips that have an
        image (at least `CLIP_COLUMNS` of `evaluation.scores`), and their log-probabilities,
        (n_clips, n_languages)
    vocab : (n_languages,), the languages of the columns
    seed : random seed of the bootstrap

    Returns
    -------
    measures : plain Python values, ready for JSON; rates are by clip; conditions are in the order
        of `CONDITIONS`

    Raises
    ------
    ModelError : a condition is unknown, ``clean`` is missing, or scores do not match the clips or
        the vocab
    """
    names = [condition.name for condition in CONDITIONS]
    if "clean" not in scores or not set(scores) <= set(names):
        raise ModelError(f"conditions {list(scores)} must include clean and be from {names}")
    clips, _ = scores["clean"]
    return {
        "n_clips": len(clips),
        "n_recordings": clips["path"].nunique(),
        "n_groups": clips["group"].nunique(),
        "conditions": [
            {"name": condition.name, "words": condition.words, "seconds": condition.seconds}
            | _rates(*scores[condition.name], vocab, seed)
            for condition in CONDITIONS
            if condition.name in scores
        ],
    }


def available_conditions(config: MelConfig = MelConfig()) -> tuple[Condition, ...]:
    """Return the `CONDITIONS` that are possible with the clip length and the installed libraries.

    Cuts longer than a clip are left out, and MP3 if libsndfile is too old to write it.

    Examples
    --------
    >>> [c.name for c in available_conditions(MelConfig(clip_seconds=4.0)) if c.seconds]
    ['cut1', 'cut3']
    """
    return tuple(
        condition
        for condition in CONDITIONS
        if (condition.seconds is None or condition.seconds <= config.clip_seconds)
        and (condition.name != "mp3" or writes_mp3())
    )


def _read_clips(
    root: Path, clips: pd.DataFrame, config: MelConfig
) -> Iterator[tuple[int, str, float, np.ndarray]]:
    """Yield the row, path, offset and waveform of each clip in the table, by recording."""
    rows = clips[["path", "offset"]].reset_index(drop=True)
    for name, part in rows.groupby("path", sort=False):
        path = str(name)
        # The export rounds offsets to 6 digits, and a CSV may not restore the last bit.
        wanted = dict(zip(part["offset"].round(6), part.index, strict=True))
        try:
            blocks = stream_audio(root / path, sr=config.sr, channel=config.channel)
            for offset, y in clips_of(blocks, config):
                offset = round(offset, 6)
                if offset in wanted:
                    yield wanted.pop(offset), path, offset, y
        except AudioError as error:
            reason = str(error).removeprefix(f"{root / path}: ")
            raise AudioError(
                f"{root / path}: {reason}; it was readable when its images were made"
            ) from error
        if wanted:
            raise AudioError(
                f"{root / path}: no clip at {min(wanted):g} s, although there is an image of it; "
                "has the file changed? regenerate the images"
            )


def _degraded(
    y: np.ndarray, row: int, config: MelConfig, conditions: Sequence[Condition], seed: Seed
) -> list[DegradedClip]:
    """Make the images of one clip under all conditions that do not silence it."""
    degraded = []
    for condition in conditions:
        # Each condition has its own generator, so its noise does not depend on the others.
        degraded_y = degrade(y, config.sr, condition, np.random.default_rng(seed))
        with contextlib.suppress(AudioError):  # silent
            clip = encode_clip(fit_clip(degraded_y, config.n_samples), config)
            degraded.append(DegradedClip(condition.name, row, clip))
    return degraded


def _rates(clips: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], seed: int) -> dict:
    """Compute accuracy and macro F1 over clips, with their intervals."""
    log_probs = validate_scores(clips, log_probs, CLIP_COLUMNS)
    truth, predicted = encode(clips, log_probs, list(vocab)), log_probs.argmax(axis=1)
    n_groups, group = number_groups(clips["group"])
    statistic = draw_decisions(truth, predicted, len(vocab), group)
    accuracy, _, f1 = statistic(np.ones((1, n_groups), dtype=int))[0].tolist()
    intervals = interval_of_draws(statistic, n_groups, n_cells=len(truth), seed=seed)
    accuracy_bootstrap, _, f1_bootstrap = [None] * 3 if intervals is None else intervals.tolist()
    return {
        "n_clips": len(clips),
        "accuracy": accuracy,
        "accuracy_wilson": list(wilson_interval((truth == predicted).sum(), len(truth))),
        "accuracy_bootstrap": accuracy_bootstrap,
        "macro_f1": f1,
        "macro_f1_bootstrap": f1_bootstrap,
    }


def _hash(path: str, offset: float) -> int:
    """Hash the path and offset of a clip to 64 bits, with the same result on every machine."""
    digest = hashlib.blake2b(f"{path}@{offset:.6f}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _unchanged(y: np.ndarray, sr: int, rng: np.random.Generator) -> np.ndarray:
    return y


def _add_noise(y: np.ndarray, sr: int, rng: np.random.Generator, *, snr: float) -> np.ndarray:
    return add_white_noise(y, snr, rng)


def _telephone(y: np.ndarray, sr: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.signal import butter, sosfilt  # slow to import, so only where it is used

    narrow = soxr.resample(y, sr, TELEPHONE_SR)
    band = butter(TELEPHONE_ORDER, TELEPHONE_BAND, "bandpass", fs=TELEPHONE_SR, output="sos")
    return soxr.resample(sosfilt(band, narrow), TELEPHONE_SR, sr)


def _mp3(y: np.ndarray, sr: int, rng: np.random.Generator) -> np.ndarray:
    return soxr.resample(code_mp3(soxr.resample(y, sr, MP3_SR), MP3_SR, MP3_KBITS), MP3_SR, sr)


def _play_at(y: np.ndarray, sr: int, rng: np.random.Generator, *, speed: float) -> np.ndarray:
    return change_speed(y, sr, speed)


def _cut(y: np.ndarray, sr: int, rng: np.random.Generator, *, seconds: float) -> np.ndarray:
    return fit_clip(y, min(round(seconds * sr), len(y)))


CONDITIONS = (
    Condition("clean", "as recorded", _unchanged),
    *(
        Condition(f"noise{snr}", f"white noise at {snr} dB SNR", partial(_add_noise, snr=snr))
        for snr in (20, 10, 0)
    ),
    Condition("telephone", "telephone band: 8 kHz, 300–3400 Hz", _telephone),
    Condition("mp3", f"MP3 at {MP3_KBITS} kb/s", _mp3),
    Condition("slow", "10 % slower, with lower pitch", partial(_play_at, speed=0.9)),
    Condition("fast", "10 % faster, with higher pitch", partial(_play_at, speed=1.1)),
    *(
        Condition(f"cut{s}", f"cut to {s} s", partial(_cut, seconds=s), float(s))
        for s in (1, 3, 5, 10)
    ),
)
