"""A split without leaks, and the audit that shows it.

A figure measured on speakers that were trained on says little: on the Kaggle set one project
validated at 0.986 and tested at 0.946, another at 0.998 and 0.774. So whole groups go to one side:
all rows of a speaker (or video, folder, recording) with all augmented variants, and together with
them every group that holds a byte-identical file.

Conventions
-----------
Fractions and balance count clean recordings, by language and, where known, gender. Test and
validation rows that the corpus brings along stay where they are; a side that it lacks is taken from
all other rows, its own training rows among them. The same index and seed give the same split,
whatever the row order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array

from langid_fastai.corpus import TEST, VALID
from langid_fastai.corpus.groups import MIN_SECONDS, is_usable, join_groups
from langid_fastai.corpus.held_out import put_back, set_aside
from langid_fastai.corpus.index import SPLITS, Corpus, count, list_some, used_rows
from langid_fastai.errors import CorpusError

__all__ = ["split_corpus", "audit_split", "confounded_rates", "contradicting_labels"]

# Groups are placed one by one, so luck plays a part in small corpora: the best of this many
# shuffles is taken, fewer when there are so many groups that every shuffle is balanced.
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
    """Put every group of a corpus on one side: train, valid or test.

    Parameters
    ----------
    corpus : its test and validation rows, if it has any, stay what they are
    valid, test : share of the clean recordings, in (0, 1)
    seed : another seed, another split
    allow_leaks : where a language has too few groups, split it by recordings instead; figures
        measured on such a split overstate
    hold_out : languages kept out of training, to test the answer "none of these"; see
        `langid_fastai.corpus.held_out`

    Returns
    -------
    corpus : every row has a `split`; a note says what was done

    Raises
    ------
    CorpusError : a language has too few groups for a split without leaks, or the fractions do not
        fit

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
            f"valid={valid} and test={test} must be shares in (0, 1) with sum below 1"
        )
    known, held_out = set_aside(corpus, hold_out)
    split = _split_known(known, {"test": test, "valid": valid}, seed, allow_leaks)
    return put_back(split, held_out)


def _split_known(corpus: Corpus, shares: dict[str, float], seed: int, allow_leaks: bool) -> Corpus:
    """Split what is to be learned."""
    index = corpus.index
    fractions = {
        side: fraction
        for side, fraction in shares.items()
        if not (used_rows(index)["split"] == side).any()
    }
    notes = [f"{side} split of the corpus kept" for side in SPLITS[1:] if side not in fractions]
    pool = index[~index["split"].isin(SPLITS[1:])]
    if pool.empty:
        there = " and ".join(sorted(index["split"].unique()))
        raise CorpusError(
            f"all {len(index)} recordings stand in {there} by the corpus's own split, and none in "
            "train; add recordings to train on, or have the split made: name the folder below, or "
            "an index CSV with an empty column 'split'"
        )
    if not fractions:
        split = index["split"].replace("", "train")
        return _checked(corpus.with_index(index.assign(split=split), *notes), made=())
    group = join_groups(pool)
    few = _languages_with_few_groups(pool, group, n_sides=1 + len(fractions))
    if few and not allow_leaks:
        raise CorpusError(_few_groups_message(few, ["train", *fractions]))
    if few:
        alone = pool["language"].isin(list(few))
        recordings = pool.assign(group=group.where(~alone, _recording(pool)))
        group = join_groups(recordings, keys=["digest"])
        notes.append(f"LEAKS: {list_some(sorted(few))} split by recordings, not by speakers")
        still_few = _languages_with_few_groups(pool, group, n_sides=1 + len(fractions))
        if still_few:
            raise CorpusError(_few_recordings_message(still_few, ["train", *fractions]))
    side_of = _place_groups(pool, group, fractions, seed)
    split = index["split"].copy()
    split[pool.index] = group.map(side_of).fillna("train")  # groups of variants alone
    return _checked(corpus.with_index(index.assign(split=split), *notes), made=tuple(fractions))


def audit_split(corpus: Corpus) -> pd.DataFrame:
    """Find what stands on more than one side: groups, speakers, recordings, identical audio.

    Parameters
    ----------
    corpus : split, and measured (`measure_audio`) if identical audio is to be found

    Returns
    -------
    leaks : one row a leak, with columns `kind`, `name`, `sides` (``test+train``), `n_files` and
        `example` (two paths); empty when the split is sound
    """
    leaks = []
    for kind in ("speaker", "group", "recording", "digest"):
        if kind not in corpus.index:
            continue
        known = corpus.index[(corpus.index[kind] != "") & (corpus.index["split"] != "")]
        n_sides = known.groupby(kind)["split"].nunique()
        across = known[known[kind].isin(n_sides.index[n_sides > 1])]
        one_a_side = across.drop_duplicates([kind, "split"]).sort_values([kind, "split"])
        sides, paths = defaultdict(list), defaultdict(list)
        for name, side, path in zip(*(one_a_side[c] for c in (kind, "split", "path")), strict=True):
            sides[name].append(side)
            paths[name].append(path)
        for name, n_files in across[kind].value_counts(sort=False).sort_index().items():
            leaks.append(
                {
                    "kind": "identical audio" if kind == "digest" else kind,
                    "name": name,
                    "sides": "+".join(sides[name]),
                    "n_files": n_files,
                    "example": " | ".join(paths[name][:2]),
                }
            )
    columns = ["kind", "name", "sides", "n_files", "example"]
    leaks_table = pd.DataFrame(leaks, columns=columns)
    # Where the group is the speaker, both say the same thing.
    return leaks_table.drop_duplicates(["name", "sides", "n_files"], ignore_index=True)


def confounded_rates(index: pd.DataFrame) -> str | None:
    """Warn when the sampling rate gives the language away.

    A network that sees 8 kHz files of one language and 44.1 kHz files of another learns the upper
    band, not the language, and no split can show it.

    Returns
    -------
    warning : a sentence, or None when the languages share their sampling rates
    """
    by_language = index.dropna(subset=["sr"]).groupby("language")["sr"]
    rates = {str(language): frozenset(sr) for language, sr in by_language}
    if len(set(rates.values())) < 2 or frozenset.intersection(*rates.values()):
        return None
    listed = "; ".join(f"{k}: {'/'.join(f'{r:g}' for r in sorted(v))} Hz" for k, v in rates.items())
    return (
        f"the languages differ in sampling rate ({listed}); the network may learn the rate "
        "instead of the language. Record all alike, or set --fmax to half the lowest rate"
    )


def contradicting_labels(index: pd.DataFrame) -> str | None:
    """Warn when the same audio bears two languages: one of the labels is wrong.

    Parameters
    ----------
    index : measured (`measure_audio`)

    Returns
    -------
    warning : a sentence, or None when equal files have equal labels
    """
    if "digest" not in index:
        return None
    known = index[index["digest"] != ""]
    n_labels = known.groupby("digest")["language"].nunique()
    if not (n_labels > 1).any():
        return None
    paths = known.loc[known["digest"] == n_labels.index[n_labels > 1][0], "path"]
    return (
        f"{count(int((n_labels > 1).sum()), 'recording')} under two languages, as "
        f"{list_some(list(paths), 2)}; one of the labels is wrong, so remove it"
    )


def _recording(rows: pd.DataFrame) -> pd.Series:
    """What all variants come from; the file itself where the corpus does not tell."""
    if "recording" not in rows:
        return rows["path"]
    return rows["recording"].where(rows["recording"] != "", rows["path"])


def _languages_with_few_groups(
    rows: pd.DataFrame, group: pd.Series, *, n_sides: int
) -> dict[str, int]:
    """Languages with fewer groups of clean recordings than sides, and how many they have."""
    clean = is_usable(rows)
    n_groups = group[clean].groupby(rows.loc[clean, "language"]).nunique()
    n_groups = n_groups.reindex(rows["language"].unique(), fill_value=0)
    return {str(language): int(n) for language, n in n_groups[n_groups < n_sides].items()}


def _few_groups_message(few: dict[str, int], sides: Sequence[str]) -> str:
    found = list_some([f"{language!r} has {n}" for language, n in sorted(few.items())])
    return (
        f"a split without leaks needs {len(sides)} groups (speakers, videos or folders) a language "
        f"for {', '.join(sides)}: {found}, not counting files that cannot be read or last under "
        f"{MIN_SECONDS:g} s. Add recordings of other speakers, cut long recordings "
        "by who speaks, or allow leaks (--allow-leaks) to split by recordings: the figures will "
        "overstate, and say so"
    )


def _few_recordings_message(few: dict[str, int], sides: Sequence[str]) -> str:
    found = list_some([f"{language!r} has {n}" for language, n in sorted(few.items())])
    return (
        f"a split needs {len(sides)} recordings a language for {', '.join(sides)}: {found}. Add "
        "recordings, or leave the language out"
    )


def _place_groups(
    rows: pd.DataFrame, group: pd.Series, fractions: dict[str, float], seed: int
) -> dict[str, str]:
    """Side of each group with clean recordings: the most balanced of several seeded shuffles."""
    clean = rows[is_usable(rows)]
    row, names = pd.factorize(group[clean.index], sort=True)  # whatever the row order
    language, languages = pd.factorize(clean["language"], sort=True)
    # Balanced are the languages, and within them the genders.
    gender = clean.groupby(["language", *({"gender"} & {*clean})]).ngroup().to_numpy()
    column = np.concatenate([language, len(languages) + gender])
    counts = csr_array(coo_array((np.ones(len(column)), (np.tile(row, 2), column))))
    share = np.array([1 - sum(fractions.values()), *fractions.values()])
    sides = ["train", *fractions]
    wanted = share[:, None] * counts.sum(axis=0)  # (n_sides, n_languages + n_genders)
    rng = np.random.default_rng(seed)
    best, best_cost = np.zeros(len(names), dtype=int), np.inf
    for _ in range(max(1, min(MAX_SHUFFLES, MAX_PLACEMENTS // len(names)))):
        placed, got = _place(counts, wanted, rng.permutation(len(names)))
        n_absent = (got[:, : len(languages)] == 0).sum()
        cost = np.abs(got - wanted).sum() + n_absent * counts.sum()
        if cost < best_cost:
            best, best_cost = placed, cost
    return dict(zip(names, (sides[i] for i in best), strict=True))


def _place(
    counts: csr_array, wanted: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place groups one by one where the relative need of what they hold is greatest."""
    got = np.zeros_like(wanted)
    placed = np.zeros(len(order), dtype=int)
    for g in order:
        here = slice(counts.indptr[g], counts.indptr[g + 1])
        columns, n = counts.indices[here], counts.data[here]
        need = (1 - got[:, columns] / wanted[:, columns]) @ n
        placed[g] = np.argmax(need)  # a tie goes to the earlier side: train first
        got[placed[g], columns] += n
    return placed, got


def _checked(corpus: Corpus, *, made: tuple[str, ...]) -> Corpus:
    """Every language must be trained on, and stand on the sides that were made here."""
    used = used_rows(corpus.index)
    sides = used.groupby("language")["split"].agg(set)
    notes = []
    for language in sorted(corpus.index["language"].unique()):
        present = sides.get(language, set())
        missing = [side for side in SPLITS if side not in present]
        if "train" in missing and len(made) < len(SPLITS[1:]):
            raise CorpusError(
                f"language {language!r} has no recording left for {', '.join(missing)}; leave the "
                "language out of the corpus, drop the corpus's own split and let one be made, or "
                f"say that it is unknown on purpose: --hold-out {language} (hold_out=)"
            )
        if set(missing) & {"train", *made}:
            raise CorpusError(
                f"language {language!r} has no recording left for {', '.join(missing)}: its "
                "speakers or files are tied to other languages, which need them elsewhere. Add "
                "recordings of other speakers, or leave the language out"
            )
        notes += [f"language {language!r} has no {side} recordings" for side in missing]
    return corpus.with_index(corpus.index, *notes)
