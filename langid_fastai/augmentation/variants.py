"""Write augmented variants of training recordings, as files next to the recordings.

::

    augmented/augment.json                     the plan of all variants
    augmented/index.csv                        all recordings, and the variants
    augmented/failed.csv                       path, reason: recordings without variants
    augmented/de/anna/1.flac                   a recording: the same file as in the corpus
    augmented/de/anna/1.white_noise1.flac      a variant of it

A variant has the language, speaker, group and split of its recording; the column `recording` has
the path of the recording, so that a later split keeps both together. Only training recordings have
variants, since they are used only in training (`used_rows`).

Variants are mono 16-bit FLAC at the recording's sampling rate; those that exceed full scale are
attenuated as a whole. Whole recordings are processed in memory, and a time mask covers a fraction
of the whole duration, so cut long recordings first (`langid corpus cut`).

The work can be killed at any time and resumed: each file is written atomically, and existing files
of unchanged recordings are kept.

To augment clips without writing variants of recordings, use `export_images` with a plan.
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
from langid_fastai.corpus import MEASURED
from langid_fastai.corpus.groups import recordings_of
from langid_fastai.corpus.index import SPLITS, Corpus, write_index
from langid_fastai.errors import AudioError, CorpusError, RunError
from langid_fastai.utils.files import FULL, file_stamp, replacing
from langid_fastai.utils.folder_lock import sweep, taken
from langid_fastai.utils.parallel import in_processes, validate_jobs
from langid_fastai.utils.progress import track
from langid_fastai.utils.task_limits import TaskFailure, alive
from langid_fastai.utils.text import list_some

__all__ = ["VariantResult", "write_variants"]


@dataclass(frozen=True)
class VariantResult:
    """Result of `write_variants`.

    Parameters
    ----------
    corpus : recordings and variants, with the new folder as root
    failed : recordings without variants because of an error, columns `path` and `reason`
    n_made, n_kept : number of variants made by this call, and kept from earlier calls
    """

    corpus: Corpus
    failed: pd.DataFrame
    n_made: int
    n_kept: int


def write_variants(
    corpus: Corpus, folder: str | Path, plan: VariantPlan, *, n_jobs: int = -1
) -> VariantResult:
    """Write augmented variants of the training recordings, next to the recordings themselves.

    Parameters
    ----------
    corpus : corpus with a split
    folder : output folder, created if needed; recordings are hard-linked into it, or copied where
        the disk does not support links
    plan : plan of the variants
    n_jobs : number of processes; -1 for all cores

    Returns
    -------
    result : corpus, failures and counts; the corpus is also written to ``folder/index.csv``

    Raises
    ------
    CorpusError : a recording has no split yet
    RunError : `folder` is inside the corpus, or contains other files or variants of another
        plan; `n_jobs` is 0; the extra `augment` is not installed

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
            f"{folder} is inside the corpus {corpus.root}, which would then contain the variants; "
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
    """Make the missing variants; the folder is locked by the caller."""
    index = corpus.index
    base = index.drop(columns=[*MEASURED], errors="ignore")  # measured again, with the variants
    base = base.assign(recording=recordings_of(base))
    sources = base[(base["split"] == "train") & (base["variant"] == "")]
    files = _variant_files(base, sources["path"], plan)
    for parent in {(folder / path).parent for path in base["path"]}:
        sweep(parent)
    work = partial(_write_recording, corpus.root.absolute(), folder.absolute(), plan)
    tasks = [(path, files.get(path, {})) for path in base["path"]]
    results = in_processes(work, tasks, n_jobs=n_jobs)
    n_made, reasons = 0, {}
    for (path, _), made in track(results, total=len(base), what="variants"):
        n, reason = (0, made.reason) if isinstance(made, TaskFailure) else made
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


def _variant_files(
    index: pd.DataFrame, paths: pd.Series, plan: VariantPlan
) -> dict[str, dict[str, str]]:
    """Return the paths of variants: path of the recording → name of the variant → path.

    A variant is named after its recording, without the suffix. The suffix is kept if two names
    would be equal otherwise, or if the corpus has a file of that name.
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
    """Return the rows of variants: copies of the recordings' rows with new path and variant."""
    parts = [
        row | {"path": target, "variant": name}
        for row in sources.to_dict("records")
        for name, target in files[row["path"]].items()
    ]
    return pd.DataFrame(parts, columns=sources.columns)


def _write_recording(
    root: Path, folder: Path, plan: VariantPlan, task: tuple[str, dict[str, str]]
) -> tuple[int, str]:
    """Link a recording and write its variants; return their number and the reason for a failure."""
    path, targets = task
    source, link = root / path, folder / path
    try:
        if not link.exists() or file_stamp(source) != file_stamp(link):
            for target in targets.values():  # variants of the old file
                (folder / target).unlink(missing_ok=True)
            _link(source, link)
        if all((folder / target).exists() for target in targets.values()):
            return 0, ""
        sr, _ = native_format(source)
        y = load_audio(source, sr=sr)
        for name, changed in alive(plan.variants(y, sr, path)):
            _write_flac(changed, sr, folder / targets[name])
    except (AudioError, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # affects all recordings
            raise
        return 0, str(error).removeprefix(f"{source}: ")
    return len(targets), ""


def _link(source: Path, link: Path) -> None:
    """Hard-link a file, or copy it if that is not possible."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with replacing(link) as unfinished:
        try:
            os.link(source.resolve(), unfinished)
        except OSError:  # another disk, or one that does not support links
            shutil.copy2(source, unfinished)


def _write_flac(y: np.ndarray, sr: int, file: Path) -> None:
    y = y / max(1.0, float(np.abs(y).max()))
    write_sound(file, y, sr)
