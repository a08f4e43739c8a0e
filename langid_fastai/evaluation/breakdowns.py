"""Break down a test result by language, speaker, gender and duration, and list the worst mistakes.

The functions share these arguments: ``recordings``, the table returned by `average_clips`, and
arrays with one row per recording in the same order: ``truth`` and ``predicted``, positions in the
vocab, int (n,); ``correct``, bool (n,); ``log_probs``, (n, n_languages). The returned rows are
plain Python values, ready for JSON.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.corpus.groups import speakers_of
from langid_fastai.evaluation.detection import Trials
from langid_fastai.evaluation.draws import draw_language_rates
from langid_fastai.evaluation.intervals import (
    interval_of_draws,
    number_groups,
    share_with_intervals,
    wilson_interval,
)
from langid_fastai.evaluation.metrics import count_confusions, macro_f1

__all__ = [
    "BINS",
    "language_rows",
    "speaker_rows",
    "gender_rows",
    "duration_rows",
    "top_losses",
    "count_answers",
    "list_warnings",
    "plain",
    "plain_interval",
]

MIN_GROUPS = 10  # a language with fewer gets a warning
MAX_TOP_LOSSES = 12  # number of images that a reader will look at
# Edges of the bins, s; 3 and 10 are also used by NIST (3, 10 and 30 s in its evaluation of 2009).
BINS = (0.0, 3.0, 5.0, 10.0, 20.0, 60.0, math.inf)

LANGUAGE_RATES = ("precision", "recall", "f1", "eer")


def language_rows(
    recordings: pd.DataFrame, trials: Trials, vocab: list[str], *, seed: int
) -> dict[str, dict[str, Any]]:
    """Compute precision, recall, F1 and equal error rate of each language, and count its rows.

    Bootstrap draws without the language are ignored in its intervals. A language with fewer than
    two groups has no intervals, since the variation between groups is unknown. Undefined values
    are None.
    """
    truth, n_languages = trials.truth, len(vocab)
    predicted = trials.log_probs.argmax(axis=1)
    n_all_groups, group = number_groups(recordings["group"])
    statistic = draw_language_rates(trials, group)
    points = statistic(np.ones((1, n_all_groups), dtype=int))[0]
    n_cells = max(len(truth), 4 * n_languages)
    intervals = interval_of_draws(statistic, n_all_groups, n_cells=n_cells, seed=seed)
    rows = {}
    for i, label in enumerate(vocab):
        own = recordings[truth == i]
        n, n_groups = len(own), own["group"].nunique()
        own_intervals = None if intervals is None or n_groups < 2 else intervals[i]
        row: dict[str, Any] = {}
        for k, name in enumerate(LANGUAGE_RATES):
            row[name] = plain(points[i, k])
            row[f"{name}_bootstrap"] = (
                None if own_intervals is None else plain_interval(own_intervals[k])
            )
        n_right = int((predicted[truth == i] == i).sum())
        row["recall_wilson"] = list(wilson_interval(n_right, n)) if n else None
        row |= {"n_recordings": n, "n_groups": n_groups}
        rows[label] = row | {"n_speakers": len(set(speakers_of(own)) - {""})}
    return rows


def speaker_rows(recordings: pd.DataFrame, correct: np.ndarray) -> list[dict[str, Any]]:
    """Compute the accuracy of each speaker in each language, worst first.

    If a group has multiple speakers, such as the readers of one book, each has a row. A mixture of
    speakers counts for each of them.
    """
    rows = recordings.assign(gender=_genders(recordings), correct=correct)
    rows = rows.drop(columns="speaker").join(speakers_of(recordings).rename("speaker"))
    table = rows.groupby(["group", "speaker", "language"]).agg(
        gender=("gender", "first"),
        n_recordings=("path", "size"),
        n_clips=("n_clips", "sum"),
        accuracy=("correct", "mean"),
        n_correct=("correct", "sum"),
    )
    table = table.reset_index().sort_values(["accuracy", "language", "group", "speaker"])
    pairs = zip(table["n_correct"], table["n_recordings"], strict=True)
    table["accuracy_wilson"] = [list(wilson_interval(n_correct, n)) for n_correct, n in pairs]
    order = ["speaker", "group", "language", "gender", "n_recordings", "n_clips", "accuracy"]
    return _records(table[[*order, "accuracy_wilson"]])


def gender_rows(
    recordings: pd.DataFrame,
    truth: np.ndarray,
    predicted: np.ndarray,
    n_languages: int,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Compute accuracy and macro F1 of each known gender."""
    genders = _genders(recordings)
    rows = []
    for gender in sorted(set(genders) - {""}):
        own = (genders == gender).to_numpy()
        confusion = count_confusions(truth[own], predicted[own], n_languages)
        row = _accuracy_row(recordings[own], (truth == predicted)[own], seed)
        rows.append({"gender": gender} | row | {"macro_f1": macro_f1(confusion)})
    return rows


def duration_rows(
    recordings: pd.DataFrame, correct: np.ndarray, *, seed: int
) -> list[dict[str, Any]]:
    """Compute the accuracy of recordings by duration: `low` <= `duration` < `high`, in seconds.

    There is one row for each of `BINS` with recordings. Recordings of unknown duration are left
    out; if the table lacks the column `duration`, there are no rows.
    """
    if "duration" not in recordings:
        return []
    durations = recordings["duration"].to_numpy(dtype=float)
    rows = []
    for low, high in itertools.pairwise(BINS):
        own = (low <= durations) & (durations < high)
        if own.any():
            row = _accuracy_row(recordings[own], correct[own], seed)
            rows.append({"low": low, "high": None if math.isinf(high) else high} | row)
    return rows


def top_losses(
    clips: pd.DataFrame,
    clip_log_probs: np.ndarray,
    recordings: pd.DataFrame,
    log_probs: np.ndarray,
    vocab: list[str],
) -> list[dict[str, Any]]:
    """List misidentified recordings, largest cross-entropy first, at most `MAX_TOP_LOSSES`.

    `image` and `offset` are those of the clip with the largest loss in the recording.
    """
    table = recordings[["path", "language"]].assign(
        predicted=np.array(vocab)[log_probs.argmax(axis=1)],
        score=np.exp(log_probs.max(axis=1)),
        loss=_losses(recordings, log_probs, vocab),
    )
    wrong = table[table["predicted"] != table["language"]]
    worst = wrong.sort_values(["loss", "path"], ascending=[False, True]).head(MAX_TOP_LOSSES)

    shown = clips.assign(loss=_losses(clips, clip_log_probs, vocab))
    shown = shown.sort_values(["loss", "offset"], ascending=[False, True])
    shown = shown.drop_duplicates("path")[["path", "offset", "image"]]
    worst = worst.merge(shown, on="path", how="left", validate="one_to_one")
    worst["image"] = worst["image"].map(str)
    order = ["path", "offset", "language", "predicted", "score", "loss", "image"]
    return _records(worst[order])


def count_answers(confusion: np.ndarray, vocab: list[str]) -> dict[str, Any]:
    """Compare the answers of the model with always answering the largest class.

    Parameters
    ----------
    confusion : counts, int (n_languages, n_languages); rows are the true languages

    Returns
    -------
    answers : `largest`, the language with the most recordings, and `largest_share`, its fraction of
        them, which is the accuracy of always answering it; `always`, the only answer that the model
        gives, or None if it gives several; `never`, the languages of the test that it never answers

    Examples
    --------
    >>> count_answers(np.array([[60, 0], [4, 0]]), ["de", "es"])
    {'largest': 'de', 'largest_share': 0.9375, 'always': 'de', 'never': ['es']}
    """
    spoken, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    given = np.flatnonzero(answered)
    return {
        "largest": vocab[int(spoken.argmax())],
        "largest_share": float(spoken.max() / spoken.sum()),
        "always": vocab[given[0]] if len(given) == 1 < np.count_nonzero(spoken) else None,
        "never": [vocab[k] for k in np.flatnonzero((spoken > 0) & (answered == 0))],
    }


def list_warnings(recordings: pd.DataFrame, vocab: list[str], answers: dict[str, Any]) -> list[str]:
    """List the limitations of the results, one sentence each; `answers` is from `count_answers`."""
    unit = "speaker" if (recordings["speaker"] == recordings["group"]).all() else "group"
    n_groups = recordings.groupby("language")["group"].nunique()
    sentences = []
    if answers["never"]:
        sentences.append(f"the model never answers {', '.join(answers['never'])}")
    if few := ", ".join(f"{x} {n}" for x, n in n_groups.items() if n < MIN_GROUPS):
        sentences.append(
            f"the test has few {unit}s ({few}); with fewer than {MIN_GROUPS} per class, the "
            f"interval is wide and a single {unit} can change the result"
        )
    if recordings["group"].nunique() == 1:
        sentences.append(f"the test has only one {unit}, so there is no bootstrap interval")
    speakers = speakers_of(recordings)
    if len(speakers) > len(recordings):
        sentences.append(
            f"the mixtures are made from {speakers.nunique()} speakers and share them, so they are "
            "not independent: with other speakers the results may vary more than the intervals show"
        )
    if n_unknown := (speakers == "").sum():
        sentences.append(
            f"the speaker of {n_unknown} of {len(recordings)} recordings is unknown; if a speaker "
            "is in multiple groups, the true intervals are wider than those shown"
        )
    if absent := ", ".join(x for x in vocab if x not in n_groups):
        sentences.append(f"the test has no recording of {absent}; macro F1 is over the others")
    return sentences


def plain(number: float) -> float | None:
    """Convert to a Python float; None for NaN, which JSON does not have."""
    return None if math.isnan(number) else float(number)


def plain_interval(interval: np.ndarray) -> list[float] | None:
    """Convert to ``[low, high]``; None if undefined."""
    return None if np.isnan(interval).any() else interval.tolist()


def _accuracy_row(recordings: pd.DataFrame, correct: np.ndarray, seed: int) -> dict[str, Any]:
    accuracy, wilson, bootstrap = share_with_intervals(correct, recordings["group"], seed=seed)
    return {
        "n_recordings": len(recordings),
        "n_groups": recordings["group"].nunique(),
        "accuracy": accuracy,
        "accuracy_wilson": wilson,
        "accuracy_bootstrap": bootstrap,
    }


def _genders(recordings: pd.DataFrame) -> pd.Series:
    """Return the gender of each recording, empty if unknown."""
    if "gender" not in recordings:
        return pd.Series("", index=recordings.index)
    return recordings["gender"].fillna("")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert to a list of rows with plain Python values, ready for JSON."""
    rows = table.astype(object).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _losses(rows: pd.DataFrame, log_probs: np.ndarray, vocab: list[str]) -> np.ndarray:
    truth = pd.Index(vocab).get_indexer(pd.Index(rows["language"]))
    return -log_probs[np.arange(len(rows)), truth]
