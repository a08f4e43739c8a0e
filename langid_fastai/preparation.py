"""From a corpus to the images of a run: read, measure, split, audit, export.

::

    run = Run(Path("runs/demo"))
    corpus = read_and_split(run, CorpusChoice("demo"))       run.json, index.csv
    make_images(run, corpus)                                 images/

Each step finds what the one before left in the run folder, and does only what is missing. What
follows is in `langid_fastai.steps`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from langid_fastai.corpus.index import (
    SPLITS,
    Corpus,
    index_hash,
    measure_audio,
    read_index,
    used_rows,
    write_index,
)
from langid_fastai.corpus.read import read_corpus
from langid_fastai.corpus.split import audit_split, confounded_rates, split_corpus
from langid_fastai.errors import CorpusError, RunError
from langid_fastai.images import ExportResult, export_images
from langid_fastai.preprocessing import MelConfig
from langid_fastai.run import CorpusChoice, Run
from langid_fastai.variant_plan import VariantPlan

__all__ = ["find_corpus", "audit", "read_and_split", "make_images"]


def find_corpus(choice: CorpusChoice, *, demo_folder: Path = Path("runs/demo-corpus")) -> Corpus:
    """Read, measure and split a corpus, in memory.

    Parameters
    ----------
    demo_folder : where the corpus ``demo`` is made

    Raises
    ------
    CorpusError : see `read_corpus`, `split_corpus`
    """
    corpus = read_corpus(
        choice.source,
        root=Path(choice.root) if choice.root else None,
        speaker=choice.speaker,
        demo_folder=demo_folder,
    )
    corpus = split_corpus(
        measure_audio(corpus),
        valid=choice.valid,
        test=choice.test,
        seed=choice.seed,
        allow_leaks=choice.allow_leaks,
        hold_out=choice.hold_out,
    )
    warning = confounded_rates(corpus.index)
    return corpus.with_index(corpus.index, *([f"WARNING: {warning}"] if warning else []))


def audit(choice: CorpusChoice) -> tuple[Corpus, pd.DataFrame]:
    """Split a corpus as training would, or take that of a run folder, and look for leaks.

    Returns
    -------
    corpus, leaks : see `audit_split`
    """
    if (Path(choice.source) / "run.json").exists():
        corpus = Run(Path(choice.source)).corpus()
    else:
        corpus = find_corpus(choice)
    return corpus, audit_split(corpus)


def read_and_split(run: Run, choice: CorpusChoice) -> Corpus:
    """Read, measure and split a corpus, and store its index in the run folder.

    Raises
    ------
    CorpusError : the corpus cannot be learned from, or its split leaks and `allow_leaks` is off
    RunError : the folder belongs to another run, or the corpus has changed since training began
    """
    run.check("corpus", asdict(choice))
    corpus = find_corpus(choice, demo_folder=run.folder.parent / "demo-corpus")
    leaks = audit_split(corpus)
    if len(leaks) and not choice.allow_leaks:
        first = leaks.iloc[0]
        raise CorpusError(
            f"{choice.source}: {len(leaks)} leaks between the sides of its split, as "
            f"{first['kind']} {first['name']!r} in {first['sides']} ({first['example']}). See all "
            "with `langid corpus audit`, mend the corpus, or go on with --allow-leaks: "
            "the figures will overstate, and say so"
        )
    began = run.checkpoints.exists() and run.index.exists()
    if began and index_hash(read_index(run.index)) != index_hash(corpus.index):
        raise RunError(
            f"{run.folder}: the corpus has changed since training began; a checkpoint would "
            "have heard what is now tested. Choose another --out"
        )
    run.note("corpus", asdict(choice))
    found = {"root": str(corpus.root.resolve()), "layout": corpus.layout, "notes": corpus.notes}
    run.note("corpus_found", found | {"leaks": len(leaks)})
    write_index(corpus.index, run.index)
    return corpus


def make_images(
    run: Run,
    corpus: Corpus,
    config: MelConfig = MelConfig(),
    *,
    augment: VariantPlan | None = None,
    n_jobs: int = -1,
    dask: str | None = None,
) -> ExportResult:
    """Make the images of a run, or those that are missing.

    Parameters
    ----------
    augment, dask : see `export_images`

    Raises
    ------
    CorpusError : a language has no readable recording left on a side
    RunError : no process to work with, or the folder holds images of another `MelConfig` or plan
    """
    if n_jobs == 0:
        raise RunError("jobs=0 must be a number of processes, or -1 for all cores")
    exported = export_images(corpus, run.images, config, augment=augment, n_jobs=n_jobs, dask=dask)
    run.note(
        "images",
        {
            "n": len(exported.clips),
            "n_failed": len(exported.failed),
            "recordings_made": exported.n_made,
            "recordings_kept": exported.n_kept,
            "augment": None if augment is None else augment.to_json(),
        },
    )
    index = used_rows(corpus.index)
    readable = index[index["path"].isin(exported.clips["path"])]
    for side in SPLITS:
        wanted = set(index.loc[index["split"] == side, "language"])
        lost = wanted - set(readable.loc[readable["split"] == side, "language"])
        if lost:
            raise CorpusError(
                f"no recording of {', '.join(sorted(lost))} could be read for {side}; the reasons "
                f"stand in {run.images / 'failed.csv'}"
            )
    return exported
