"""Languages held out of training, to test the answer "none of these".

A model that should reject unknown languages must be tested on languages, and on speakers, that it
was not trained on: it might accept a known speaker in any language. So recordings of a held-out
language are in the test split only. They are left out if their speaker (or video, recording,
byte-identical file) is also in training or validation.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from langid_fastai.corpus.groups import join_groups
from langid_fastai.corpus.index import Corpus, used_rows
from langid_fastai.corpus.labels import noun
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import count

__all__ = ["held_out_languages", "put_back", "set_aside"]


def set_aside(corpus: Corpus, languages: Sequence[str]) -> tuple[Corpus, pd.DataFrame]:
    """Remove the languages to hold out from a corpus, before it is split.

    Returns
    -------
    rest : corpus without these languages
    held_out : rows of clean audio in these languages

    Raises
    ------
    CorpusError : the corpus lacks one of the languages, or fewer than two are left
    """
    index = corpus.index
    if not languages:
        return corpus, index[:0]
    for language in languages:
        if language not in set(index["language"]):
            known = ", ".join(sorted(index["language"].unique()))
            raise CorpusError(
                f"hold_out={language!r} must be a {noun(corpus.label)} of the corpus: {known}"
            )
    held_out = index["language"].isin(list(languages))
    if index.loc[~held_out, "language"].nunique() < 2:
        raise CorpusError(
            f"hold_out={list(languages)} leaves fewer than two {noun(corpus.label, 2)} to train "
            "on; hold out fewer"
        )
    rest = corpus.with_index(index[~held_out].reset_index(drop=True))
    return rest, index[held_out & (index["variant"] == "")]


def put_back(corpus: Corpus, held_out: pd.DataFrame) -> Corpus:
    """Add the held-out rows to the test split, except those of speakers in training or validation.

    Raises
    ------
    CorpusError : all speakers of a held-out language are in training or validation
    """
    if held_out.empty:
        return corpus
    index = pd.concat([corpus.index, held_out.assign(split="test")], ignore_index=True)
    group = join_groups(index)
    trained = set(group[index["split"] != "test"])
    dropped = index[(index.index >= len(corpus.index)) & group.isin(trained)]
    kept = index.drop(dropped.index)
    if lost := sorted(set(held_out["language"]) - set(kept["language"])):
        raise CorpusError(
            f"every recording of {', '.join(lost)} is of a speaker (or video, recording) that is "
            f"also in the training or validation split; hold out another {noun(corpus.label)}, or "
            "add recordings of other speakers"
        )
    n = len(kept) - len(corpus.index)
    names = ", ".join(sorted(held_out["language"].unique()))
    notes = [f"held out of training, to test the answer unknown: {names} ({count(n, 'recording')})"]
    if len(dropped):
        left_out = count(len(dropped), "recording")
        notes.append(
            f"{left_out} of held-out {noun(corpus.label, 2)} left out: their speakers are in "
            "training or validation"
        )
    return corpus.with_index(kept.sort_values("path", ignore_index=True), *notes)


def held_out_languages(index: pd.DataFrame) -> list[str]:
    """Return the languages of a split index that have no training rows."""
    used = used_rows(index)
    trained = set(used.loc[used["split"] == "train", "language"])
    return sorted(set(used["language"]) - trained)
