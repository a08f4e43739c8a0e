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
`scores` predicts and averages, `metrics` are pure functions of scores, `intervals` say how far a
figure can be trusted, `measures` puts them together as ``metrics.json`` keeps them.
"""

from langid_fastai.evaluation.intervals import bootstrap_interval, wilson_interval
from langid_fastai.evaluation.measures import evaluate
from langid_fastai.evaluation.metrics import count_confusions, macro_f1
from langid_fastai.evaluation.published import PUBLISHED_SEED
from langid_fastai.evaluation.scores import average_clips, predict_images, predictions_table

__all__ = [
    "PUBLISHED_SEED",
    "average_clips",
    "bootstrap_interval",
    "count_confusions",
    "evaluate",
    "macro_f1",
    "predict_images",
    "predictions_table",
    "wilson_interval",
]
