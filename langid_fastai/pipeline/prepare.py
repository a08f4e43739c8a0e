"""Make the images of a run from a corpus: read, measure, split, audit, export.

::

    run = Run(Path("runs/demo"))
    corpus = read_and_split(run, CorpusSettings("demo"))       run.json, index.csv
    make_images(run, corpus)                                 images/

Each step reads the output of the previous one from the run folder, and does only what is missing.
Training is in `langid_fastai.pipeline.train`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from langid_fastai.augmentation.plan import VariantPlan
from langid_fastai.clips.export import ExportResult, export_images, read_clips
from langid_fastai.clips.remote import SharedPlace, claim, publish
from langid_fastai.corpus.index import (
    SPLITS,
    Corpus,
    index_hash,
    read_index,
    used_rows,
    validate_index,
    write_index,
)
from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.index_csv import read_index_csv
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import (
    audit_split,
    confounded_rates,
    contradicting_labels,
    split_corpus,
)
from langid_fastai.corpus.store import Store
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import CorpusSettings
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.files import is_there, is_url
from langid_fastai.utils.parallel import validate_jobs
from langid_fastai.utils.text import count, list_some

__all__ = ["find_corpus", "audit", "find_prepared", "read_and_split", "read_images", "make_images"]


def find_corpus(
    settings: CorpusSettings, *, demo_folder: Path = Path("runs/demo-corpus")
) -> Corpus:
    """Read, measure and split a corpus, without writing an index.

    Parameters
    ----------
    demo_folder : output folder of the corpus ``demo``

    Raises
    ------
    CorpusError : see `read_corpus`, `split_corpus`
    """
    settings = settings.resolved()
    if settings.root and is_url(str(settings.root)):
        corpus = _shared_corpus(Path(settings.source), str(settings.root), settings.label)
    else:
        corpus = measure_audio(
            read_corpus(
                settings.source,
                root=settings.root or None,
                speaker=settings.speaker,
                demo_folder=demo_folder,
                label=settings.label,
            )
        )
    corpus = split_corpus(
        corpus,
        valid=settings.valid,
        test=settings.test,
        seed=settings.seed,
        allow_leaks=settings.allow_leaks,
        hold_out=settings.hold_out or (),
    )
    warnings = (
        confounded_rates(corpus.index, label=settings.label),
        contradicting_labels(corpus.index, label=settings.label),
    )
    return corpus.with_index(corpus.index, *(f"WARNING: {w}" for w in warnings if w))


def _shared_corpus(table: Path, url: str, label: str) -> Corpus:
    """Read an index CSV of recordings at a URL; their durations are taken from the CSV."""
    if table.suffix.lower() not in (".csv", ".tsv") or not is_there(table):
        raise CorpusError(f"{table}: --recordings needs an index CSV on this machine")
    there = Store(url).list()
    corpus = read_index_csv(table, there=there, label=label)
    validate_index(corpus.index, source=table, label=label)
    index = corpus.index
    if not {"duration", "sr"} <= set(index.columns):
        raise CorpusError(
            f"{table}: recordings at a URL are not opened here, so the index needs the "
            "columns 'duration' (s) and 'sr' (Hz), which `langid corpus split` writes"
        )
    index["sr"] = index["sr"].astype(float).where(index["path"].isin(there.keys()))
    index["duration"] = index["duration"].astype(float)
    # If the store reports hashes, files of equal size and hash are copies of each other.
    known = index["path"].map(
        lambda path: (
            f"{there[path]['size']} {there[path].get('ETag', path)}" if path in there else path
        )
    )
    digest = known.where(known.duplicated(keep=False), "")
    return corpus.with_index(index.assign(digest=digest), f"recordings at {url}")


def audit(settings: CorpusSettings) -> tuple[Corpus, pd.DataFrame]:
    """Split a corpus as for training, or read the split of a run folder, and look for leaks.

    Returns
    -------
    corpus : the split corpus
    leaks : table of leaks, see `audit_split`
    """
    if (Path(settings.source) / "run.json").exists():
        corpus = Run(Path(settings.source)).corpus()
    else:
        corpus = find_corpus(settings)
    return corpus, audit_split(corpus)


def read_and_split(run: Run, settings: CorpusSettings, *, others: Sequence[Run] = ()) -> Corpus:
    """Read, measure, split and audit a corpus, and store its index in the run folder.

    Parameters
    ----------
    others : other runs in which the same index is stored

    Raises
    ------
    CorpusError : the corpus cannot be used for training, or its split leaks and `allow_leaks` is
        off
    RunError : a run folder has other settings, or the corpus has changed since training began
    """
    settings = settings.resolved()
    runs = (run, *others)
    for each in runs:
        each.check("corpus", asdict(settings))
    corpus = find_corpus(settings, demo_folder=run.folder.parent / "demo-corpus")
    leaks = audit_split(corpus)
    if len(leaks) and not settings.allow_leaks:
        first = leaks.iloc[0]
        raise CorpusError(
            f"{settings.source}: {count(len(leaks), 'leak')} between its splits, such as "
            f"{first['kind']} {first['name']!r} in {first['sides']} ({first['example']}). List "
            "them with `langid corpus audit`, and fix the corpus; or continue with --allow-leaks, "
            "and the report will say that the results are too optimistic"
        )
    for each in runs:
        _store(each, settings, corpus, len(leaks))
    return corpus


def _store(run: Run, settings: CorpusSettings, corpus: Corpus, n_leaks: int) -> None:
    """Store a split corpus in a run folder; refuse if training began with another one."""
    began = run.checkpoints.exists() and run.index.exists()
    if began and index_hash(read_index(run.index)) != index_hash(corpus.index):
        raise RunError(
            f"{run.folder}: the corpus has changed since training began, so its checkpoint may "
            "have been trained on recordings that are now tested; choose another --out"
        )
    run.note("corpus", asdict(settings))
    root = settings.root if settings.root and is_url(str(settings.root)) else corpus.root.resolve()
    found = {"root": str(root), "layout": corpus.layout, "notes": corpus.notes}
    run.note("corpus_found", found | {"leaks": n_leaks})
    write_index(corpus.index, run.index)


def find_prepared(source: str, out: Path | None) -> Run | None:
    """Return the run if `source` is a prepared run folder, otherwise None.

    Raises
    ------
    RunError : `out` is another folder
    """
    run = Run(Path(source))
    notes = (run.folder / "run.json", run.images / "images.csv")
    if not all(is_there(note) for note in notes):
        return None
    if out is not None and out.resolve() != run.folder.resolve():
        raise RunError(
            f"{source} is a prepared run and is trained in its own folder; leave out --out"
        )
    return run


def read_images(run: Run) -> ExportResult:
    """Read the export result of a prepared run, which may have been made on another machine.

    Raises
    ------
    RunError : an image is missing on this machine
    """
    clips = read_clips(run.images, run.corpus().index)
    missing = [image for image in clips["image"] if not (run.images / image).exists()]
    if missing:
        raise RunError(f"{list_some(missing, 3)}: not in {run.images}; fetch the run again")
    failed = pd.read_csv(run.images / "failed.csv", keep_default_na=False)
    return ExportResult(clips[["image", "path", "offset"]], failed, 0, clips["path"].nunique())


def make_images(
    run: Run,
    corpus: Corpus,
    config: MelConfig = MelConfig(),
    *,
    augment: VariantPlan | None = None,
    n_jobs: int = -1,
    dask: str | None = None,
    share: str | None = None,
    others: Sequence[Run] = (),
) -> ExportResult:
    """Make those images of a run that do not exist yet.

    Parameters
    ----------
    augment, dask : see `export_images`
    share : URL that the images are written to, with copies of the run's tables; required if the
        recordings are at a URL
    others : other runs that share these images

    Raises
    ------
    CorpusError : no recording of a language could be read in one of its splits
    RunError : `n_jobs` is 0, or the folder contains images of another `MelConfig` or plan
    """
    validate_jobs(n_jobs)
    recordings = run.read().get("corpus", {}).get("root")
    if (share is not None) != (recordings is not None and is_url(recordings)):
        raise RunError("--recordings and --share must be given together")
    place = None
    if share is not None:
        claim(run.folder, share)
        publish(run.folder, share)
        place = SharedPlace(corpus.root, run.images, recordings, f"{share}/images")
    exported = export_images(
        corpus, run.images, config, augment=augment, n_jobs=n_jobs, dask=dask, place=place
    )
    found = {
        "n": len(exported.clips),
        "n_failed": len(exported.failed),
        "recordings_made": exported.n_made,
        "recordings_kept": exported.n_kept,
        "augment": None if augment is None else augment.to_json(),
    }
    for each in (run, *others):
        each.note("images", found)
    if share is not None:
        publish(run.folder, share)
    index = used_rows(corpus.index)
    readable = index[index["path"].isin(exported.clips["path"])]
    for split in SPLITS:
        wanted = set(index.loc[index["split"] == split, "language"])
        lost = wanted - set(readable.loc[readable["split"] == split, "language"])
        if lost:
            raise CorpusError(
                f"{split}: no recording of {', '.join(sorted(lost))} could be read; the reasons "
                f"are in {run.images / 'failed.csv'}"
            )
    return exported
