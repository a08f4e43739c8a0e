"""Export a split corpus to a folder of spectrogram images, or of audio clips, one file per clip.

::

    images/mel.json                               the MelConfig of all images
    images/images.csv                             recording and offset of each image
    images/failed.csv                             path, offset, reason: clips without an image
    images/augment.json                           settings of the augmented variants, if any
    images/train/de/<recording>@<offset>.png      .wav if its kind is ``waveform``
    images/train/de/<recording>@<offset>~pitch1.png

An export can be killed at any time and resumed. Each image is written atomically, each finished
recording is recorded at once in ``images.csv``, and the next export only makes images that are
missing, failed, or have a changed source file (by size and modification time). Images are removed
if their recording is no longer in the index, or is in another split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from langid_fastai.audio.files import stream_audio
from langid_fastai.augmentation.plan import (
    PLAN,
    VariantPlan,
    note_plan,
    refuse_other_plan,
    refuse_useless,
)
from langid_fastai.clips.encoding import SUFFIXES, encode_clip, read_clip_image
from langid_fastai.clips.manifest import csv_lines, image_stems, read_journal, write_table
from langid_fastai.corpus.index import SPLITS, Corpus, used_rows
from langid_fastai.errors import AudioError, CorpusError, RunError
from langid_fastai.preprocessing import MelConfig, clips_of, fit_clip
from langid_fastai.utils.cluster import on_cluster
from langid_fastai.utils.files import UNFINISHED, file_stamp, write_whole
from langid_fastai.utils.folder_lock import taken
from langid_fastai.utils.parallel import in_processes
from langid_fastai.utils.progress import track
from langid_fastai.utils.settings_note import refuse_differences
from langid_fastai.utils.task_limits import TaskFailure, alive
from langid_fastai.utils.text import list_some

__all__ = [
    "SUFFIXES",
    "ExportResult",
    "Place",
    "Recording",
    "encode_clip",
    "export_images",
    "export_recording",
    "failure",
    "image_stems",
    "read_clips",
    "read_clip_image",
]

NOTE = "mel.json"

# Suffix of the name of an image, after its offset, if the clip was augmented.
MADE_VARIANT = re.compile(r"@[\d.]+~(\w+)\.\w+$")
# A name that leads out of the folder; a run folder may be untrusted.
OUTSIDE = re.compile(r"^(?:/|\\|[A-Za-z]:)|(?:^|[/\\])\.\.(?:[/\\]|$)")


class Recording(NamedTuple):
    """A recording to make images of; its path is relative to the corpus root."""

    path: str
    stem: str  # first part of the names of its images, see `image_stems`
    augment: VariantPlan | None


@dataclass(frozen=True)
class Place:
    """Access to recordings and images in local folders.

    Parameters
    ----------
    root : folder of the recordings
    folder : folder of the images
    """

    root: Path
    folder: Path

    def stamps(self, paths: list[str]) -> dict[str, tuple[int, int]]:
        """Return the size and modification time of each recording, to detect changes."""
        return {path: file_stamp(self.root / path) for path in paths}

    def list_images(self) -> set[str]:
        """Return the paths of existing images and of partial files left by a killed export."""
        return {path.relative_to(self.folder).as_posix() for path in _image_files(self.folder)}

    def remove(self, images: set[str]) -> None:
        """Remove images."""
        for image in images:
            # Workers of an export that was just killed may still rename or remove their files.
            (self.folder / image).unlink(missing_ok=True)

    def make_folders(self, names: set[str]) -> None:
        """Make folders for images."""
        for name in names:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def work(self, config: MelConfig) -> Callable[[Recording], list[dict[str, object]]]:
        """Return the function that exports a recording and returns rows of ``images.csv``."""
        root, folder = self.root.absolute(), self.folder.absolute()
        return partial(export_recording, root=root, folder=folder, config=config)


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Parameters
    ----------
    clips : one row per image: `image` (relative to the folder), `path`, `offset` (s)
    failed : one row per failure: `path`, `offset` (s), `reason`
    n_made, n_kept : number of recordings exported now, and of those exported before
    noun : name of the files in messages: "images" or "clips" (of audio)
    """

    clips: pd.DataFrame
    failed: pd.DataFrame
    n_made: int
    n_kept: int
    noun: str = "images"

    @property
    def n_variants(self) -> int:
        """Number of images of augmented variants."""
        return int(_made_variants(self.clips).ne("").sum())


def export_images(
    corpus: Corpus,
    folder: str | Path,
    config: MelConfig = MelConfig(),
    *,
    augment: VariantPlan | None = None,
    n_jobs: int = -1,
    dask: str | None = None,
    place: Place | None = None,
) -> ExportResult:
    """Export the images of a split corpus that do not exist yet.

    Parameters
    ----------
    corpus : corpus with splits; its augmented variants are only exported for training
    folder : folder of the images, created if needed; it must be empty, or contain images of the
        same `config` and `augment`
    config : settings of the images
    augment : augmented variants to make of each training clip, in addition to the clip itself;
        recordings that are already variants get none
    n_jobs : number of processes; -1 for all cores
    dask : address of the scheduler of a Dask cluster to use instead of local processes; recordings
        and `folder` must have the same paths on its machines. See `on_cluster`
    place : access to recordings and images, by default in the corpus root and `folder`; if they are
        elsewhere, `folder` contains only the tables. See `langid_fastai.clips.remote`

    Returns
    -------
    result : its tables are also written to `folder` as ``images.csv`` and ``failed.csv``

    Raises
    ------
    CorpusError : a recording has no split yet
    RunError : `folder` has other content or settings, or is in use; or `augment` would not change
        the clips
    AudioError : an augmentation is not possible at `config.sr`
    """
    folder, index = Path(folder), used_rows(corpus.index)
    unsplit = index.loc[~index["split"].isin(SPLITS), "path"]
    if len(unsplit):
        raise CorpusError(
            f"{list_some(list(unsplit))}: split must be one of {SPLITS}; split the corpus"
        )
    refuse_useless(augment, config.kind, config.sr)
    with taken(folder, NOTE, RunError, before=PLAN) as is_ours:
        _claim(folder, config, augment, is_ours)
        place = place or Place(corpus.root, folder)
        return _export(place, index, folder, config, augment, n_jobs, dask)


def _export(
    place: Place,
    index: pd.DataFrame,
    folder: Path,
    config: MelConfig,
    augment: VariantPlan | None,
    n_jobs: int,
    dask: str | None,
) -> ExportResult:
    """Make the missing images, in a locked folder."""
    stems = dict(zip(index["path"], image_stems(index), strict=True))
    stamps = place.stamps(list(index["path"]))
    there = place.list_images()
    journal = _kept(folder, there, stems, stamps)
    place.remove(there - set(journal["image"]))
    kept = set(journal["path"])
    todo = [path for path in index["path"] if path not in kept]
    trained = (index["split"] == "train") & (index["variant"] == "")
    varied = set(index.loc[trained, "path"]) if augment else set()
    place.make_folders({str(PurePosixPath(stems[path]).parent) for path in todo})
    write_table(journal, folder / "images.csv")
    tasks = (Recording(path, stems[path], augment if path in varied else None) for path in todo)
    work = place.work(config)
    results = on_cluster(work, tasks, dask) if dask else in_processes(work, tasks, n_jobs=n_jobs)
    noun = "clips" if config.kind == "waveform" else "images"
    with (folder / "images.csv").open("a", encoding="utf-8", newline="") as stream:
        for recording, made in track(results, total=len(todo), what=noun):
            rows = [failure(recording, made.reason)] if isinstance(made, TaskFailure) else made
            size, mtime_ns = stamps[recording.path]
            noted = {"n_rows": len(rows), "size": size, "mtime_ns": mtime_ns}
            stream.write(csv_lines([row | noted for row in rows]))
            stream.flush()
    journal = read_journal(folder).sort_values(["path", "offset"], ignore_index=True)
    place.remove(place.list_images() - set(journal["image"]))  # of crashed tasks
    write_table(journal, folder / "images.csv")
    failed = journal.loc[journal["reason"] != "", ["path", "offset", "reason"]]
    write_table(failed, folder / "failed.csv")
    clips = journal.loc[journal["image"] != "", ["image", "path", "offset"]]
    clips, failed = clips.reset_index(drop=True), failed.reset_index(drop=True)
    return ExportResult(clips, failed, len(todo), len(kept), noun)


def read_clips(folder: str | Path, index: pd.DataFrame, split: str | None = None) -> pd.DataFrame:
    """Read the table of images of one split, with the index columns of their recordings.

    Parameters
    ----------
    folder : folder made by `export_images`
    index : the clip index
    split : name of the split; None for all splits

    Returns
    -------
    clips : one row per image: `image` (relative to `folder`), `offset`, and the index columns;
        `variant` also names the augmentation made by the export (training clips only)

    Raises
    ------
    RunError : the path of an image leads out of the folder
    """
    journal = read_journal(Path(folder))
    clips = journal.loc[journal["image"] != "", ["image", "path", "offset"]]
    outside = clips.loc[clips["image"].str.contains(OUTSIDE), "image"]
    if len(outside):
        raise RunError(f"{folder}: {outside.iloc[0]!r} is outside it; regenerate the images")
    # Before merging, since images shared by several folds include variants from all splits.
    rows = used_rows(index)
    rows = rows if split is None else rows[rows["split"] == split]
    clips = clips.merge(rows, on="path", validate="many_to_one")
    made = _made_variants(clips)
    clips["variant"] = clips["variant"].where(made == "", made)
    return clips[(made == "") | (clips["split"] == "train")].reset_index(drop=True)


def _made_variants(clips: pd.DataFrame) -> pd.Series:
    """Return, for each clip, the name of the augmentation made by the export; empty if none."""
    return clips["image"].str.extract(MADE_VARIANT, expand=False).fillna("")


def export_recording(
    recording: Recording, *, root: Path, folder: Path, config: MelConfig
) -> list[dict[str, object]]:
    """Write the images of one recording; return a row for each image or failure."""
    _keep_memory()
    path, stem, _ = recording
    rows: list[dict[str, object]] = []
    try:
        blocks = stream_audio(root / path, sr=config.sr, channel=config.channel)
        for offset, y in clips_of(alive(blocks), config):
            row = {"path": path, "offset": round(offset, 6), "reason": ""}  # decimals kept in CSV
            for variant, changed in _versions(y, offset, recording, config):
                image = f"{stem}@{offset:.2f}{variant}{SUFFIXES[config.kind]}"
                try:
                    write_whole(encode_clip(changed, config), folder / image)
                    rows.append(row | {"image": image})
                except AudioError as error:  # a silent clip; continue with the next
                    reason = f"{variant[1:]}: {error}".removeprefix(": ")
                    rows.append(row | {"image": "", "reason": reason})
                    if not variant:  # nothing to augment
                        break
    except AudioError as error:
        for row in rows:
            if row["image"]:
                (folder / str(row["image"])).unlink(missing_ok=True)
        return [failure(recording, str(error).removeprefix(f"{root / path}: "))]
    return rows


def failure(recording: Recording, reason: str) -> dict[str, object]:
    """Return the row of ``images.csv`` for a recording without images."""
    return {"path": recording.path, "offset": 0.0, "image": "", "reason": reason}


def _versions(
    y: np.ndarray, offset: float, recording: Recording, config: MelConfig
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a clip and its augmented variants, each with a suffix for the name of its image."""
    yield "", y
    key, plan = f"{recording.path}@{offset:.6f}", recording.augment
    for name, changed in plan.variants(y, config.sr, key) if plan else ():
        yield f"~{name}", fit_clip(changed, config.n_samples)


@lru_cache(maxsize=1)
def _keep_memory() -> None:
    """Make this process reuse the memory of one clip for the next, which saves a sixth of the time.

    By default, glibc returns the memory of a large array to the system, which clears each page
    before it is used again. Once an array has been freed, glibc keeps memory blocks up to its size
    (mallopt(3), M_MMAP_THRESHOLD: up to 32 MiB). The array here is never written to, so it needs no
    memory itself.
    """
    np.empty(30 * 2**20, dtype=np.uint8)


def _claim(folder: Path, config: MelConfig, augment: VariantPlan | None, is_ours: bool) -> None:
    """Record the settings of the folder, or check that they match."""
    if not is_ours:
        note_plan(folder, augment)
        config.write(folder / NOTE)
        return
    there, requested = asdict(MelConfig.read(folder / NOTE)), asdict(config)
    refuse_differences(there, requested, RunError, f"{folder} contains images of another MelConfig")
    refuse_other_plan(folder, augment)


def _kept(
    folder: Path, there: set[str], stems: dict[str, str], stamps: dict[str, tuple[int, int]]
) -> pd.DataFrame:
    """Return the journal rows of unchanged recordings that have all their images."""
    journal = read_journal(folder)
    # Unreadable recordings are tried again: the modification time of a locked file does not change.
    readable = journal["path"].isin(journal.loc[journal["image"] != "", "path"])
    n_noted = journal["path"].map(journal["path"].value_counts())
    stamp = pd.Series(list(zip(journal["size"], journal["mtime_ns"], strict=True)), dtype=object)
    stem = journal["image"].str.rsplit("@", n=1).str[0]
    good = (
        readable
        & (n_noted == journal["n_rows"])
        & (stamp == journal["path"].map(stamps))
        & ((journal["image"] == "") | journal["image"].isin(there))
        & ((journal["image"] == "") | (stem == journal["path"].map(stems)))
    )
    bad_paths = set(journal.loc[~good, "path"])
    return journal[~journal["path"].isin(bad_paths)]


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield images below the folder, and partial files left by a killed export."""
    yield from folder.glob(f"*{UNFINISHED}")
    for split, suffix in product(SPLITS, set(SUFFIXES.values())):
        yield from (folder / split).glob(f"*/*{suffix}")
        yield from (folder / split).glob(f"*/*{suffix}.*{UNFINISHED}")
