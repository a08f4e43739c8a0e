"""Augmented variants of the training recordings, as files beside them.

::

    augmented/augment.json                     the plan of all variants
    augmented/index.csv                        all recordings, and the variants
    augmented/failed.csv                       path, reason: of what no variant could be made
    augmented/de/anna/1.flac                   a recording: the same file as in the corpus
    augmented/de/anna/1.white_noise1.flac      a variant of it

A variant bears the language, speaker, group and side of its recording, and in the column
`recording` what it was made from, so that a later split keeps both together. Only recordings of the
training side have variants; and only training would use others (`used_rows`).

Variants are mono FLAC of 16 bits at the recording's own rate; what would go beyond full scale is
made quieter as a whole. A recording is changed whole, in memory: a time mask covers a share of all
of it, so cut long recordings first (`langid corpus cut`).

The work can be killed at any time and started again: each file appears whole or not at all, and
what is there of an unchanged recording stays.

Images are augmented without such a folder, clip by clip, by `export_images` with a plan.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from langid_fastai.audio.files import load_audio, native_format, write_sound
from langid_fastai.augmentation.plan import PLAN, VariantPlan, note_plan, refuse_other_plan
from langid_fastai.augmentation.waveform import require_extra
from langid_fastai.corpus.index import SPLITS, Corpus, list_some, write_index
from langid_fastai.errors import AudioError, CorpusError, RunError
from langid_fastai.utils.files import FULL, replacing, sweep, taken
from langid_fastai.utils.parallel import Died, alive, in_processes, validate_jobs
from langid_fastai.utils.progress import track

__all__ = ["VariantResult", "write_variants"]

# What `measure_audio` finds anew, of the variants too.
MEASURED = ["duration", "sr", "digest"]


@dataclass(frozen=True)
class VariantResult:
    """What `write_variants` made.

    Parameters
    ----------
    corpus : recordings and variants, its root the new folder
    failed : one row a recording whose variants could not be made: `path`, `reason`
    n_made, n_kept : variants made now, and those that were there already
    """

    corpus: Corpus
    failed: pd.DataFrame
    n_made: int
    n_kept: int


def write_variants(
    corpus: Corpus, folder: str | Path, plan: VariantPlan, *, n_jobs: int = -1
) -> VariantResult:
    """Write augmented variants of the training recordings, beside the recordings themselves.

    Parameters
    ----------
    corpus : split
    folder : made if need be; the recordings appear in it as hard links, or as copies where the disk
        has none
    plan : which variants
    n_jobs : processes; -1 for all cores

    Returns
    -------
    result : its corpus also lies in `folder` as ``index.csv``

    Raises
    ------
    CorpusError : a recording has no side yet
    RunError : `folder` lies in the corpus, or holds something else, or variants of another plan;
        no process to work with; the extra `augment` is not installed

    Examples
    --------
    ::

        plan = VariantPlan(parse_augmentations("white_noise,pitch"), copies=2)
        corpus = write_variants(split_corpus(read_corpus("mine")), "augmented", plan).corpus
    """
    folder, index = Path(folder), corpus.index
    unsplit = index.loc[~index["split"].isin(SPLITS), "path"]
    if len(unsplit):
        raise CorpusError(
            f"{list_some(list(unsplit))}: split must be one of {SPLITS}; split the corpus"
        )
    if folder.resolve().is_relative_to(corpus.root.resolve()):
        raise RunError(
            f"{folder} lies in the corpus {corpus.root}, which would then hold the variants too; "
            "choose another --out"
        )
    validate_jobs(n_jobs)
    require_extra()
    with taken(folder, PLAN, RunError) as is_ours:
        if is_ours:
            refuse_other_plan(folder, plan)
        else:
            note_plan(folder, plan)
        return _write(corpus, folder, plan, n_jobs)


def _write(corpus: Corpus, folder: Path, plan: VariantPlan, n_jobs: int) -> VariantResult:
    """Make what is missing, in a folder that is ours alone."""
    index = corpus.index
    base = _with_recordings(index.drop(columns=[name for name in MEASURED if name in index]))
    sources = base[(base["split"] == "train") & (base["variant"] == "")]
    files = _variant_files(base, sources["path"], plan)
    for parent in {(folder / path).parent for path in base["path"]}:
        sweep(parent)
    work = partial(_write_recording, corpus.root.absolute(), folder.absolute(), plan)
    tasks = [(path, files.get(path, {})) for path in base["path"]]
    results = in_processes(work, tasks, n_jobs=n_jobs)
    n_made, reasons = 0, {}
    for (path, _), made in track(results, total=len(base), what="variants"):
        n, reason = (0, made.reason) if isinstance(made, Died) else made
        n_made += n
        if reason:
            reasons[path] = reason
    failed = pd.DataFrame(
        [(path, reasons[path]) for path in base["path"] if path in reasons],
        columns=["path", "reason"],
    )
    write_index(failed, folder / "failed.csv")
    made_of = sources[~sources["path"].isin(failed["path"])]
    index = pd.concat([base, _variant_rows(made_of, files)]).sort_values("path", ignore_index=True)
    write_index(index, folder / "index.csv")
    n_kept = len(made_of) * len(plan.names) - n_made
    layout = f"{corpus.layout}, with augmented variants"
    return VariantResult(Corpus(folder, index, layout, corpus.notes), failed, n_made, n_kept)


def _with_recordings(index: pd.DataFrame) -> pd.DataFrame:
    """Say of each row what it is a version of: itself, where the corpus does not tell."""
    told = index["recording"] if "recording" in index else pd.Series("", index=index.index)
    return index.assign(recording=told.where(told != "", index["path"]))


def _variant_files(
    index: pd.DataFrame, paths: pd.Series, plan: VariantPlan
) -> dict[str, dict[str, str]]:
    """Where each variant of each recording lies, by path and name.

    Where two files of a folder differ in suffix alone, or a corpus has variants of such names, the
    whole file name of the recording stands in that of the variant.
    """
    taken = set(index["path"])
    short = paths.map(lambda path: PurePosixPath(path).with_suffix("").as_posix())
    clash = short.str.casefold().duplicated(keep=False)
    files = {}
    for path, stem, twice in zip(paths, short, clash, strict=True):
        targets = {name: f"{stem}.{name}.flac" for name in plan.names}
        if twice or taken & set(targets.values()):
            targets = {name: f"{path}.{name}.flac" for name in plan.names}
        files[path] = targets
    return files


def _variant_rows(sources: pd.DataFrame, files: dict[str, dict[str, str]]) -> pd.DataFrame:
    """The rows of the variants: as those of their recordings, but for path and variant."""
    parts = [
        row | {"path": target, "variant": name}
        for row in sources.to_dict("records")
        for name, target in files[row["path"]].items()
    ]
    return pd.DataFrame(parts, columns=sources.columns)


def _write_recording(
    root: Path, folder: Path, plan: VariantPlan, task: tuple[str, dict[str, str]]
) -> tuple[int, str]:
    """Put a recording and its variants in place: how many were made, and what failed."""
    path, targets = task
    source, link = root / path, folder / path
    try:
        if not _is_same(source, link):
            for target in targets.values():  # of the file as it was
                (folder / target).unlink(missing_ok=True)
            _link(source, link)
        if all((folder / target).exists() for target in targets.values()):
            return 0, ""
        sr, _ = native_format(source)
        y = load_audio(source, sr=sr)
        for name, changed in alive(plan.variants(y, sr, path)):
            _write_flac(changed, sr, folder / targets[name])
    except (AudioError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # not of this recording alone
            raise
        return 0, str(error).removeprefix(f"{source}: ")
    return len(targets), ""


def _is_same(source: Path, link: Path) -> bool:
    """Whether a file is there, of the size and time of change of its source."""
    if not link.exists():
        return False
    one, other = source.stat(), link.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _link(source: Path, link: Path) -> None:
    """Let a file appear in another place: linked, else copied."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with replacing(link) as unfinished:
        try:
            os.link(source.resolve(), unfinished)
        except OSError:  # another disk, or one without links
            shutil.copy2(source, unfinished)


def _write_flac(y: np.ndarray, sr: int, file: Path) -> None:
    y = y / max(1.0, float(np.abs(y).max()))
    write_sound(file, y, sr)
