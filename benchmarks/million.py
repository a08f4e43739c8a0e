"""Measure time and memory of the scheduling process for an index of VoxLingua107's size.

    nice -n 19 python benchmarks/million.py [N]

The index has 2.5 million made-up names in 107 languages. There are no files: reading audio and
writing images are replaced by a `Place` that answers at once, so only the bookkeeping of one
process is measured. Times are processor times, which other work on the machine hardly affects;
memory is the peak of the process so far. The benchmark fails if it needs more than `LIMIT` bytes.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar

from common import print_table
from made import voxlingua_names

from langid_fastai.clips.export import Place, Recording, export_images, read_clips
from langid_fastai.corpus.index import index_hash, read_index, validate_index, write_index
from langid_fastai.corpus.measure import summarize_corpus
from langid_fastai.corpus.readers.find import Found
from langid_fastai.corpus.readers.voxlingua107 import read_voxlingua107
from langid_fastai.corpus.split import audit_split, split_corpus
from langid_fastai.preprocessing import MelConfig

N = 2_500_000
LIMIT = 10 * 2**30  # bytes

Result = TypeVar("Result")


class Answers(Place):
    """A place where all files exist, and where images are only recorded as made."""

    made: ClassVar[set[str]] = set()

    def stamps(self, paths: list[str]) -> dict[str, tuple[int, int]]:
        """Return the same stamp for all files."""
        return dict.fromkeys(paths, (304_044, 1))

    def pictures(self) -> set[str]:
        """Return the names of the images made so far."""
        return set(self.made)

    def make_folders(self, names: set[str]) -> None:
        """Do nothing."""

    def work(self, config: MelConfig) -> Callable[[Recording], list[dict[str, object]]]:
        """Return a function that records an image as made."""

        def make(recording: Recording) -> list[dict[str, object]]:
            image = f"{recording.stem}@0.00.png"
            self.made.add(image)
            return [{"path": recording.path, "offset": 0.0, "image": image, "reason": ""}]

        return make


def main(n: int) -> None:
    """Measure and print the table."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    rows: list[tuple[str, str, str]] = []

    def timed(what: str, run: Callable[[], Result]) -> Result:
        began = time.process_time()
        found = run()
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append((what, f"{seconds:.1f}", f"{peak:.1f}"))
        print(rows[-1], file=sys.stderr, flush=True)
        return found

    with tempfile.TemporaryDirectory() as folder:
        table, images = Path(folder, "index.csv"), Path(folder, "images")
        found = Found(Path(folder), voxlingua_names(n))
        corpus = timed("names → index", lambda: read_voxlingua107(found))
        corpus = corpus.with_index(corpus.index.assign(duration=9.5, sr=16_000.0, digest=""))
        timed("write the index", lambda: write_index(corpus.index, table))
        corpus = corpus.with_index(timed("read it", lambda: read_index(table)))
        timed("check it", lambda: validate_index(corpus.index))
        corpus = timed("split it, all sides made", lambda: split_corpus(corpus))
        leaks = timed("audit", lambda: audit_split(corpus))
        timed("summary", lambda: summarize_corpus(corpus))
        timed("hash", lambda: index_hash(corpus.index))
        place = Answers(corpus.root, images)

        def export() -> int:
            return export_images(corpus, images, MelConfig(), n_jobs=1, place=place).n_made

        n_made = timed("export, bookkeeping alone", export)
        n_again = timed("export, all there already", export)
        clips = timed("read which clips there are", lambda: read_clips(images, corpus.index))
        size = table.stat().st_size / 1e6
    print(f"{n:,} rows, index.csv of {size:.0f} MB; {len(leaks)} leaks; ", end="")
    print(f"{n_made:,} recordings exported, then {n_again}; {len(clips):,} clips\n")
    print_table(("step", "processor seconds", "most memory so far, GiB"), rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else N)
