"""Measure the recordings of a corpus, and count them."""

from __future__ import annotations

import contextlib
import math
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pandas as pd

from langid_fastai.audio.files import read_header
from langid_fastai.corpus.duplicates import digest_copies
from langid_fastai.corpus.groups import speakers_of
from langid_fastai.corpus.index import Corpus, used_rows
from langid_fastai.errors import AudioError
from langid_fastai.utils.progress import track

__all__ = ["measure_audio", "summarize_corpus"]


def measure_audio(corpus: Corpus, *, n_threads: int = 8) -> Corpus:
    """Add `duration` (s), `sr` (Hz) and `digest` to the index, from file headers and bytes.

    Equal digests mean byte-identical files, see `langid_fastai.corpus.duplicates`. An unreadable
    header gives NaN; a run lists the file in ``failed.csv``.

    Parameters
    ----------
    corpus : corpus, split or not
    n_threads : number of files read in parallel

    Returns
    -------
    corpus : corpus with these three columns
    """
    files = [corpus.root / path for path in corpus.index["path"]]
    with ThreadPool(n_threads) as pool:
        read = pool.imap(_read_header, files, chunksize=64)
        headers = list(track(read, total=len(files), what="reading file headers"))
    measured = pd.DataFrame(headers, columns=["duration", "sr"], dtype=float)
    index = corpus.index.assign(
        duration=measured["duration"].to_numpy(),
        sr=measured["sr"].to_numpy(),
        digest=digest_copies(files, n_threads=n_threads),
    )
    return corpus.with_index(index)


def _read_header(file: Path) -> tuple[float, float]:
    """Return duration in s and sampling rate in Hz; NaN if the header cannot be read."""
    with contextlib.suppress(AudioError):
        return read_header(file)
    return math.nan, math.nan


def summarize_corpus(corpus: Corpus) -> dict[str, Any]:
    """Count the recordings, speakers and hours of a split corpus, for ``metrics.json``.

    Returns
    -------
    summary : `layout`, `label`, `notes`, `n_recordings`, `n_speakers` (known ones, including those
        of mixtures), `hours`, `languages` (`recordings`, `groups` and `hours` of each language and
        split), and `n_variants`, the number of augmented variants used in training; recordings and
        hours are those of clean audio
    """
    index = used_rows(corpus.index)
    is_clean = index["variant"] == ""
    languages: dict[str, dict[str, dict[str, float]]] = {}
    for (language, split), rows in index.groupby(["language", "split"]):
        clean = rows[rows["variant"] == ""]
        languages.setdefault(str(language), {})[str(split)] = {
            "recordings": len(clean),
            "groups": int(rows["group"].nunique()),
            "hours": round(float(clean["duration"].sum()) / 3600, 4),
        }
    unused, n_variants = len(corpus.index) - len(index), int((~is_clean).sum())
    notes = list(corpus.notes)
    if n_variants:
        notes.append(f"{n_variants} augmented variants of training recordings are not counted here")
    if unused:
        notes.append(f"{unused} augmented variants of validation and test recordings left out")
    return {
        "layout": corpus.layout,
        "label": corpus.label,
        "notes": notes,
        "n_recordings": int(is_clean.sum()),
        "n_variants": n_variants,
        "n_speakers": len(set(speakers_of(index)) - {""}),
        "hours": round(float(index.loc[is_clean, "duration"].sum()) / 3600, 4),
        "languages": languages,
    }
