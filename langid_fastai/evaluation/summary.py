"""Compute all metrics of a test, in the format of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from langid_fastai.corpus.groups import speakers_of
from langid_fastai.evaluation.breakdowns import (
    count_answers,
    duration_rows,
    gender_rows,
    language_rows,
    list_warnings,
    plain,
    plain_interval,
    speaker_rows,
    top_losses,
)
from langid_fastai.evaluation.detection import COSTS, Trials, det_points
from langid_fastai.evaluation.draws import draw_rates
from langid_fastai.evaluation.intervals import (
    interval_of_draws,
    number_groups,
    wilson_interval,
)
from langid_fastai.evaluation.metrics import count_confusions
from langid_fastai.evaluation.scores import CLIP_COLUMNS, average_clips, encode, validate_scores

__all__ = ["METRICS", "evaluate", "measure_rates"]

METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1"),  # of decisions
    *("eer", "cavg", "min_cavg"),  # of detection
    *("log_loss", "ece"),  # of probabilities
)


def evaluate(
    clips: pd.DataFrame, log_probs: np.ndarray, vocab: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Compute section `test` of ``metrics.json``: all metrics of a test.

    Parameters
    ----------
    clips : one row per clip, with at least `scores.CLIP_COLUMNS`; `gender`, and `duration` of the
        recording in s, are used if present
    log_probs : (n_clips, n_languages), natural logarithm
    vocab : (n_languages,), the languages of the columns
    seed : random seed of the bootstrap

    Returns
    -------
    metrics : plain Python values, ready for JSON. All are by recording, except `clips`. `clips` and
        `recordings` are from `measure_rates`, `answers` is from `count_answers`. Rows of
        `confusion` are true languages. `speakers` and `top_losses` are sorted worst first.
        Undefined values, such as the recall of a language without recordings, are None. The order
        of the clips has no effect

    Raises
    ------
    ModelError : the scores, the clips and the vocab are inconsistent
    """
    vocab = [str(label) for label in vocab]
    log_probs = validate_scores(clips, log_probs, CLIP_COLUMNS)
    order = np.lexsort((clips["offset"], clips["path"]))  # changes the last digit of sums
    clips, log_probs = clips.iloc[order], log_probs[order]
    recordings, means = average_clips(clips, log_probs)
    clip_truth, truth = encode(clips, log_probs, vocab), encode(recordings, means, vocab)
    predicted = means.argmax(axis=1)
    correct = predicted == truth
    trials = Trials(truth, means)
    confusion = count_confusions(truth, predicted, len(vocab))
    answers = count_answers(confusion, vocab)
    return {
        "n_clips": len(clips),
        "n_recordings": len(recordings),
        "n_groups": recordings["group"].nunique(),
        "n_speakers": len(set(speakers_of(recordings)) - {""}),
        "costs": asdict(COSTS),
        "clips": _measure_rates(Trials(clip_truth, log_probs), clips["group"], seed),
        "recordings": _measure_rates(trials, recordings["group"], seed),
        "languages": language_rows(recordings, trials, vocab, seed=seed),
        "confusion": {"labels": vocab, "matrix": confusion.tolist()},
        "answers": answers,
        "speakers": speaker_rows(recordings, correct),
        "genders": gender_rows(recordings, truth, predicted, len(vocab), seed=seed),
        "durations": duration_rows(recordings, correct, seed=seed),
        "det": det_points(trials),
        "top_losses": top_losses(clips, log_probs, recordings, means, vocab),
        "warnings": list_warnings(recordings, vocab, answers),
    }


def measure_rates(
    truth: np.ndarray, log_probs: np.ndarray, groups: Sequence[str] | pd.Series, *, seed: int = 0
) -> dict[str, Any]:
    """Compute all `METRICS` of scored clips or recordings, with their intervals.

    Parameters
    ----------
    truth : int (n,), position of each row's language in the vocab
    log_probs : float64, (n, n_languages)
    groups : (n,), group of each row
    seed : random seed of the bootstrap

    Returns
    -------
    rates : each metric; its bootstrap interval over groups, `<metric>_bootstrap`, None if there is
        only one group; and `accuracy_wilson`. EER and Cavg are None if the rows are in only one
        language; their intervals ignore draws in only one language

    Examples
    --------
    >>> rates = measure_rates(np.array([0, 1]), np.log([[0.9, 0.1], [0.6, 0.4]]), ["ann", "bob"])
    >>> rates["accuracy"], rates["accuracy_bootstrap"], rates["cavg"]
    (0.5, [0.0, 1.0], 0.5)
    """
    return _measure_rates(Trials(truth, log_probs), groups, seed)


def _measure_rates(trials: Trials, groups: Sequence[str] | pd.Series, seed: int) -> dict[str, Any]:
    n_groups, group = number_groups(groups)
    statistic = draw_rates(trials, group)
    points = statistic(np.ones((1, n_groups), dtype=int))[0]
    intervals = interval_of_draws(statistic, n_groups, n_cells=len(group), seed=seed)
    rates: dict[str, Any] = {}
    for k, name in enumerate(METRICS):
        rates[name] = plain(points[k])
        rates[f"{name}_bootstrap"] = None if intervals is None else plain_interval(intervals[k])
    n_correct = int((trials.log_probs.argmax(axis=1) == trials.truth).sum())
    return rates | {"accuracy_wilson": list(wilson_interval(n_correct, len(group)))}
