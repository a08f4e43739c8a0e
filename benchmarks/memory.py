"""Measure peak memory of an export and of a training epoch, at 1 000 and 100 000 index rows.

    python benchmarks/memory.py

The recordings are links to a few files of one second, so that a hundred thousand take minutes only;
longer ones would add the same memory at both sizes. Each task runs in a new process. The index
itself grows with the corpus, and is shown separately. Linux only, as the peaks are read from /proc.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from common import print_table
from made import kaggle_names, link_recordings

if TYPE_CHECKING:
    from fastai.data.core import DataLoaders

SIZES = (1_000, 100_000)
N_PROCESSES = 2
BATCH_SIZE = 256
MIB = 2**20


def main() -> None:
    """Measure and print a table, or do one task in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="?", choices=WORK)
    parser.add_argument("folder", nargs="?", type=Path)
    asked = parser.parse_args()
    if asked.work:
        print(json.dumps(WORK[asked.work](asked.folder)))
        return
    if not Path("/proc/self/status").exists():
        raise SystemExit("this benchmark reads /proc, which only Linux has")
    peaks: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in SIZES:
            folder = Path(scratch) / str(n)
            link_recordings(folder / "recordings", kaggle_names(n))
            peaks.append({})
            for work in WORK:
                peaks[-1] |= run_apart(work, folder)
    report(peaks)


def report(peaks: list[dict[str, int]]) -> None:
    """Print the peaks at both sizes, and their growth."""
    few, many = SIZES
    print("## Memory at any number of clips\n")
    print(
        "Peak resident memory, in MiB; of loading processes, what they share with no other. An "
        f"export of {N_PROCESSES} processes, an epoch of ResNet18 with batches of {BATCH_SIZE}.\n"
    )
    rows = [
        (name, *(f"{p[name] / MIB:.1f}" for p in peaks), f"{growth / (many - few):.0f}")
        for name in peaks[0]
        for growth in [peaks[1][name] - peaks[0][name]]
    ]
    print_table(("", *(f"{n:,} rows" for n in SIZES), "bytes a row"), rows)


def run_apart(work: str, folder: Path) -> dict[str, int]:
    """Do a task in a new process, and return its peaks in bytes."""
    command = [sys.executable, "-W", "ignore", __file__, work, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def index(folder: Path) -> dict[str, int]:
    """Find the recordings, read their names, split and audit them."""
    from langid_fastai.corpus.index import write_index
    from langid_fastai.corpus.readers.recognise import read_corpus
    from langid_fastai.corpus.split import audit_split, split_corpus

    corpus = split_corpus(read_corpus(folder / "recordings"))
    audit_split(corpus)
    write_index(corpus.index, folder / "index.csv")
    return {
        "the index itself, a DataFrame": int(corpus.index.memory_usage(deep=True).sum()),
        "indexing": peak(),
    }


def export(folder: Path) -> dict[str, int]:
    """Make all images."""
    from langid_fastai.clips.export import export_images
    from langid_fastai.corpus.index import Corpus, read_index
    from langid_fastai.preprocessing import MelConfig

    config = MelConfig(sr=8_000, clip_seconds=1.0, n_mels=16)
    corpus = Corpus(folder / "recordings", read_index(folder / "index.csv"), "made")
    export_images(corpus, folder / "images", config, n_jobs=N_PROCESSES)
    return {
        "export, the process that keeps the index": peak(),
        "export, each process that works": max(peak(process) for process in children()),
    }


def training(folder: Path) -> dict[str, int]:
    """Train for an epoch, as `langid-train` does."""
    from langid_fastai.learner import language_learner
    from langid_fastai.training import Stage, fit_stages

    learn = language_learner(
        make_loaders(folder, BATCH_SIZE, workers=0), "resnet18", weights="none"
    )
    with learn.no_bar(), learn.no_logging():
        fit_stages(learn, [Stage("all", "all", epochs=1, lr=1e-3)])
    return {"training": peak()}


def loading(folder: Path) -> dict[str, int]:
    """Load half an epoch with worker processes, as for a GPU, and measure their memory."""
    train = make_loaders(folder, 16, workers=N_PROCESSES).train
    # Collect garbage, as happens sooner or later; it copies memory shared with the parent.
    train.wif = gc.collect
    found = 0
    for number, _ in enumerate(train):
        if number == len(train) // 2:
            found = max(private(process) for process in children())
            break
    return {"training, each process that loads": found}


WORK = {work.__name__: work for work in (index, export, training, loading)}


def make_loaders(folder: Path, batch_size: int, workers: int) -> DataLoaders:
    """Make DataLoaders of the images of the index."""
    from langid_fastai.clips.export import read_clips
    from langid_fastai.corpus.index import read_index
    from langid_fastai.learner import make_dataloaders

    clips = read_clips(folder / "images", read_index(folder / "index.csv"))
    return make_dataloaders(
        folder / "images", clips=clips, batch_size=batch_size, workers=workers, device="cpu"
    )


def peak(process: int | None = None) -> int:
    """Return the peak resident memory of a process, by default this one, in bytes."""
    # Not `ru_maxrss`, which a process inherits from its parent.
    return sum_of(f"/proc/{process or 'self'}/status", "VmHWM")


def private(process: int) -> int:
    """Return the private memory of a process, in bytes."""
    return sum_of(f"/proc/{process}/smaps_rollup", "Private_")


def sum_of(table: str, name: str) -> int:
    """Return the sum, in bytes, of the lines of a /proc table in kB that begin with a name."""
    lines = Path(table).read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(name))


def children() -> list[int]:
    """Return the ids of the child processes."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(process) for found in lists for process in found.read_text().split()]


if __name__ == "__main__":
    main()
