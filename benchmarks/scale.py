"""Time all steps of a run except audio and network, at three sizes up to the Kaggle set's.

    python benchmarks/scale.py

The Kaggle set has 73 080 training and 540 test files. Files with such names are made, with images
that are links to a few; each step is timed at three numbers of them. The steps on an index are also
timed with names of VoxLingua107, which has far more groups and languages. The exponent is the slope
between the last two sizes on logarithmic axes: 1 for n, 1.1 here for n log n, 2 for n².
"""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import soundfile as sf
from common import print_table
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from made import KAGGLE, kaggle_names, link_images, voxlingua_names, write_recordings
from torch import nn

from langid_fastai import evaluation
from langid_fastai.clips.export import export_images, image_stems, read_clips
from langid_fastai.corpus.folds import make_folds
from langid_fastai.corpus.index import (
    Corpus,
    index_hash,
    make_index,
    read_index,
    used_rows,
    validate_index,
    write_index,
)
from langid_fastai.corpus.measure import measure_audio, summarize_corpus
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.readers.voxlingua107 import read_voxlingua107
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.evaluation.intervals import N_DRAWS
from langid_fastai.learner import make_dataloaders
from langid_fastai.preprocessing import MelConfig
from langid_fastai.training import Stage, fit_stages

SIZES = (5_000, 20_000, KAGGLE)
INDEX_SIZES = (25_000, 100_000, 400_000)
TEST_SIZES = (540, 2_160, 8_640)
MANY_TEST_SIZES = (5_000, 10_000, 20_000)  # recordings in as many languages as VoxLingua107 has
VOXLINGUA_CLIPS, VOXLINGUA_HOURS = 2_500_000, 6_628
BATCH_SIZE, N_BATCHES = 64, 50
MEL = MelConfig(sr=8_000, clip_seconds=1.0, n_mels=16)  # settings of the images, which are small

Result = TypeVar("Result")


def main() -> None:
    """Measure and print the tables."""
    steps: list[dict[str, float]] = []
    batches: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in SIZES:
            took, seconds = time_run(Path(folder) / str(n), n)
            steps.append(took)
            batches.append(seconds)
        ms_per_clip, bytes_per_image = time_export(Path(folder) / "export")
    print("## At the size of the Kaggle set\n")
    print(
        "Made recordings and images under the set's names; the fastest of up to five runs. The "
        f"last column is the step at {VOXLINGUA_CLIPS:,} clips, n log n assumed.\n"
    )
    print_steps(SIZES, steps)
    print(
        f"\nAfter the first, {N_BATCHES} batches of {BATCH_SIZE} with all bookkeeping and no "
        f"network take {', '.join(f'{s:.2f}' for s in batches)} s at the three sizes.\n"
    )
    print("What an index goes through, under the names of VoxLingua107:\n")
    print_steps(INDEX_SIZES, [time_index(n) for n in INDEX_SIZES])
    print(f"\n`evaluate` on the scores of n recordings, {N_DRAWS} draws:\n")
    print_steps(TEST_SIZES, [time_test(n) for n in TEST_SIZES], extrapolate=False)
    print("\nThe same with 107 languages of 20 speakers each:\n")
    many = [time_test(n, n_languages=107, n_speakers=20) for n in MANY_TEST_SIZES]
    print_steps(MANY_TEST_SIZES, many, extrapolate=False)
    print_export(ms_per_clip, bytes_per_image)


def time_run(folder: Path, n: int) -> tuple[dict[str, float], float]:
    """Return the seconds of each step of a run with n recordings, and of some more batches."""
    timed = Stopwatch()
    root, images, csv = folder / "recordings", folder / "images", folder / "index.csv"
    write_recordings(root, kaggle_names(n))
    corpus = timed("find files, read their names", lambda: read_corpus(root))
    corpus = timed("headers and copies", lambda: measure_audio(corpus))
    unsplit = corpus.with_index(corpus.index.assign(split=""))
    timed("split, all three sides made", lambda: split_corpus(unsplit))
    timed("14 folds, the author's", lambda: make_folds(corpus, 14))
    timed("5 folds, balanced", lambda: make_folds(corpus, 5))
    corpus = timed("split, test side kept", lambda: split_corpus(corpus))
    timed("audit", lambda: audit_split(corpus))
    timed("summary", lambda: summarize_corpus(corpus))
    timed("write index", lambda: write_index(corpus.index, csv))
    timed("read index", lambda: read_index(csv))
    timed("hash of the index", lambda: index_hash(corpus.index))
    timed("names of images", lambda: image_stems(used_rows(corpus.index)))
    make_images(corpus, images)
    timed("export, all there already", lambda: export_images(corpus, images, MEL, n_jobs=1))
    clips = timed("read clips", lambda: read_clips(images, corpus.index))
    dls = timed(
        "DataLoaders",
        lambda: make_dataloaders(images, clips=clips, batch_size=BATCH_SIZE, workers=0),
    )
    timed("order of an epoch", lambda: list(dls.train.get_idxs()))
    batches = Batches()
    learn = Learner(dls, no_network(len(dls.vocab)), CrossEntropyLossFlat(), metrics=accuracy)
    learn.arch = "none"
    with learn.no_bar(), learn.no_logging(), learn.added_cbs(batches):
        fit_stages(learn, [Stage("all", "all", epochs=1, lr=1e-3)])
    return timed.seconds | {"first batch of an epoch": batches.first}, batches.others


def time_index(n: int) -> dict[str, float]:
    """Return the seconds of each step on an index of n recordings, without files."""
    timed = Stopwatch()
    found = Found(Path(), voxlingua_names(n))
    corpus = timed("read names", lambda: read_voxlingua107(found))
    timed("validate", lambda: validate_index(corpus.index))
    corpus = corpus.with_index(corpus.index.assign(duration=9.5, sr=16_000.0, digest=""))
    timed("5 folds, balanced", lambda: make_folds(corpus, 5))
    corpus = timed("split", lambda: split_corpus(corpus))
    timed("audit", lambda: audit_split(corpus))
    timed("summary", lambda: summarize_corpus(corpus))
    timed("hash of the index", lambda: index_hash(corpus.index))
    timed("names of images", lambda: image_stems(used_rows(corpus.index)))
    return timed.seconds


def time_test(n: int, *, n_languages: int = 3, n_speakers: int = 2) -> dict[str, float]:
    """Time the computation of the metrics for n test recordings."""
    timed = Stopwatch()
    test = made_test(n, n_languages, n_speakers)
    timed("evaluate", lambda: evaluation.evaluate(*test))
    return timed.seconds


class Stopwatch:
    """Time steps, and store the seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, run: Callable[[], Result]) -> Result:
        """Run a step up to five times, or once if it takes long; store the fastest time."""
        times: list[float] = []
        while len(times) < 5 and sum(times) < 1.5:
            began = time.perf_counter()
            found = run()
            times.append(time.perf_counter() - began)
        self.seconds[name] = min(times)
        return found


class Batches(Callback):
    """Time the first batches of an epoch, then stop."""

    order = 1_000  # after the bookkeeping of all other callbacks

    def before_train(self) -> None:
        """Store the time at which the epoch starts."""
        self.ends = [time.perf_counter()]

    def after_batch(self) -> None:
        """Store the time after a batch, and stop after enough of them."""
        self.ends.append(time.perf_counter())
        if len(self.ends) > N_BATCHES + 1 or self.iter == self.n_iter - 1:
            raise CancelFitException

    @property
    def first(self) -> float:
        """Return the seconds from the start of the epoch to the end of its first batch."""
        return self.ends[1] - self.ends[0]

    @property
    def others(self) -> float:
        """Return the seconds of the batches after the first."""
        return self.ends[-1] - self.ends[1]


def print_steps(
    sizes: tuple[int, ...], steps: list[dict[str, float]], *, extrapolate: bool = True
) -> None:
    """Print the time of each step at all sizes, its exponent, and an estimate for VoxLingua107."""
    rows = []
    *_, before, n = sizes
    growth = VOXLINGUA_CLIPS * math.log(VOXLINGUA_CLIPS) / (n * math.log(n))
    for name in steps[0]:
        seconds = [took[name] for took in steps]
        exponent = math.log(seconds[-1] / seconds[-2]) / math.log(n / before)
        there = [f"{growth * seconds[-1]:.1f}"] if extrapolate else []
        rows.append((name, *(f"{s:.3f}" for s in seconds), f"{exponent:.2f}", *there))
    head = ["seconds", *(f"n = {size:,}" for size in sizes), "exponent"]
    print_table([*head, "VoxLingua107"] if extrapolate else head, rows)


def make_images(corpus: Corpus, folder: Path) -> None:
    """Make links as the images of a corpus, with the tables that an export writes."""
    rows = used_rows(corpus.index)
    images = [f"{stem}@0.00.png" for stem in image_stems(rows)]
    link_images(folder, images, shape=MEL.shape)
    MEL.write(folder / "mel.json")
    stamps = [(corpus.root / path).stat() for path in rows["path"]]
    journal = pd.DataFrame(
        {
            "path": rows["path"],
            "offset": 0.0,
            "image": images,
            "reason": "",
            "n_rows": 1,
            "size": [stamp.st_size for stamp in stamps],
            "mtime_ns": [stamp.st_mtime_ns for stamp in stamps],
        }
    )
    journal.to_csv(folder / "images.csv", index=False)
    if n_made := export_images(corpus, folder, MEL, n_jobs=1).n_made:
        raise RuntimeError(f"{n_made} images were made again; has the manifest changed?")


def no_network(n_languages: int) -> nn.Sequential:
    """Make a network that averages the image, with a head."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(3, n_languages))
    )


def made_test(
    n: int, n_languages: int = 3, n_speakers: int = 2
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Make scored test clips, one per recording, with `n_speakers` per language."""
    vocab = ["de", "en", "es"] if n_languages == 3 else [f"l{k:03d}" for k in range(n_languages)]
    speaker = np.arange(n) % (n_languages * n_speakers)
    truth = speaker % n_languages
    log_probs = np.random.default_rng(0).standard_normal((n, n_languages))
    log_probs[np.arange(n), truth] += 2 if n_languages == 3 else 4
    log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    names = pd.Series(speaker.astype(str))
    clips = pd.DataFrame({"path": [f"{i:06d}.flac" for i in range(n)], "offset": 0.0, "image": ""})
    return (
        clips.assign(language=np.array(vocab)[truth], speaker=names, group=names),
        log_probs,
        vocab,
    )


def time_export(folder: Path) -> tuple[float, float]:
    """Return the ms and bytes of an image of ten seconds at 22 050 Hz, on one core."""
    config, n_clips = MelConfig(), 60
    rng, t = np.random.default_rng(0), np.arange(config.n_samples) / config.sr
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)  # about four syllables per second
    for i in range(n_clips):
        y = 0.1 * syllables * rng.standard_normal(config.n_samples)
        (folder / "de").mkdir(parents=True, exist_ok=True)
        sf.write(folder / "de" / f"{i}.flac", y, config.sr)
    rows = [{"path": f"de/{i}.flac", "language": "de", "split": "train"} for i in range(n_clips)]
    corpus = Corpus(folder, make_index(rows), "made")
    warm_up = corpus.with_index(corpus.index[:2])
    export_images(warm_up, folder / "warm-up", config, n_jobs=1)
    began = time.perf_counter()
    export_images(corpus, folder / "images", config, n_jobs=1)
    seconds = time.perf_counter() - began
    sizes = [file.stat().st_size for file in (folder / "images").rglob("*.png")]
    return 1000 * seconds / n_clips, float(np.mean(sizes))


def print_export(ms_per_clip: float, bytes_per_image: float) -> None:
    """Print an estimate of the time and space for exporting VoxLingua107."""
    clips = max(VOXLINGUA_CLIPS, VOXLINGUA_HOURS * 360)
    hours = clips * ms_per_clip / 3.6e6
    print(
        f"\nExport of VoxLingua107 ({VOXLINGUA_CLIPS:,} clips, {VOXLINGUA_HOURS:,} hours), one "
        f"image a clip at {ms_per_clip:.1f} ms and {bytes_per_image / 1000:.0f} kB, measured here "
        f"on one core and made noise: {clips * bytes_per_image / 1e9:.0f} GB of images.\n"
    )
    cores = (1, 4, 16, 64)
    print_table(
        ("cores, each a full one", *map(str, cores)),
        [("hours", *(f"{hours / n:.1f}" for n in cores))],
    )


if __name__ == "__main__":
    main()
