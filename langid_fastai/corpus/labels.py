"""Train on a column other than the language: `gender`, `accent`, or the `sexes` of mixtures.

The column replaces `language`, which later steps use as the class; the language itself is kept as
`spoken_language`. Messages and reports name the classes with `noun`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from langid_fastai.corpus import LANGUAGE, MEASURED
from langid_fastai.corpus.index import COLUMNS
from langid_fastai.errors import CorpusError
from langid_fastai.utils.text import list_some

__all__ = ["label_words", "noun", "use_label"]

SPOKEN = "spoken_language"
# Columns that cannot be the class: those that a run needs, and numbers.
NEVER = {*COLUMNS, *MEASURED} - {"speaker"}


def use_label(
    index: pd.DataFrame, label: str, source: str | Path
) -> tuple[pd.DataFrame, Mapping[str, str]]:
    """Use another column of the index as the class label.

    Parameters
    ----------
    index : rows with at least a `path`
    label : name of a text column
    source : name of the index, for messages

    Returns
    -------
    index : rows that have a label, with the label as `language`
    left_out : path of each row without a label → reason

    Raises
    ------
    CorpusError : the column does not exist, cannot be used as a label, or is empty

    Examples
    --------
    >>> rows = {"path": ["a.wav", "b.wav"], "language": "de", "gender": ["f", ""]}
    >>> index, left_out = use_label(pd.DataFrame(rows), "gender", "index.csv")
    >>> index.to_dict("records"), left_out
    ([{'path': 'a.wav', 'language': 'f', 'gender': 'f', 'spoken_language': 'de'}], \
{'b.wav': 'no gender'})
    """
    if label == LANGUAGE:
        return index, {}
    if label not in index or label in NEVER:
        usable = [repr(column) for column in index.columns if column not in NEVER]
        raise CorpusError(
            f"{source}: --label {label} must be a text column of the index that a run does not "
            f"use otherwise: {list_some(usable, 20) or 'it has none'}"
        )
    has_label = index[label].str.strip() != ""
    if not has_label.any():
        raise CorpusError(f"{source}: --label {label}: this column is empty in all rows")
    kept = index[has_label].copy()
    if LANGUAGE in kept:
        kept[SPOKEN] = kept[LANGUAGE]
    kept[LANGUAGE] = kept[label]
    return kept, dict.fromkeys(index.loc[~has_label, "path"], f"no {label}")


def noun(label: str, n: int = 1) -> str:
    """Return the word for one or `n` classes of a run: the name of their column, or its plural.

    Examples
    --------
    >>> noun("language", 2), noun("gender", 2), noun("sexes", 2), noun("native_tongue")
    ('languages', 'genders', 'sexes', 'native tongue')
    """
    name = label.replace("_", " ")
    if n == 1 or name.endswith("s"):
        return name
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def label_words(corpus: Mapping[str, Any]) -> dict[str, str]:
    """Return the words that a report uses for the classes.

    Parameters
    ----------
    corpus : section `corpus` of ``metrics.json``; older versions do not write `label`

    Returns
    -------
    words : `noun` and `nouns` for one and for several classes, `truth` for the true class, and
        `task`, a title
    """
    label = corpus.get("label", LANGUAGE)
    of_languages = label == LANGUAGE
    return {
        "noun": noun(label),
        "nouns": noun(label, 2),
        "truth": "language spoken" if of_languages else f"true {noun(label)}",
        "task": "Spoken language identification"
        if of_languages
        else f"{noun(label).capitalize()} of speech",
    }
