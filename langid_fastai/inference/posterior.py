"""Turn the log-probabilities of a model into answers, according to the options of a call.

A model only scores its own languages, even for other input. The options `candidates`,
`prior` and `unknown` refine the answer:

- The *posterior* is the sum of the log-probabilities of the candidates and the log of their prior,
  renormalised: Bayes' rule, for a model calibrated under a flat prior.
- The answer is *unknown* if no candidate has a probability of at least the model's threshold. These
  probabilities are not renormalised over the candidates nor weighted by the prior, since neither
  option makes the model more confident.

Contents: `Choice`, the validated options of a call; `mean_log_probs` and `answers_of`, for one
recording.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from langid_fastai.errors import ModelError, SilentError
from langid_fastai.inference.windows import are_pauses
from langid_fastai.models.model_info import UNKNOWN, ModelInfo

__all__ = ["UNKNOWN", "Answer", "Choice", "answers_of", "mean_log_probs"]

LARGEST_PRIOR = 1e12  # only ratios of priors matter; no realistic ratio is larger


class Answer(TypedDict):
    """A language and its calibrated probability."""

    label: str
    score: float


class Choice:
    """Validated options of a call: candidates, prior and threshold.

    Parameters
    ----------
    info : content of the ``model.json``
    candidates, prior, unknown : as in a call of `LanguageIdentifier`

    Attributes
    ----------
    labels : labels of the candidates, in the order of the vocab
    threshold : probability below which the answer is "unknown"; None if `unknown` is False

    Raises
    ------
    ModelError : the model does not support an option, e.g. a label is not in its vocab
    """

    labels: list[str]
    threshold: float | None

    def __init__(
        self,
        info: ModelInfo,
        candidates: Iterable[str] | None = None,
        prior: Mapping[str, float] | None = None,
        unknown: bool = False,
    ) -> None:
        threshold = info.calibration.threshold
        if unknown and threshold is None:
            raise ModelError(
                "the answer 'unknown' is not available, because this model has no threshold for "
                f"it: {info.calibration.no_threshold}. Choose one for a higher rate by: langid "
                "evaluate RUN --false-alarm-rate RATE"
            )
        self.threshold = threshold if unknown else None
        self._columns = _columns(info.vocab, candidates)
        self.labels = [info.vocab[i] for i in self._columns]
        self._log_prior = _log_prior(self.labels, prior, info.vocab)

    def log_posterior(self, log_probs: np.ndarray) -> np.ndarray:
        """Restrict to the candidates and weight by their prior.

        Parameters
        ----------
        log_probs : (n_languages,), natural logarithm, calibrated

        Returns
        -------
        log_posterior : (n_candidates,), in the order of `labels`
        """
        weighted = log_probs[self._columns] + self._log_prior
        return weighted - np.logaddexp.reduce(weighted)

    def highest(self, log_probs: np.ndarray) -> float:
        """Return the log-probability of the best candidate, without the prior."""
        return float(log_probs[self._columns].max())


def mean_log_probs(name: str, scores: Sequence[np.ndarray], levels: Sequence[float]) -> np.ndarray:
    """Average the scores of the windows of one recording, leaving out pauses.

    Parameters
    ----------
    name : name of the recording, for error messages
    scores : log-probabilities of the windows that are not silent, each (n_languages,)
    levels : `sound_level` of each of these windows

    Returns
    -------
    log_probs : (n_languages,), natural logarithm, calibrated

    Raises
    ------
    SilentError : there are no windows
    ModelError : scores are not finite
    """
    if not scores:
        raise SilentError(f"{name}: silent from start to end")
    spoken = np.stack(scores)[~are_pauses(np.array(levels))]
    mean = spoken.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise ModelError(
            f"{name}: its scores are not finite; did the training of the model diverge?"
        )
    return mean - np.logaddexp.reduce(mean)


def answers_of(log_probs: np.ndarray, choice: Choice, top_k: int) -> list[Answer]:
    """Rank the languages of one recording.

    Parameters
    ----------
    log_probs : (n_languages,), natural logarithm, calibrated
    choice : candidates, prior and threshold
    top_k : maximum number of answers

    Returns
    -------
    answers : most probable first; preceded by "unknown" if no language is probable enough
    """
    scores = np.exp(choice.log_posterior(log_probs))
    order = np.argsort(-scores, kind="stable")
    answers = [Answer(label=choice.labels[i], score=float(scores[i])) for i in order]
    highest = math.exp(choice.highest(log_probs))
    if choice.threshold is not None and highest < choice.threshold:
        answers.insert(0, Answer(label=UNKNOWN, score=1 - highest))
    return answers[:top_k]


def _columns(vocab: Sequence[str], candidates: Iterable[str] | None) -> list[int]:
    """Return the positions of the candidates in the vocab."""
    if candidates is None:
        return list(range(len(vocab)))
    if not isinstance(candidates, Iterable):
        raise ModelError(f"candidates={candidates!r} must be a list of languages")
    if isinstance(candidates, str):
        raise ModelError(f"candidates={candidates!r} must be a list, as {candidates.split(',')}")
    wanted = list(candidates)
    if not wanted:
        raise ModelError("candidates=[] must name at least one language")
    _validate_labels("candidates", wanted, vocab)
    return [i for i, label in enumerate(vocab) if label in wanted]


def _log_prior(
    candidates: Sequence[str], prior: Mapping[str, float] | None, vocab: Sequence[str]
) -> np.ndarray:
    """Return the natural logarithm of each candidate's prior, -inf for 0."""
    if prior is None:
        return np.zeros(len(candidates))
    _validate_labels("prior", prior, vocab)
    if missing := [label for label in candidates if label not in prior]:
        raise ModelError(
            f"prior lacks {missing[0]!r}; give every language a number, 0 if it is impossible, or "
            "list the possible ones in candidates"
        )
    weights = [prior[label] for label in candidates]
    if not all(isinstance(weight, (int, float)) for weight in weights):
        raise ModelError(f"prior={dict(prior)} must be numbers")
    if not all(0 <= weight <= LARGEST_PRIOR for weight in weights) or not any(weights):
        raise ModelError(
            f"prior={dict(prior)} must be numbers from 0 to {LARGEST_PRIOR:g}, not all 0"
        )
    with np.errstate(divide="ignore"):
        return np.log(np.array(weights, dtype=np.float64))


def _validate_labels(what: str, labels: Iterable[str], vocab: Sequence[str]) -> None:
    for label in labels:
        if label not in vocab:
            near = difflib.get_close_matches(str(label), vocab, n=3)
            known = f"did you mean {', '.join(near)}?" if near else f"it knows {', '.join(vocab)}"
            raise ModelError(f"{what}: the model does not know {label!r}; {known}")
