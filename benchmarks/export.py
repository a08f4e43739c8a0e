"""Measure the export of images: speed on one core and on all cores, and peak memory.

    python benchmarks/export.py [--repetitions 5]

On one core, the export is compared with librosa and matplotlib, and with its floor: the sum of the
steps that cannot be omitted (decoding by libsndfile, one real FFT per frame, and PNG encoding by
Pillow), each timed separately in the same rounds. Inputs are clips of the demo corpus, ten seconds
of FLAC at 22 050 Hz, and links to them. Linux only, as other systems cannot bind a process to a
core.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import librosa
import matplotlib as mpl
import numpy as np
import scipy.fft
import soundfile as sf
from common import alternate, print_table, ratio
from joblib import Parallel, cpu_count, delayed
from librosa.display import specshow
from matplotlib import pyplot as plt
from memory import children, peak
from PIL import Image
from threadpoolctl import threadpool_limits

from langid_fastai.audio.files import load_audio
from langid_fastai.clips.export import export_images
from langid_fastai.corpus.demo import make_demo
from langid_fastai.corpus.index import Corpus, make_index
from langid_fastai.preprocessing import MelConfig, encode_png, mel_image

CONFIG = MelConfig()
OURS, DRAWN = "**ours**", "librosa's `specshow` and `savefig`"
FRAMES_AT_ONCE = 64  # batch of the FFTs of the floor; the fastest size
N_CLIPS = 384  # clips per round on one core
N_DRAWN = 8  # clips per round for matplotlib, which is slow
CLIPS_A_CORE = 300
N_PROCESSES, SIZES, LONG_SECONDS = 2, (200, 4_000), 3_600  # of the memory test


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peak-of", type=Path, help="only measure the memory of an export")
    asked = parser.parse_args()
    if asked.peak_of:
        print_peak(asked.peak_of)
        return
    print("## Export of images\n")
    with tempfile.TemporaryDirectory() as folder:
        demo = make_demo(Path(folder) / "demo", train_voices=8, test_voices=1, train_clips=2)
        clips = sorted((demo / "train").glob("*.flac"))
        print_one_core(Path(folder), clips, asked.repetitions)
        print_all_cores(Path(folder), clips, asked.repetitions)
        print_memory(Path(folder), clips)


# One core


def print_one_core(folder: Path, clips: list[Path], repetitions: int) -> None:
    """Time the export, the steps of its floor and the alternatives."""
    root = link_clips(folder / "links", clips, N_CLIPS)
    corpus, clips = corpus_of(root), sorted(root.iterdir())
    images = [mel_image(load_audio(clip)[: CONFIG.n_samples]) for clip in clips]
    paths = {
        "decoding, `soundfile.read`": lambda: [sf.read(clip, dtype="float32") for clip in clips],
        "FFTs, `scipy.fft.rfft`": lambda: list(map(transform_frames, range(len(clips)))),
        "PNG encoding, Pillow at its fastest": lambda: list(map(encode_with_pillow, images)),
        "PNG encoding, ours": lambda: [encode_png(image) for image in images],
        OURS: lambda: export_images(corpus, new(folder), CONFIG, n_jobs=1),
        "librosa and Pillow": lambda: draw_with_pillow(clips, new(folder)),
        DRAWN: lambda: draw_with_pyplot(clips[:N_DRAWN], new(folder)),
    }
    with one_core():
        seconds = alternate(paths, repetitions)
    seconds[DRAWN] = [N_CLIPS / N_DRAWN * s for s in seconds[DRAWN]]
    decoding, transforms, encoding, *_ = seconds.values()
    floor = [sum(parts) for parts in zip(decoding, transforms, encoding, strict=True)]
    print(
        f"One core; {N_CLIPS} clips of {CONFIG.clip_seconds:g} s, FLAC at {CONFIG.sr} Hz; medians "
        f"of {repetitions} alternating rounds. Ours is all of `export_images`, writing included.\n"
    )
    print_table(
        ("", "ms a clip", "of the floor", "of ours"),
        [
            (
                words,
                f"{1000 * statistics.median(times) / N_CLIPS:.2f}",
                f"{ratio(times, floor):.2f}",
                f"{ratio(times, seconds[OURS]):.2f}",
            )
            for words, times in [*seconds.items(), ("**floor**: the first three", floor)]
        ],
    )


def transform_frames(_: int) -> None:
    """Compute the FFTs of as many frames as a clip has."""
    frames = np.zeros((FRAMES_AT_ONCE, CONFIG.n_fft), dtype=np.float32)
    n_frames = CONFIG.shape[1]
    for i in range(0, n_frames, FRAMES_AT_ONCE):
        scipy.fft.rfft(frames[: n_frames - i], axis=1)


def encode_with_pillow(image: np.ndarray) -> None:
    """Encode an image in memory."""
    Image.fromarray(image).save(
        io.BytesIO(), format="png", compress_level=1, compress_type=zlib.Z_RLE
    )


def draw_with_pillow(clips: list[Path], folder: Path) -> None:
    """Make the same images with librosa and Pillow."""
    for clip in clips:
        image = np.rint((mel_by_librosa(clip)[::-1] + CONFIG.top_db) * (255 / CONFIG.top_db))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{clip.stem}.png")


def draw_with_pyplot(clips: list[Path], folder: Path) -> None:
    """Make figures with matplotlib, as in tutorials."""
    for clip in clips:
        figure, axes = plt.subplots()
        specshow(mel_by_librosa(clip), sr=CONFIG.sr, ax=axes)
        axes.set_axis_off()
        figure.savefig(folder / f"{clip.stem}.png")
        plt.close(figure)


def mel_by_librosa(clip: Path) -> np.ndarray:
    """Return a mel spectrogram in dB, (n_mels, n_frames), computed by librosa."""
    y, sr = librosa.load(clip, sr=CONFIG.sr)
    S = librosa.feature.melspectrogram(
        y=y, sr=sr, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length, n_mels=CONFIG.n_mels
    )
    return librosa.power_to_db(S, ref=np.max, top_db=CONFIG.top_db)


@contextmanager
def one_core() -> Iterator[None]:
    """Bind this process and its threads to one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    with threadpool_limits(1):
        yield
    os.sched_setaffinity(0, cores)


# All cores


def print_all_cores(folder: Path, clips: list[Path], repetitions: int) -> None:
    """Time the export on one core and on all cores, with the same number of clips per core."""
    n = cpu_count()
    few, many = (
        corpus_of(link_clips(folder / f"links{k}", clips, k * CLIPS_A_CORE)) for k in (1, n)
    )

    def export(corpus: Corpus, n_jobs: int) -> None:
        export_images(corpus, new(folder), CONFIG, n_jobs=n_jobs)

    began = time.perf_counter()
    export(few, n)
    middle = time.perf_counter()
    export(few, n)
    start = middle - began - (time.perf_counter() - middle)
    apart = Parallel(n_jobs=n)  # n independent processes, for comparison
    seconds = alternate(
        {
            "one export on one core": lambda: export(few, 1),
            f"**one export on {n} cores**": lambda: export(many, n),
            f"{n} exports on a core each": lambda: apart([delayed(export)(few, 1)] * n),
        },
        repetitions,
    )
    one, *_ = seconds.values()
    print(
        f"\nAll cores; {CLIPS_A_CORE} clips a core, medians of {repetitions} alternating rounds. "
        f"The processes run already; the first export waits {start:.1f} s for them.\n"
    )
    print_table(
        ("", "clips a second", "of one core", "a core"),
        [
            (
                words,
                f"{cores * CLIPS_A_CORE / statistics.median(times):.0f}",
                f"{cores * ratio(one, times):.2f}",
                f"{ratio(one, times):.2f}",
            )
            for (words, times), cores in zip(seconds.items(), (1, n, n), strict=True)
        ],
    )


# Memory


def print_memory(folder: Path, clips: list[Path]) -> None:
    """Export few recordings, many, and a long one, each in a new process."""
    few, many = (link_clips(folder / f"recordings{n}", clips, n) for n in SIZES)
    rows = []
    for words, root in (
        (f"{SIZES[0]:,} recordings of {CONFIG.clip_seconds:g} s", few),
        (f"{SIZES[1]:,} recordings of {CONFIG.clip_seconds:g} s", many),
        (f"one recording of {LONG_SECONDS:,} s", write_long(folder / "long", clips)),
    ):
        command = [sys.executable, __file__, "--peak-of", str(root)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append((words, f"{int(done.stdout) / 2**20:.1f}"))
    print(f"\nPeak memory of the larger of {N_PROCESSES} processes that make images:\n")
    print_table(("", "MiB"), rows)


def print_peak(root: Path) -> None:
    """Export a corpus, and print the peak memory of the larger worker process, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        export_images(corpus_of(root), folder, CONFIG, n_jobs=N_PROCESSES)
    print(max(peak(process) for process in children()))


# Inputs


def link_clips(root: Path, clips: list[Path], n: int) -> Path:
    """Make a folder of `n` links to a few clips."""
    root.mkdir()
    for i, clip in enumerate(islice(cycle(clips), n)):
        (root / f"{i}.flac").hardlink_to(clip)
    return root


def write_long(root: Path, clips: list[Path]) -> Path:
    """Make a folder with one long recording."""
    root.mkdir()
    with sf.SoundFile(root / "long.flac", "w", CONFIG.sr, 1) as file:
        for clip in islice(cycle(clips), round(LONG_SECONDS / CONFIG.clip_seconds)):
            file.write(load_audio(clip))
    return root


def corpus_of(root: Path) -> Corpus:
    """Return the recordings of a folder as the training split of one language."""
    paths = sorted(file.name for file in root.iterdir())
    rows = [{"path": path, "language": "de", "split": "train"} for path in paths]
    return Corpus(root, make_index(rows), "made")


def new(folder: Path) -> Path:
    """Make a new, empty folder inside a folder."""
    return Path(tempfile.mkdtemp(dir=folder))


if __name__ == "__main__":
    mpl.use("agg")
    main()
