"""All figures of one test, as ``metrics.json`` keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from langid_fastai.evaluation.intervals import bootstrap_interval, wilson_interval
from langid_fastai.evaluation.metrics import count_confusions, macro_f1
from langid_fastai.evaluation.scores import average_clips, encode

__all__ = ["evaluate"]

MIN_GROUPS = 10  # a language with fewer gets a warning
MAX_TOP_LOSSES = 12  # as many pictures as one looks through


def evaluate(
    clips: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], *, seed: int = 0
) -> dict:
    """Compute the figures of a test: the section `test` of ``metrics.json``.

    Parameters
    ----------
    clips : one row a clip, at least `CLIP_COLUMNS` of `scores`; `gender` is used where present
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
    clip_truth, truth = encode(clips, log_probs, vocab), encode(recordings, means, vocab)
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
        "confusion": {
            "labels": vocab,
            "matrix": count_confusions(truth, predicted, len(vocab)).tolist(),
        },
        "speakers": _speaker_rows(recordings, predicted == truth),
        "top_losses": _top_losses(recordings, truth, means, vocab),
        "warnings": _warnings(recordings, vocab),
    }


def _rates(truth: np.ndarray, log_probs: np.ndarray, groups: pd.Series, seed: int) -> dict:
    """Accuracy and macro F1 with their intervals, over clips or over recordings."""
    predicted = log_probs.argmax(axis=1)

    def accuracy_and_f1(weights: np.ndarray) -> np.ndarray:
        confusion = count_confusions(truth, predicted, log_probs.shape[1], weights)
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
