"""Cross-validation by speaker: each recording is tested by a model not trained on its speaker.

A test split of six speakers measures performance on six speakers only. With *k* folds, all speakers
are tested, each by one of *k* models.

::

    folded, protocol = make_folds(measure_audio(read_corpus("recordings")), 5)
    for fold in range(1, 6):
        split = fold_split(folded, fold, 5)        train, valid and test without leaks

Conventions
-----------
Folds are numbered from 1. A fold contains whole groups, and groups that share a speaker, a
recording or a byte-identical file are in the same fold. Folds are balanced by the number of
readable clean recordings per language and, where known, gender; augmented variants follow their
group and are only used for training. The same index and seed give the same folds, in any order of
rows.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from langid_fastai.corpus.groups import is_usable, join_groups
from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.labels import noun
from langid_fastai.errors import CorpusError
from langid_fastai.mel_config import MIN_SECONDS
from langid_fastai.utils.text import count, list_some

__all__ = ["MIN_FOLDS", "fold_split", "make_folds"]

MIN_FOLDS = 3  # one to test, one to validate, at least one to train

# scikit-learn places groups one by one, the largest first and equal ones in random order. The most
# balanced of several orders is used; with many groups every order is balanced, so fewer are tried.
MAX_SHUFFLES = 20
MAX_PLACEMENTS = 10_000  # groups × folds × shuffles

# The author of the Kaggle set made 14 folds of six speakers, one per language and gender (folds.py
# and common.py of the dataset's repository).
AUTHOR_FOLDS = 14
AUTHOR_SPEAKER = r"[0-9a-f]{32}"


def make_folds(corpus: Corpus, n_folds: int, *, seed: int = 0) -> tuple[Corpus, str]:
    """Assign every group of a corpus to one of several folds, for cross-validation.

    Parameters
    ----------
    corpus : corpus from `measure_audio`; its own test split is excluded, and its own validation
        split is treated as training data
    n_folds : number of folds, at least 3; 14 gives the original folds of the Kaggle dataset
    seed : random seed for the order of groups of equal size

    Returns
    -------
    corpus : corpus with a column `fold` (int, from 1) and an empty `split`; see `fold_split`
    protocol : description of the folds, one sentence

    Raises
    ------
    CorpusError : there are too few folds, a language has fewer groups than folds, or shared
        speakers or files would leave a fold without a language

    Examples
    --------
    >>> from pathlib import Path
    >>> from langid_fastai.corpus.index import make_index
    >>> rows = [{"path": f"{l}/{s}{i}", "language": l, "speaker": f"{l}{s}"}
    ...         for l in ("de", "es") for s in "abcdef" for i in range(10)]
    >>> corpus, protocol = make_folds(Corpus(Path("."), make_index(rows), "example"), 3)
    >>> corpus.index.groupby("fold")["speaker"].nunique().to_dict()
    {1: 4, 2: 4, 3: 4}
    """
    if n_folds < MIN_FOLDS:
        raise CorpusError(
            f"n_folds={n_folds} must be at least {MIN_FOLDS}: one fold is tested, one validates, "
            "and the others train"
        )
    pool, notes = _pool(corpus)
    group = join_groups(pool)
    clean = pool[is_usable(pool)].assign(group=group)
    _refuse_few_groups(pool, clean, n_folds, noun(corpus.label))
    is_author = n_folds == AUTHOR_FOLDS and _has_author_folds(clean)
    fold_of = _author_folds(clean) if is_author else _balanced_folds(clean, n_folds, seed)
    _refuse_lacking(clean, clean["group"].map(fold_of), n_folds, corpus.label)
    # Groups with only variants or unreadable files are never tested, so their fold does not matter.
    others = sorted({*group} - {*fold_of})
    fold_of |= {name: 1 + i % n_folds for i, name in enumerate(others)}
    folded = corpus.with_index(pool.assign(split="", fold=group.map(fold_of).astype(int)), *notes)
    return folded, _protocol(clean, n_folds, seed, noun(corpus.label, 2), is_author=is_author)


def fold_split(corpus: Corpus, fold: int, n_folds: int) -> Corpus:
    """Make the split of one fold: test on it, validate on the next, train on the others.

    Parameters
    ----------
    corpus : from `make_folds`
    fold : number of the test fold, from 1 to `n_folds`; the last is followed by the first
    n_folds : number of folds, as in `make_folds`

    Raises
    ------
    CorpusError : the corpus has no folds, or another number of folds
    """
    if "fold" not in corpus.index:
        raise CorpusError("the index has no column 'fold'; call make_folds first")
    number = corpus.index["fold"].astype(int)
    if number.max() != n_folds or not 1 <= fold <= n_folds:
        raise CorpusError(
            f"fold={fold} of n_folds={n_folds} must be one of the index's folds, "
            f"{number.min()} to {number.max()}"
        )
    after = (number - fold) % n_folds  # 0: tested, 1: the next fold, …
    split = np.select([after == 0, after == 1], ["test", "valid"], "train")
    return corpus.with_index(corpus.index.assign(split=split))


def _pool(corpus: Corpus) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows to be assigned to folds, and notes on the others."""
    index = corpus.index
    pool = index[index["split"] != "test"].reset_index(drop=True)
    if pool.empty:
        raise CorpusError(
            f"all {len(index)} recordings are in test by the corpus's own split, which cross-"
            "validation excludes; pass the folder of this split, or an index CSV with an empty "
            "column 'split'"
        )
    notes = []
    if n_test := len(index) - len(pool):
        left_out = count(n_test, "recording")
        notes.append(f"{left_out} of the corpus's own test split left out of cross-validation")
    if (pool["split"] == "valid").any():
        notes.append("the corpus's own validation split is used like its training split")
    if "fold" in pool:
        notes.append("the column 'fold' of the corpus is replaced")
    return pool, notes


def _refuse_few_groups(pool: pd.DataFrame, clean: pd.DataFrame, n_folds: int, name: str) -> None:
    """Raise if a language has fewer groups than there are folds."""
    n_groups = clean.groupby("language")["group"].nunique()
    n_groups = n_groups.reindex(sorted(pool["language"].unique()), fill_value=0)
    few = n_groups[n_groups < n_folds]
    if few.empty:
        return
    found = list_some([f"{language!r} has {n}" for language, n in few.items()])
    possible = (
        f"At most {few.min()} folds are possible; request fewer, or"
        if few.min() >= MIN_FOLDS
        else f"Cross-validation needs at least {MIN_FOLDS};"
    )
    raise CorpusError(
        f"{n_folds} folds need {n_folds} groups (speakers, videos or folders) per {name}: "
        f"{found}, not counting files that are unreadable or shorter than {MIN_SECONDS:g} s. "
        f"{possible} add recordings of other speakers, or leave the {name} out"
    )


def _refuse_lacking(clean: pd.DataFrame, fold: pd.Series, n_folds: int, label: str) -> None:
    """Raise unless every fold contains every language."""
    n_present = fold.groupby(clean["language"]).nunique()
    if (n_present == n_folds).all():
        return
    languages = list_some([repr(language) for language in n_present[n_present < n_folds].index])
    raise CorpusError(
        f"not all {n_folds} folds would contain {languages}: its speakers or files are shared with "
        f"other {noun(label, 2)}, which need them in other folds. Request fewer folds, add "
        f"recordings of other speakers, or leave the {noun(label)} out"
    )


def _balanced_folds(clean: pd.DataFrame, n_folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each group: scikit-learn's most balanced result of several shuffles."""
    # Stratifying by language and gender balances both, but a language with few speakers of each
    # gender may be missing from a fold; stratifying by language avoids that.
    labels = [clean["language"]]
    if _knows_gender(clean):
        labels.append(clean["language"] + "\0" + clean["gender"])
    classes = [pd.factorize(label, sort=True)[0] for label in labels]
    n_groups = clean["group"].nunique()
    n_shuffles = max(1, min(MAX_SHUFFLES, MAX_PLACEMENTS // (n_groups * n_folds)))
    best, best_cost = np.zeros(len(clean), dtype=int), (np.inf, np.inf)
    for state in np.random.default_rng(seed).integers(2**31, size=n_shuffles):
        for label in classes:
            if np.bincount(label).max() < n_folds:  # scikit-learn refuses that
                continue
            fold = _stratified(label, clean["group"], n_folds, int(state))
            tables = [_count(fold, x, n_folds) for x in classes]
            n_absent = float((tables[0] == 0).sum())
            cost = (n_absent, sum(float(np.abs(n - n.mean(axis=0)).sum()) for n in tables))
            if cost < best_cost:
                best, best_cost = fold, cost
    return dict(zip(clean["group"], (1 + best).tolist(), strict=True))


def _stratified(label: np.ndarray, group: pd.Series, n_folds: int, state: int) -> np.ndarray:
    """Return the fold of each row, int (n,), from 0."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=state)
    fold = np.zeros(len(label), dtype=int)
    with warnings.catch_warnings():
        # It warns about a class with fewer rows than folds, e.g. a gender; the cost handles that.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, rows) in enumerate(folds.split(label, label, group)):
            fold[rows] = number
    return fold


def _count(fold: np.ndarray, label: np.ndarray, n_folds: int) -> np.ndarray:
    """Count the rows of each fold and label, int (n_folds, n_labels)."""
    n_labels = label.max() + 1
    cells = np.bincount(fold * n_labels + label, minlength=n_folds * n_labels)
    return cells.reshape(n_folds, n_labels)


def _has_author_folds(clean: pd.DataFrame) -> bool:
    """Return whether these are the Kaggle set's training speakers, 14 per language and gender."""
    if not {"gender", "fragment"} <= {*clean}:
        return False
    speakers = _speakers(clean)
    return bool(
        (clean["group"] == clean["speaker"]).all()
        and clean["speaker"].str.fullmatch(AUTHOR_SPEAKER).all()
        and speakers["speaker"].is_unique  # in the demo corpus, each voice speaks all languages
        and (speakers.groupby(["language", "gender"]).size() == AUTHOR_FOLDS).all()
    )


def _author_folds(clean: pd.DataFrame) -> dict[str, int]:
    """Return the fold of each speaker: its rank by descending ID in its language and gender."""
    speakers = _speakers(clean).sort_values("speaker", ascending=False)
    fold = speakers.groupby(["language", "gender"]).cumcount() + 1
    return dict(zip(speakers["speaker"], fold.tolist(), strict=True))


def _speakers(clean: pd.DataFrame) -> pd.DataFrame:
    return clean[["language", "gender", "speaker"]].drop_duplicates()


def _knows_gender(clean: pd.DataFrame) -> bool:
    return "gender" in clean and bool((clean["gender"] != "").any())


def _protocol(clean: pd.DataFrame, n_folds: int, seed: int, names: str, *, is_author: bool) -> str:
    """Describe the folds in one sentence."""
    unit = "speakers" if (clean["speaker"] != "").all() else "groups (speakers, videos or folders)"
    how = (
        "those of the set's author: for each language and gender, the speaker with the last ID is "
        "in fold 1, the last but one in fold 2, and so on"
        if is_author
        else f"balanced over {names}{' and genders' if _knows_gender(clean) else ''}, seed {seed}"
    )
    return (
        f"{n_folds} folds of whole {unit}, {how}; each fold is tested by a model validated on the "
        "next and trained on the others"
    )
