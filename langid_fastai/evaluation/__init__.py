"""Compute metrics, with confidence intervals, from the scores of clips.

A *recording* is one audio file and one row of the index. A *clip* is an excerpt of fixed length,
stored as one image. The score of a recording is the mean of the log-probabilities of its clips.
Every rate is reported for clips and for recordings.

Conventions
-----------
- Scores are natural-log probabilities, ``(n, n_languages)``, columns in the order of the vocab.
- Tables have one row per clip or recording, in the order of the scores. Unknown values in text
  columns are empty strings.
- Rates are in [0, 1]. Intervals are pairs ``low, high`` with a confidence of 95 %.
- A *group* is a set of recordings that a split keeps together: those of one speaker, if speakers
  are known. They are not independent, so the bootstrap draws whole groups.

Contents
--------
`scores` predicts clips and averages their scores by recording; `metrics` and `detection` compute
metrics from scores; `intervals` computes confidence intervals, and `draws` the metrics of many
bootstrap draws at a time; `paired` compares two systems; `summary` and `breakdowns` assemble
sections of ``metrics.json``; `calibration` fits the temperature and the threshold for "unknown";
`robustness` repeats the test on degraded clips; `baseline` is the classical reference; `published`
lists published results.
"""

from langid_fastai.evaluation.calibration import (
    apply_temperature,
    calibrate,
    measure_calibration,
    measure_unknown,
)
from langid_fastai.evaluation.detection import (
    COSTS,
    Costs,
    cavg,
    equal_error_rate,
    language_equal_error_rates,
    log_likelihood_ratios,
    min_cavg,
)
from langid_fastai.evaluation.intervals import (
    bootstrap_interval,
    share_with_intervals,
    wilson_interval,
)
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
from langid_fastai.evaluation.summary import METRICS, evaluate, measure_rates

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
