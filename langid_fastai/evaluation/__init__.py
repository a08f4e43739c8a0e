"""Scored clips in, figures with honest intervals out.

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

Contents
--------
`scores` predicts and averages; `metrics`, `detection` and `trials` are pure functions of scores;
`intervals` say how far a figure can be trusted, `paired` how far two systems are apart; `measures`
and `breakdowns` put them together as ``metrics.json`` keeps them; `calibration` makes scores mean
what they say and knows when to answer "unknown"; `robustness` tests again under harder conditions;
`baseline` is the classical reference; `published` what others reached.
"""

from langid_fastai.evaluation.calibration import (
    apply_temperature,
    calibrate,
    measure_calibration,
    measure_unknown,
)
from langid_fastai.evaluation.detection import (
    cavg,
    det_points,
    equal_error_rate,
    language_equal_error_rates,
    min_cavg,
)
from langid_fastai.evaluation.intervals import (
    bootstrap_interval,
    share_with_intervals,
    wilson_interval,
)
from langid_fastai.evaluation.measures import METRICS, evaluate, measure_rates
from langid_fastai.evaluation.metrics import (
    balanced_accuracy,
    count_confusions,
    expected_calibration_error,
    log_loss,
    macro_f1,
    precision_recall_f1,
    reliability,
)
from langid_fastai.evaluation.paired import compare_paired
from langid_fastai.evaluation.published import PUBLISHED, PUBLISHED_SEED
from langid_fastai.evaluation.scores import (
    average_clips,
    encode,
    predict_images,
    predictions_table,
)
from langid_fastai.evaluation.trials import COSTS, Costs, log_likelihood_ratios

__all__ = [
    "COSTS",
    "METRICS",
    "PUBLISHED",
    "PUBLISHED_SEED",
    "Costs",
    "apply_temperature",
    "average_clips",
    "balanced_accuracy",
    "bootstrap_interval",
    "calibrate",
    "cavg",
    "compare_paired",
    "count_confusions",
    "det_points",
    "encode",
    "equal_error_rate",
    "evaluate",
    "expected_calibration_error",
    "language_equal_error_rates",
    "log_likelihood_ratios",
    "log_loss",
    "macro_f1",
    "measure_calibration",
    "measure_rates",
    "measure_unknown",
    "min_cavg",
    "precision_recall_f1",
    "predict_images",
    "predictions_table",
    "reliability",
    "share_with_intervals",
    "wilson_interval",
]
