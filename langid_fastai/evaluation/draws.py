"""Compute the metrics of `metrics` and `detection` for many bootstrap draws at a time.

A draw changes how often rows count, not their scores. So the rows of one group in one language, a
*unit*, are summed once, and the sums for all draws are matrix products.

Two metrics depend on the order of scores: EER and minimum Cavg. They are computed from the curve of
misses against false alarms, which has corners only at the scores of target trials. So trials are
counted in *slots*: one for each of these scores, and one between each two. To save time, only a
band of slots is counted separately, chosen to contain the result of nearly every draw. Trials above
the band are counted in its first slot, trials below in its last. If the result of a draw may be
outside the band, it is computed again with all slots.

Conventions: ``draws`` is int (n_draws, n_groups), how often each group was drawn, in the order of
`number_groups`; ``truth`` and ``log_probs`` are those of `metrics`; ``group`` is the index of each
row's group, int (n,).

Contents: `draw_rates`, `draw_language_rates`, `draw_decisions` and `draw_probabilities` make
functions from draws to metrics, for `interval_of_draws`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from langid_fastai.evaluation.detection import COSTS, Trials, equal_rate
from langid_fastai.evaluation.metrics import N_BINS, confidence_bins

__all__ = ["draw_rates", "draw_language_rates", "draw_decisions", "draw_probabilities"]

Statistic = Callable[[np.ndarray], np.ndarray]
BAND = 2.0  # the band contains rates up to this multiple of those of the test; at least 1


def draw_rates(trials: Trials, group: np.ndarray) -> Statistic:
    """Make a function that computes `METRICS` for draws, (n_draws, n_metrics)."""
    truth, log_probs = trials.truth, trials.log_probs
    decisions = draw_decisions(truth, log_probs.argmax(axis=1), log_probs.shape[1], group)
    probabilities = draw_probabilities(truth, log_probs, group)
    detection = _draw_detection(trials, group)
    return lambda draws: np.column_stack([decisions(draws), detection(draws), probabilities(draws)])


def draw_language_rates(trials: Trials, group: np.ndarray) -> Statistic:
    """Make a function that computes precision, recall, F1 and EER, (n_draws, n_languages, 4).

    All four are NaN for a language that does not occur in the draw.
    """
    n_languages = trials.llr.shape[1]
    units = _Units(trials.truth, group, n_languages)
    named = units.table(trials.log_probs.argmax(axis=1), n_languages)
    curves = {k: _language_slots(units, trials.llr[:, k], k) for k in trials.spoken.tolist()}

    def rates(draws: np.ndarray) -> np.ndarray:
        weights = units.weights(draws)
        spoken, right = units.spoken @ weights, units.right(named) @ weights
        rates = np.full((4, n_languages, len(draws)), np.nan)
        occurs = spoken > 0
        rates[0] = right / np.maximum(named @ weights, 1)
        rates[1] = right / np.maximum(spoken, 1)
        rates[2] = 2 * right / np.maximum(spoken + named @ weights, 1)
        for k, (hits, alarms) in curves.items():
            rates[3, k] = _equal_rates(hits @ weights, alarms @ weights)[0]
        return np.moveaxis(np.where(occurs, rates, np.nan), 2, 0).swapaxes(1, 2)

    return rates


def draw_decisions(
    truth: np.ndarray, predicted: np.ndarray, n_languages: int, group: np.ndarray
) -> Statistic:
    """Make a function that computes accuracy, balanced accuracy and macro F1, (n_draws, 3)."""
    units = _Units(truth, group, n_languages)
    named = units.table(predicted, n_languages)
    correct = units.right(named)

    def rates(draws: np.ndarray) -> np.ndarray:
        weights = units.weights(draws)
        spoken, right = units.spoken @ weights, correct @ weights  # (n_languages, n_draws)
        n_spoken = (spoken > 0).sum(axis=0)
        f1 = 2 * right / np.maximum(spoken + named @ weights, 1)
        return np.column_stack(
            [
                right.sum(axis=0) / spoken.sum(axis=0),
                (right / np.maximum(spoken, 1)).sum(axis=0) / n_spoken,
                np.where(spoken > 0, f1, 0).sum(axis=0) / n_spoken,
            ]
        )

    return rates


def draw_probabilities(truth: np.ndarray, log_probs: np.ndarray, group: np.ndarray) -> Statistic:
    """Make a function that computes log loss and calibration error, (n_draws, 2)."""
    confidence, bins = confidence_bins(log_probs)
    excess = (log_probs.argmax(axis=1) == truth) - confidence
    losses = np.bincount(group, -log_probs[np.arange(len(truth)), truth])
    n_rows = np.bincount(group)
    gaps = csr_array((excess, (bins, group)), shape=(N_BINS, len(n_rows)))

    def rates(draws: np.ndarray) -> np.ndarray:
        n = draws @ n_rows
        return np.column_stack([draws @ losses / n, np.abs(gaps @ draws.T).sum(axis=0) / n])

    return rates


class _Units:
    """The rows of a test, summed by unit: the rows of one group in one language."""

    def __init__(self, truth: np.ndarray, group: np.ndarray, n_languages: int) -> None:
        units, self.unit = np.unique(group * n_languages + truth, return_inverse=True)
        self.truth, self.n_languages = truth, n_languages
        self.group_of, self.truth_of = np.divmod(units, n_languages)
        self.spoken = self.table(truth, n_languages)

    def weights(self, draws: np.ndarray) -> np.ndarray:
        """Return how often each unit counts in each draw, (n_units, n_draws)."""
        return draws.T[self.group_of].astype(float)

    def table(
        self, row: np.ndarray, n_rows: int, of: np.ndarray | slice = slice(None)
    ) -> csr_array:
        """Count the rows of the test in a table with one column per unit, (n_rows, n_units).

        Parameters
        ----------
        row : row of the table in which each row of the test is counted, int (n,)
        n_rows : number of rows of the table
        of : rows of the test to count, if not all; `row` is then for these only
        """
        unit = self.unit[of]
        shape = (n_rows, len(self.truth_of))
        return csr_array((np.ones(len(unit)), (row, unit)), shape=shape)

    def right(self, named: csr_array) -> csr_array:
        """Keep only the counts of each unit's own language, in a table with a row per language."""
        own = csr_array(
            (np.ones(len(self.truth_of)), (self.truth_of, np.arange(len(self.truth_of)))),
            shape=named.shape,
        )
        return named * own


def _draw_detection(trials: Trials, group: np.ndarray) -> Statistic:
    """Make a function that computes EER, Cavg and minimum Cavg, (n_draws, 3)."""
    truth, llr = trials.truth, trials.llr
    units = _Units(truth, group, llr.shape[1])
    if len(trials.spoken) < 2:
        return lambda draws: np.full((len(draws), 3), np.nan)
    accepted = llr >= COSTS.threshold
    hit = accepted[np.arange(len(truth)), truth]
    missed = units.table(truth[~hit], llr.shape[1], ~hit).sum(axis=0)  # (n_units,)
    accepted[np.arange(len(truth)), truth] = False
    rows, languages = np.nonzero(accepted)
    alarms = units.table(languages, llr.shape[1], rows)
    slots = _PooledSlots(units, trials)

    def rates(draws: np.ndarray) -> np.ndarray:
        weights = units.weights(draws)
        counts = units.spoken @ weights  # (n_languages, n_draws)
        spoken = counts > 0
        shares = weights / np.maximum(counts, 1)[units.truth_of]
        n_spoken = spoken.sum(axis=0)
        pairs = np.maximum(n_spoken * (n_spoken - 1), 1)
        cost = COSTS.of(
            missed @ shares / n_spoken, ((alarms @ shares) * spoken).sum(axis=0) / pairs
        )
        eer, lowest = slots.rates(weights, shares, spoken)
        return np.where(n_spoken > 1, [eer, cost, lowest], np.nan).T

    return rates


class _PooledSlots:
    """All trials, counted by slot, and the band of slots that is counted separately."""

    def __init__(self, units: _Units, trials: Trials) -> None:
        self.units, self.languages, truth = units, trials.spoken, trials.truth
        self.target_scores = np.unique(trials.llr[np.arange(len(truth)), truth])
        self.slot = _slots(self.target_scores, trials.llr).astype(np.int32)  # (n, n_languages)
        self.all = (0, 2 * len(self.target_scores))
        self.band = self._band(trials)
        self.tables: dict[tuple[tuple[int, int], int | None], csr_array] = {}

    def rates(
        self, weights: np.ndarray, shares: np.ndarray, spoken: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute EER and minimum Cavg of each draw, (n_draws,) each.

        Parameters
        ----------
        weights : how often each unit counts, (n_units, n_draws)
        shares : the same, divided by the number of drawn rows in the unit's language
        spoken : whether a language occurs in a draw, bool (n_languages, n_draws)
        """
        eer, lowest, is_sure = self._rates(self.band, weights, shares, spoken)
        again = np.flatnonzero(~is_sure)
        if len(again):
            eer[again], lowest[again], _ = self._rates(
                self.all, weights[:, again], shares[:, again], spoken[:, again]
            )
        return eer, lowest

    def _rates(
        self,
        band: tuple[int, int],
        weights: np.ndarray,
        shares: np.ndarray,
        spoken: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_draws, both = weights.shape[1], np.hstack([weights, shares])
        hits, alarms = self._hits(band) @ both, self._alarms(band) @ both
        for language in self.languages[~spoken[self.languages].all(axis=1)]:
            absent = np.flatnonzero(~np.tile(spoken[language], 2))
            alarms[:, absent] -= self._alarms(band, language) @ both[:, absent]

        eer, step = _equal_rates(hits[:, :n_draws], alarms[:, :n_draws])
        is_sure = (step > 0) | (band[0] == 0)
        is_sure &= (step < len(hits) - 1) | (band[1] == self.all[1])

        n_spoken = spoken.sum(axis=0)
        pairs = np.maximum(n_spoken * (n_spoken - 1), 1)
        # Rates before the first slot and after each. Summed from below: no miss is exactly 0.
        hits, alarms = hits[:, n_draws:], alarms[:, n_draws:]
        missed = _from_zero(hits[::-1])[::-1] / n_spoken
        accepted = _from_zero(alarms) / pairs
        lowest = np.min(COSTS.of(missed, accepted), axis=0)
        # Inside the first slot, at least as many are missed as after it; inside the last, at
        # least as many are accepted as before it.
        is_sure &= (COSTS.of(missed[1], 0.0) >= lowest) | (band[0] == 0)
        is_sure &= (COSTS.of(0.0, accepted[-2]) >= lowest) | (band[1] == self.all[1])
        return eer, lowest, is_sure

    def _band(self, trials: Trials) -> tuple[int, int]:
        """Choose the first and last slot of the band, from the curves of the test."""
        highest, lowest = [], []
        for false_alarm, miss, threshold in (trials.pooled, trials.balanced):
            least = BAND * np.min(COSTS.of(miss, false_alarm))
            rate = BAND * equal_rate(false_alarm, miss)
            is_above = (miss > rate) & (COSTS.of(miss, 0.0) > least)
            is_below = (false_alarm > rate) & (COSTS.of(0.0, false_alarm) > least)
            highest.append(threshold[is_above].min(initial=np.inf))
            lowest.append(threshold[is_below].max(initial=-np.inf))
        first, last = _slots(self.target_scores, np.array([max(highest), min(lowest)]))
        return int(first), int(last)

    def _hits(self, band: tuple[int, int]) -> csr_array:
        truth = self.units.truth
        own = self.slot[np.arange(len(truth)), truth]
        return self.units.table(own.clip(*band) - band[0], band[1] - band[0] + 1)

    def _alarms(self, band: tuple[int, int], language: int | None = None) -> csr_array:
        """Count non-target trials by slot, for one language or for all that occur."""
        if (band, language) not in self.tables:
            truth = self.units.truth
            languages = self.languages if language is None else np.array([language])
            rows, columns = np.nonzero(truth[:, None] != languages)
            slot = self.slot[rows, languages[columns]].clip(*band) - band[0]
            table = self.units.table(slot, band[1] - band[0] + 1, rows)
            self.tables[band, language] = table
        return self.tables[band, language]


def _language_slots(
    units: _Units, scores: np.ndarray, language: int
) -> tuple[csr_array, csr_array]:
    """Count target and non-target trials of one language by slot, (n_slots, n_units) each."""
    is_target = units.truth == language
    target_scores = np.unique(scores[is_target])
    slot, n_slots = _slots(target_scores, scores), 2 * len(target_scores) + 1
    return (
        units.table(slot[is_target], n_slots, is_target),
        units.table(slot[~is_target], n_slots, ~is_target),
    )


def _slots(target_scores: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the slot of each score; slots count down from the highest score.

    A score equal to a target score has an odd slot; one between target scores, an even slot.
    """
    below = np.searchsorted(target_scores, scores, "left")
    return 2 * len(target_scores) - below - np.searchsorted(target_scores, scores, "right")


def _equal_rates(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the equal error rate of each draw, NaN if undefined, and the slot where it occurs.

    Parameters
    ----------
    hits, alarms : numbers of target and non-target trials in each slot, (n_slots, n_draws)
    """
    hits, alarms = _from_zero(hits), _from_zero(alarms)
    is_defined = (hits[-1] > 0) & (alarms[-1] > 0)
    false_alarm = alarms / np.where(is_defined, alarms[-1], 1)
    miss = 1 - hits / np.where(is_defined, hits[-1], 1)
    false_alarm[-1], miss[-1] = 1.0, 0.0  # not used where undefined
    rates = equal_rate(false_alarm, miss)
    return np.where(is_defined, rates, np.nan), (miss > false_alarm).sum(axis=0) - 1


def _from_zero(counts: np.ndarray) -> np.ndarray:
    """Return cumulative sums of the rows, after a row of zeros."""
    return np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])
