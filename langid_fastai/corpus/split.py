"""Split a corpus without leaks, and audit a split.

Accuracy on speakers seen in training is misleading: on the Kaggle set, one project had an accuracy
of 0.986 in validation and 0.946 in the test, another 0.998 and 0.774. So a whole group (all rows of
a speaker, video, folder or recording, with augmented variants) is in one split, together with every
group that contains a copy of one of its files.

Conventions
-----------
Fractions and balance refer to the number of clean recordings per language and, where known, gender.
Test and validation rows of the corpus's own split are kept; a missing split is drawn from all other
rows, including its own training rows. The same index and seed give the same split, in any order of
rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array

from langid_fastai.corpus import LANGUAGE, TEST, VALID
from langid_fastai.corpus.groups import is_usable, join_groups, recordings_of
from langid_fastai.corpus.held_out import put_back, set_aside
from langid_fastai.corpus.index import SPLITS, Corpus, used_rows
from langid_fastai.corpus.labels import noun
from langid_fastai.errors import CorpusError
from langid_fastai.mel_config import MIN_SECONDS
from langid_fastai.utils.text import count, list_some

__all__ = ["split_corpus", "audit_split", "confounded_rates", "contradicting_labels"]

# Groups are placed one by one, so balance depends on their order in small corpora: the best of this
# many shuffles is used. With many groups every shuffle is balanced, so fewer are tried.
MAX_SHUFFLES = 200
MAX_PLACEMENTS = 40_000


def split_corpus(
    corpus: Corpus,
    *,
    valid: float = VALID,
    test: float = TEST,
    seed: int = 0,
    allow_leaks: bool = False,
    hold_out: Sequence[str] = (),
) -> Corpus:
    """Assign every group of a corpus to one split: train, valid or test.

    Parameters
    ----------
    corpus : corpus to split; its own validation or test split is kept
    valid, test : fractions of the clean recordings, in (0, 1)
    seed : random seed
    allow_leaks : if a language has too few groups, split it by recordings instead; results on such
        a split are too optimistic
    hold_out : languages held out of training, to test the answer "none of these"; see
        `langid_fastai.corpus.held_out`

    Returns
    -------
    corpus : corpus with a `split` for every row, and with notes on how it was split

    Raises
    ------
    CorpusError : a language has too few groups for a split without leaks, or the fractions are
        invalid

    Examples
    --------
    >>> from pathlib import Path
    >>> from langid_fastai.corpus.index import Corpus, make_index
    >>> rows = [{"path": f"{l}/{s}{i}", "language": l, "speaker": f"{l}{s}"}
    ...         for l in ("de", "es") for s in "abcdef" for i in range(10)]
    >>> split = split_corpus(Corpus(Path("."), make_index(rows), "example"))
    >>> split.index.groupby("split")["speaker"].nunique().to_dict()
    {'test': 2, 'train': 8, 'valid': 2}
    """
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise CorpusError(
            f"valid={valid} and test={test} must be fractions in (0, 1) with sum below 1"
        )
    known, held_out = set_aside(corpus, hold_out)
    split = _split_known(known, {"test": test, "valid": valid}, seed, allow_leaks)
    return put_back(split, held_out)


def _split_known(corpus: Corpus, shares: dict[str, float], seed: int, allow_leaks: bool) -> Corpus:
    """Split the languages that are not held out."""
    index = corpus.index
    fractions = {
        split: fraction
        for split, fraction in shares.items()
        if not (used_rows(index)["split"] == split).any()
    }
    notes = [f"{split} split of the corpus kept" for split in SPLITS[1:] if split not in fractions]
    pool = index[~index["split"].isin(SPLITS[1:])]
    if pool.empty:
        there = " and ".join(sorted(index["split"].unique()))
        raise CorpusError(
            f"all {len(index)} recordings are in {there} by the corpus's own split, and none in "
            "train; add recordings to train on, or ignore the split: pass the folder of the split, "
            "or an index CSV with an empty column 'split'"
        )
    if not fractions:
        split = index["split"].replace("", "train")
        return _checked(corpus.with_index(index.assign(split=split), *notes), made=())
    group = join_groups(pool)
    few = _languages_with_few_groups(pool, group, n_splits=1 + len(fractions))
    if few and not allow_leaks:
        raise CorpusError(_few_groups_message(few, ["train", *fractions], noun(corpus.label)))
    if few:
        alone = pool["language"].isin(list(few))
        recordings = pool.assign(group=group.where(~alone, recordings_of(pool)))
        group = join_groups(recordings, keys=["digest"])
        notes.append(f"LEAKS: {list_some(sorted(few))} split by recordings, not by speakers")
        still_few = _languages_with_few_groups(pool, group, n_splits=1 + len(fractions))
        if still_few:
            raise CorpusError(
                _few_recordings_message(still_few, ["train", *fractions], noun(corpus.label))
            )
    split_of = _place_groups(pool, group, fractions, seed)
    split = index["split"].copy()
    split[pool.index] = group.map(split_of).fillna("train")  # groups with only variants
    return _checked(corpus.with_index(index.assign(split=split), *notes), made=tuple(fractions))


def audit_split(corpus: Corpus) -> pd.DataFrame:
    """Find groups, speakers, recordings and identical audio that are in more than one split.

    Parameters
    ----------
    corpus : split corpus; identical audio is only found after `measure_audio`

    Returns
    -------
    leaks : one row per leak, with columns `kind`, `name`, `sides` (``test+train``), `n_files` and
        `example` (two paths); empty if there are no leaks
    """
    leaks = []
    for kind in ("speaker", "group", "recording", "digest"):
        if kind not in corpus.index:
            continue
        known = corpus.index[(corpus.index[kind] != "") & (corpus.index["split"] != "")]
        n_splits = known.groupby(kind)["split"].nunique()
        across = known[known[kind].isin(n_splits.index[n_splits > 1])]
        one_per_split = across.drop_duplicates([kind, "split"]).sort_values([kind, "split"])
        splits, paths = defaultdict(list), defaultdict(list)
        for name, split, path in zip(
            *(one_per_split[c] for c in (kind, "split", "path")), strict=True
        ):
            splits[name].append(split)
            paths[name].append(path)
        for name, n_files in across[kind].value_counts(sort=False).sort_index().items():
            leaks.append(
                {
                    "kind": "identical audio" if kind == "digest" else kind,
                    "name": name,
                    "sides": "+".join(splits[name]),
                    "n_files": n_files,
                    "example": " | ".join(paths[name][:2]),
                }
            )
    columns = ["kind", "name", "sides", "n_files", "example"]
    leaks_table = pd.DataFrame(leaks, columns=columns)
    # Where the group is the speaker, both rows are the same leak.
    return leaks_table.drop_duplicates(["name", "sides", "n_files"], ignore_index=True)


def confounded_rates(index: pd.DataFrame, *, label: str = LANGUAGE) -> str | None:
    """Return a warning if the sampling rate reveals the language.

    If one language is recorded at 8 kHz and another at 44.1 kHz, a network learns to detect the
    upper band instead of the language, and no test split reveals this.

    Returns
    -------
    warning : a sentence, or None if there is a sampling rate that all languages have
    """
    by_language = index.dropna(subset=["sr"]).groupby("language")["sr"]
    rates = {str(language): frozenset(sr) for language, sr in by_language}
    if len(set(rates.values())) < 2 or frozenset.intersection(*rates.values()):
        return None
    listed = "; ".join(f"{k}: {'/'.join(f'{r:g}' for r in sorted(v))} Hz" for k, v in rates.items())
    return (
        f"the {noun(label, 2)} differ in sampling rate ({listed}); the network may learn the rate "
        f"instead of the {noun(label)}. Record all at the same rate, or set --fmax to half the "
        "lowest rate"
    )


def contradicting_labels(index: pd.DataFrame, *, label: str = LANGUAGE) -> str | None:
    """Return a warning if identical files have different labels, since one must be wrong.

    Parameters
    ----------
    index : index of a corpus from `measure_audio`

    Returns
    -------
    warning : a sentence, or None if there are no such files
    """
    if "digest" not in index:
        return None
    known = index[index["digest"] != ""]
    n_labels = known.groupby("digest")["language"].nunique()
    if not (n_labels > 1).any():
        return None
    paths = known.loc[known["digest"] == n_labels.index[n_labels > 1][0], "path"]
    return (
        f"{count(int((n_labels > 1).sum()), 'recording')} labelled with two {noun(label, 2)}, e.g. "
        f"{list_some(list(paths), 2)}; remove the file with the wrong label"
    )


def _languages_with_few_groups(
    rows: pd.DataFrame, group: pd.Series, *, n_splits: int
) -> dict[str, int]:
    """Return the number of groups of each language with fewer groups than `n_splits`."""
    clean = is_usable(rows)
    n_groups = group[clean].groupby(rows.loc[clean, "language"]).nunique()
    n_groups = n_groups.reindex(rows["language"].unique(), fill_value=0)
    return {str(language): int(n) for language, n in n_groups[n_groups < n_splits].items()}


def _few_groups_message(few: dict[str, int], splits: Sequence[str], name: str) -> str:
    found = list_some([f"{language!r} has {n}" for language, n in sorted(few.items())])
    return (
        f"a split without leaks needs {len(splits)} groups (speakers, videos or folders) per "
        f"{name} for {', '.join(splits)}: {found}, not counting files that are unreadable or "
        f"shorter than {MIN_SECONDS:g} s. Add recordings of other speakers, cut long recordings "
        "by speaker, or allow leaks (--allow-leaks) to split by recordings: results will be too "
        "optimistic, and marked as such"
    )


def _few_recordings_message(few: dict[str, int], splits: Sequence[str], name: str) -> str:
    found = list_some([f"{language!r} has {n}" for language, n in sorted(few.items())])
    return (
        f"a split needs {len(splits)} recordings per {name} for {', '.join(splits)}: {found}. "
        f"Add recordings, or leave the {name} out"
    )


def _place_groups(
    rows: pd.DataFrame, group: pd.Series, fractions: dict[str, float], seed: int
) -> dict[str, str]:
    """Return the split of each group with clean recordings: the most balanced of several shuffles.

    The shuffles depend on `seed` alone.
    """
    clean = rows[is_usable(rows)]
    row, names = pd.factorize(group[clean.index], sort=True)  # regardless of row order
    language, languages = pd.factorize(clean["language"], sort=True)
    # Languages are balanced, and genders within each language.
    gender = clean.groupby(["language", *({"gender"} & {*clean})]).ngroup().to_numpy()
    column = np.concatenate([language, len(languages) + gender])
    counts = csr_array(coo_array((np.ones(len(column)), (np.tile(row, 2), column))))
    share = np.array([1 - sum(fractions.values()), *fractions.values()])
    splits = ["train", *fractions]
    wanted = share[:, None] * counts.sum(axis=0)  # (n_splits, n_languages + n_genders)
    rng = np.random.default_rng(seed)
    best, best_cost = np.zeros(len(names), dtype=int), np.inf
    for _ in range(max(1, min(MAX_SHUFFLES, MAX_PLACEMENTS // len(names)))):
        placed, got = _place(counts, wanted, rng.permutation(len(names)))
        n_absent = (got[:, : len(languages)] == 0).sum()
        cost = np.abs(got - wanted).sum() + n_absent * counts.sum()
        if cost < best_cost:
            best, best_cost = placed, cost
    return dict(zip(names, (splits[i] for i in best), strict=True))


def _place(
    counts: csr_array, wanted: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place groups one by one, each into the split that is furthest below its wanted counts."""
    got = np.zeros_like(wanted)
    placed = np.zeros(len(order), dtype=int)
    for g in order:
        here = slice(counts.indptr[g], counts.indptr[g + 1])
        columns, n = counts.indices[here], counts.data[here]
        need = (1 - got[:, columns] / wanted[:, columns]) @ n
        placed[g] = np.argmax(need)  # a tie goes to the earlier split: train first
        got[placed[g], columns] += n
    return placed, got


def _checked(corpus: Corpus, *, made: tuple[str, ...]) -> Corpus:
    """Raise unless every language is in training and in the splits `made`; note other gaps."""
    used = used_rows(corpus.index)
    splits = used.groupby("language")["split"].agg(set)
    name, notes = noun(corpus.label), []
    for language in sorted(corpus.index["language"].unique()):
        present = splits.get(language, set())
        missing = [split for split in SPLITS if split not in present]
        if "train" in missing and len(made) < len(SPLITS[1:]):
            raise CorpusError(
                f"{name} {language!r} has no recording left for {', '.join(missing)}; leave the "
                f"{name} out of the corpus, drop the corpus's own split to have a new one made, "
                f"or hold the {name} out: --hold-out {language} (hold_out=)"
            )
        if set(missing) & {"train", *made}:
            raise CorpusError(
                f"{name} {language!r} has no recording left for {', '.join(missing)}: its speakers "
                f"or files are shared with other {noun(corpus.label, 2)}, which need them in other "
                f"splits. Add recordings of other speakers, or leave the {name} out"
            )
        notes += [f"{name} {language!r} has no {split} recordings" for split in missing]
    return corpus.with_index(corpus.index, *notes)
