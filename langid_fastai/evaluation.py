"""Scored clips in, accuracy with honest intervals out.

A *recording* is one audio file, one row of the index. A *clip* is one fixed-length window of it,
one spectrogram image. A recording's score is the mean of its clips' log-probabilities, and every
rate is reported for clips and for recordings.

Conventions
-----------
- Scores are natural-log probabilities, ``(n, n_languages)``, columns in the order of the vocab.
- Tables have one row a clip or a recording, in the order of the scores; unknown text is empty.
- Rates lie in [0, 1]; intervals are ``low, high`` and cover 95 %.
- A *group* is what a split keeps together: the speaker if known. Recordings of one voice are not
  independent, so the bootstrap draws whole groups.

Metrics
-------
- accuracy, with a Wilson interval (as if recordings were independent) and a bootstrap interval
  (as if other groups had been recorded)
- macro F1, with a bootstrap interval; precision, recall and F1 of each language
- confusion matrix, accuracy of each speaker, the recordings that were most wrong
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from langid_fastai.errors import ModelError

if TYPE_CHECKING:
    from fastai.learner import Learner

__all__ = [
    "PUBLISHED_SEED",
    "predict_images",
    "average_clips",
    "wilson_interval",
    "bootstrap_interval",
    "macro_f1",
    "evaluate",
    "predictions_table",
]

# The hobby project this library grew from, on Kaggle's toponowicz/spoken-language-identification;
# figures from its README: validation accuracy after each of three stages, test accuracy on the
# 540 test clips (511 right). Which clips validated it does not say.
PUBLISHED_SEED: dict[str, Any] = {
    "system": "hobby project: fastai, ResNet152, 7 + 12 + 8 epochs, the same Kaggle set",
    "valid": [0.945, 0.976, 0.986],
    "test": 0.9463,
}

CLIP_COLUMNS = ("path", "offset", "image", "language", "speaker", "group")
RECORDING_COLUMNS = ("path", "language", "speaker", "group", "n_clips")

N_DRAWS = 1000  # each end of a 95 % interval then rests on the 25 outermost draws
MIN_GROUPS = 10  # a language with fewer gets a warning
MAX_TOP_LOSSES = 12  # as many pictures as one looks through


def predict_images(learn: Learner, images: list[Path]) -> np.ndarray:
    """Score spectrogram images, in float32 whatever the learner trains in.

    Returns
    -------
    log_probs : float32, (n_images, n_languages), columns in the order of `learn.dls.vocab`
    """
    import torch

    from langid_fastai.learner import full_precision

    if not images:
        raise ModelError("images=[] must name at least one file; does the split hold any clip?")
    dl = learn.dls.test_dl(images)
    with learn.no_bar(), full_precision(learn):
        log_probs, _ = learn.get_preds(dl=dl, act=lambda x: torch.log_softmax(x, dim=-1))
    return np.asarray(log_probs)


def average_clips(clips: pd.DataFrame, log_probs: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Average the scores of each recording's clips in log space, and let them sum to one again.

    Parameters
    ----------
    clips : one row a clip, at least `CLIP_COLUMNS`; further columns are kept
    log_probs : (n_clips, n_languages)

    Returns
    -------
    recordings : one row a `path`, in order of first appearance; `n_clips` added, `offset` and
        `image` dropped
    log_probs : float64, (n_recordings, n_languages)

    Raises
    ------
    ModelError : the scores do not fit the clips, or are not log-probabilities

    Examples
    --------
    >>> clips = pd.DataFrame(
    ...     {"path": ["a", "a"], "offset": [0, 10], "image": ["a@0.png", "a@10.png"],
    ...      "language": "de", "speaker": "ann", "group": "ann"})
    >>> recordings, log_probs = average_clips(clips, np.log([[0.8, 0.2], [0.5, 0.5]]))
    >>> recordings["n_clips"].item(), np.exp(log_probs).round(3).tolist()
    (2, [[0.667, 0.333]])
    """
    log_probs = _validate_scores(clips, log_probs, CLIP_COLUMNS)
    recordings = clips.drop_duplicates("path").drop(columns=["offset", "image"])
    recording, _ = pd.factorize(clips["path"])  # (n_clips,), numbered by first appearance
    means = pd.DataFrame(log_probs).groupby(recording).mean().to_numpy()
    means = means - np.logaddexp.reduce(means, axis=1, keepdims=True)
    return recordings.reset_index(drop=True).assign(n_clips=np.bincount(recording)), means


def wilson_interval(n_correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share of independent trials (Wilson 1927); sound even where all succeed.

    Examples
    --------
    >>> low, high = wilson_interval(511, 540)
    >>> round(low, 3), round(high, 3)
    (0.924, 0.962)
    """
    from scipy.stats import binomtest

    if n < 1 or not 0 <= n_correct <= n:
        raise ModelError(f"n_correct={n_correct}, n={n} must satisfy 0 <= n_correct <= n, 1 <= n")
    interval = binomtest(int(n_correct), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    groups: Sequence[str] | pd.Series,
    *,
    n_draws: int = N_DRAWS,
    confidence: float = 0.95,
    seed: int = 0,
) -> np.ndarray | None:
    """Percentile interval of a statistic when whole groups are drawn with replacement.

    A draw gives each row a weight, how often its group was drawn; no row is copied. Groups are
    drawn by sorted name, so the order of the rows has no effect.

    Parameters
    ----------
    statistic : weights, int (n,) -> a number, or an array of one shape for all draws
    groups : (n,), group of each row

    Returns
    -------
    interval : (..., 2), low and high of each number of the statistic; None where all rows are of
        one group, since nothing then tells how groups differ

    Examples
    --------
    >>> correct = np.array([1, 1, 0, 0])
    >>> interval = bootstrap_interval(
    ...     lambda weights: np.average(correct, weights=weights), ["ann", "ann", "bob", "bob"])
    >>> interval.tolist()
    [0.0, 1.0]
    """
    if not len(groups):
        raise ModelError("groups=[] must name the group of at least one row")
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) == 1:
        return None
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_draws):
        drawn = rng.integers(len(names), size=len(names))
        draws.append(statistic(np.bincount(drawn, minlength=len(names))[group]))
    tail = (1 - confidence) / 2
    return np.moveaxis(np.quantile(np.asarray(draws), [tail, 1 - tail], axis=0), 0, -1)


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 of the languages spoken in the test, from counts whose rows are the truth.

    A language nobody spoke has no recall and is left out, in a bootstrap draw too. Recordings
    mistaken for it still count as missed.

    Examples
    --------
    >>> round(macro_f1(np.array([[2, 0, 0], [1, 0, 1], [0, 0, 0]])), 3)
    0.4
    """
    spoken, named = confusion.sum(axis=1), confusion.sum(axis=0)
    present = spoken > 0
    return float(np.mean(2 * confusion.diagonal()[present] / (spoken + named)[present]))


def evaluate(
    clips: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], *, seed: int = 0
) -> dict:
    """Compute the figures of a test: the section `test` of ``metrics.json``.

    Parameters
    ----------
    clips : one row a clip, at least `CLIP_COLUMNS`; `gender` is used where present
    log_probs : (n_clips, n_languages)
    vocab : (n_languages,), the languages of the columns
    seed : of the bootstrap

    Returns
    -------
    metrics : plain Python values, ready for JSON; by recording except for the rates of `clips`.
        `confusion` has the truth in rows; `speakers` and `top_losses` stand worst first

    Raises
    ------
    ModelError : the scores, the clips and the vocab do not fit together
    """
    vocab, log_probs = [str(label) for label in vocab], np.asarray(log_probs)
    recordings, means = average_clips(clips, log_probs)
    clip_truth, truth = _encode(clips, log_probs, vocab), _encode(recordings, means, vocab)
    predicted = means.argmax(axis=1)
    recordings["image"] = recordings["path"].map(_worst_images(clips, clip_truth, log_probs))
    return {
        "n_clips": len(clips),
        "n_recordings": len(recordings),
        "n_groups": recordings["group"].nunique(),
        "n_speakers": len(set(recordings["speaker"]) - {""}),
        "clips": _rates(clip_truth, log_probs, clips["group"], seed),
        "recordings": _rates(truth, means, recordings["group"], seed),
        "languages": _language_rates(truth, predicted, vocab),
        "confusion": {"labels": vocab, "matrix": _confusion(truth, predicted, len(vocab)).tolist()},
        "speakers": _speaker_rows(recordings, predicted == truth),
        "top_losses": _top_losses(recordings, truth, means, vocab),
        "warnings": _warnings(recordings, vocab),
    }


def predictions_table(
    recordings: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str]
) -> pd.DataFrame:
    """Lay out what `average_clips` returned as in ``predictions.csv``.

    The columns are `RECORDING_COLUMNS`, `predicted`, `score`, and one `p_<label>` a language;
    probabilities are rounded to 6 digits.
    """
    labels = [str(label) for label in vocab]
    log_probs = _validate_scores(recordings, log_probs, RECORDING_COLUMNS)
    _encode(recordings, log_probs, labels)  # for its checks
    probs = np.exp(log_probs).round(6)
    scores = pd.DataFrame(probs, columns=[f"p_{label}" for label in labels])
    scores.insert(0, "predicted", np.array(labels)[log_probs.argmax(axis=1)])
    scores.insert(1, "score", probs.max(axis=1))
    return pd.concat([recordings[list(RECORDING_COLUMNS)].reset_index(drop=True), scores], axis=1)


def _rates(truth: np.ndarray, log_probs: np.ndarray, groups: pd.Series, seed: int) -> dict:
    """Accuracy and macro F1 with their intervals, over clips or over recordings."""
    predicted = log_probs.argmax(axis=1)

    def accuracy_and_f1(weights: np.ndarray) -> np.ndarray:
        confusion = _confusion(truth, predicted, log_probs.shape[1], weights)
        return np.array([confusion.trace() / confusion.sum(), macro_f1(confusion)])

    accuracy, f1 = accuracy_and_f1(np.ones(len(truth))).tolist()
    intervals = bootstrap_interval(accuracy_and_f1, groups, seed=seed)
    accuracy_bootstrap, f1_bootstrap = [None, None] if intervals is None else intervals.tolist()
    return {
        "accuracy": accuracy,
        "accuracy_wilson": list(wilson_interval((truth == predicted).sum(), len(truth))),
        "accuracy_bootstrap": accuracy_bootstrap,
        "macro_f1": f1,
        "macro_f1_bootstrap": f1_bootstrap,
    }


def _confusion(
    truth: np.ndarray, predicted: np.ndarray, n_languages: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Counts, int (n_languages, n_languages), rows = truth."""
    # As scikit-learn's confusion_matrix, whose checks would cost seconds in a thousand draws.
    cells = np.bincount(truth * n_languages + predicted, weights, minlength=n_languages**2)
    return cells.reshape(n_languages, n_languages).astype(int)


def _language_rates(truth: np.ndarray, predicted: np.ndarray, vocab: list[str]) -> dict:
    """Precision, recall, F1 and number of recordings of each language of the vocab."""
    from sklearn.metrics import precision_recall_fscore_support

    labels = range(len(vocab))
    columns = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    names = ["precision", "recall", "f1", "n_recordings"]
    table = pd.DataFrame(dict(zip(names, columns, strict=True)), index=vocab, dtype=object)
    return table.to_dict("index")


def _speaker_rows(recordings: pd.DataFrame, correct: np.ndarray) -> list[dict]:
    """Accuracy of each voice in each language, worst first.

    Where a group holds several speakers, such as the readers of one book, each has a row.
    """
    gender = recordings["gender"].fillna("") if "gender" in recordings else ""
    rows = recordings.assign(gender=gender, correct=correct)
    table = rows.groupby(["group", "speaker", "language"]).agg(
        gender=("gender", "first"),
        n_recordings=("path", "size"),
        n_clips=("n_clips", "sum"),
        accuracy=("correct", "mean"),
    )
    table = table.reset_index().sort_values(["accuracy", "language", "group", "speaker"])
    order = ["speaker", "group", "language", "gender", "n_recordings", "n_clips", "accuracy"]
    return table[order].astype(object).to_dict("records")


def _worst_images(clips: pd.DataFrame, truth: np.ndarray, log_probs: np.ndarray) -> pd.Series:
    """Image of each recording's clip of largest loss, by path."""
    clips = clips.assign(loss=-log_probs[np.arange(len(truth)), truth])
    worst_first = clips.sort_values(["loss", "offset"], ascending=[False, True])
    return worst_first.drop_duplicates("path").set_index("path")["image"].map(str)


def _top_losses(
    recordings: pd.DataFrame, truth: np.ndarray, log_probs: np.ndarray, vocab: list[str]
) -> list[dict]:
    """The wrong recordings, largest cross-entropy first, at most `MAX_TOP_LOSSES`."""
    predicted = log_probs.argmax(axis=1)
    table = recordings[["path", "language"]].assign(
        predicted=np.array(vocab)[predicted],
        score=np.exp(log_probs.max(axis=1)),
        loss=-log_probs[np.arange(len(truth)), truth],
        image=recordings["image"],
    )
    worst_first = table[predicted != truth].sort_values(["loss", "path"], ascending=[False, True])
    return worst_first.head(MAX_TOP_LOSSES).astype(object).to_dict("records")


def _warnings(recordings: pd.DataFrame, vocab: list[str]) -> list[str]:
    """What limits the figures, a sentence each."""
    unit = "speaker" if (recordings["speaker"] == recordings["group"]).all() else "group"
    n_groups = recordings.groupby("language")["group"].nunique()
    sentences = []
    if few := ", ".join(f"{x} {n}" for x, n in n_groups.items() if n < MIN_GROUPS):
        sentences.append(
            f"the test rests on few {unit}s ({few}); below {MIN_GROUPS} a language, the interval "
            f"is wide and a single {unit} can decide it"
        )
    if recordings["group"].nunique() == 1:
        sentences.append(f"the test rests on one {unit}, so there is no bootstrap interval")
    if n_unknown := (recordings["speaker"] == "").sum():
        sentences.append(
            f"the speaker of {n_unknown} of {len(recordings)} recordings is unknown; if one is in "
            "several groups, the true intervals are wider than those shown"
        )
    if absent := ", ".join(x for x in vocab if x not in n_groups):
        sentences.append(f"no recording of {absent} was tested; macro F1 is over the others")
    return sentences


def _encode(rows: pd.DataFrame, log_probs: np.ndarray, vocab: list[str]) -> np.ndarray:
    """Position of each row's language in the vocab, int (n,)."""
    if log_probs.shape[1] != len(vocab) or len(set(vocab)) != len(vocab):
        raise ModelError(
            f"vocab={vocab} must name each of the {log_probs.shape[1]} columns of log_probs once"
        )
    truth = pd.Index(vocab).get_indexer(rows["language"])
    unknown = sorted(set(rows["language"][truth < 0]))
    if unknown:
        raise ModelError(
            f"language {unknown[0]!r} of {rows['path'][truth < 0].iloc[0]} is not in the model's "
            f"vocab={vocab}; test on the languages it knows, or train it on this one"
        )
    return truth


def _validate_scores(
    rows: pd.DataFrame, log_probs: np.ndarray, columns: Sequence[str]
) -> np.ndarray:
    """Return the scores as float64, if they fit the table and are log-probabilities."""
    missing = [column for column in columns if column not in rows]
    if missing:
        raise ModelError(f"the table lacks the columns {missing}; it has {list(rows.columns)}")
    if rows[list(columns)].isna().any(axis=None) or (rows["group"] == "").any():
        raise ModelError(
            "the table holds NaN or an empty group; leave unknown text empty, group by path"
        )
    log_probs = np.asarray(log_probs, dtype=np.float64)
    if log_probs.ndim != 2 or not 0 < len(rows) == len(log_probs):
        raise ModelError(
            f"log_probs.shape={log_probs.shape} must be (n, n_languages), where n={len(rows)} is "
            "the number of rows of the table and at least 1"
        )
    total = np.exp(np.minimum(log_probs, 1)).sum(axis=1)  # capped, raw activations may overflow
    # A float32 log-softmax errs by 1e-6. NaN passes no comparison, so ask for what is sound.
    is_sound = np.isfinite(log_probs).all(axis=1) & (np.abs(total - 1) < 1e-3)
    if not is_sound.all():
        raise ModelError(
            f"{rows['path'][~is_sound].iloc[0]}: exp(log_probs) must be finite and sum to 1; did "
            "you pass probabilities or raw activations, or did the training diverge?"
        )
    return log_probs
