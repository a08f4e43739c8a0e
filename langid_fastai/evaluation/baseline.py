"""Score a classical reference on the same split: a useful network must beat it.

The reference uses the same images as the network; for a network that takes audio clips, their mel
images are computed. From the decibels of an image, it computes 20 mel-frequency cepstral
coefficients (MFCC) per frame and their deltas. The features of a clip are the means and standard
deviations of these over the frames, 80 numbers. They are classified by logistic regression, without
tuning or augmentation, in seconds.

Contents: `score_baseline`, from two tables of clips to log-probabilities; `SYSTEM`, the name of the
reference; `mfcc_statistics`, the features of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from langid_fastai.clips.encoding import read_clip_image
from langid_fastai.errors import AudioError, ModelError
from langid_fastai.preprocessing import Kind
from langid_fastai.utils.progress import track

__all__ = ["SYSTEM", "mfcc_statistics", "score_baseline"]

SYSTEM = "mean and deviation of 20 MFCC and deltas, logistic regression"
# Name of the reference if the rows of the images are already coefficients or pitch classes.
ROW_SYSTEM = "mean and deviation of each row of the image, logistic regression"
ROW_KINDS = ("mfcc", "chroma")

N_MFCC = 20
# Far more iterations than needed for standardised features (about a hundred).
MAX_ITER = 10_000


def score_baseline(
    images: str | Path,
    train: pd.DataFrame,
    test: pd.DataFrame,
    vocab: Sequence[str],
    top_db: float,
    *,
    kind: Kind = "mel",
    n_jobs: int = -1,
) -> np.ndarray:
    """Fit the reference to the training images and score the test images.

    Parameters
    ----------
    images : folder of the images
    train, test : clips of the two splits, from `read_clips`; the column `image` is used, and in
        `train` also `language`
    vocab : (n_languages,), the languages of `train` in any order, at least two
    top_db : `top_db` of the images' `MelConfig`, dB
    kind : `kind` of the images' `MelConfig`; for `ROW_KINDS`, the features are `row_statistics`
    n_jobs : number of processes that read images; -1 for all cores

    Returns
    -------
    log_probs : float64, (n_test_clips, n_languages), natural logarithm, columns in the order of
        `vocab`; identical on every call

    Raises
    ------
    ModelError : the languages of the vocab and of the training clips differ, or an image cannot be
        read

    Examples
    --------
    ::

        train, test = (read_clips(images, corpus.index, x) for x in ("train", "test"))
        log_probs = score_baseline(images, train, test, info.vocab, info.mel.top_db)
    """
    from scipy.special import log_softmax
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vocab = list(vocab)
    if len(vocab) < 2 or set(vocab) != set(train["language"]):
        raise ModelError(
            f"vocab={vocab} must be the languages of the training clips, at least two; they are "
            f"{sorted(set(train['language']))}"
        )
    truth = pd.Index(vocab).get_indexer(pd.Index(train["language"]))
    names = [*train["image"], *test["image"]]
    read = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_read_features)(Path(images) / name, top_db, kind) for name in names
    )
    features = np.stack(list(track(read, total=len(names), what="classical baseline")))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITER))
    model.fit(features[: len(train)], truth)
    activations = model.decision_function(features[len(train) :])
    if len(vocab) == 2:  # scikit-learn returns only the log-odds of the second
        activations = np.column_stack([np.zeros(len(test)), activations])
    # Not predict_log_proba, which returns -inf where a probability underflows.
    return log_softmax(activations, axis=1)


def mfcc_statistics(image: np.ndarray, top_db: float) -> np.ndarray:
    """Compute the mean and standard deviation over time of the MFCC of an image and their deltas.

    Parameters
    ----------
    image : uint8, (n_mels, n_frames), from `mel_image`
    top_db : `top_db` of the image's `MelConfig`, dB

    Returns
    -------
    features : (4 * n_mfcc,), where n_mfcc is the lesser of `N_MFCC` and `n_mels`: means of the
        MFCC, means of the deltas, then the standard deviations in the same order

    Examples
    --------
    >>> mfcc_statistics(np.zeros((128, 431), dtype=np.uint8), 80.0).shape
    (80,)
    """
    from librosa.feature import delta, mfcc  # slow to import, so only where it is used

    S_db = image[::-1] * (top_db / 255) - top_db  # the result of power_to_db, to half a grey value
    coefficients = mfcc(S=S_db, n_mfcc=N_MFCC)
    # The edge frames are repeated, so that images with fewer frames than a delta spans work too.
    both = np.concatenate([coefficients, delta(coefficients, mode="nearest")])
    return np.concatenate([both.mean(axis=1), both.std(axis=1)])


def row_statistics(image: np.ndarray) -> np.ndarray:
    """Compute the mean and standard deviation over time of each row of an image.

    Parameters
    ----------
    image : uint8, (height, n_frames)

    Returns
    -------
    features : (2 * height,), all means, then all standard deviations
    """
    return np.concatenate([image.mean(axis=1), image.std(axis=1)])


def _read_features(file: Path, top_db: float, kind: Kind) -> np.ndarray:
    try:
        image = read_clip_image(file)
        return row_statistics(image) if kind in ROW_KINDS else mfcc_statistics(image, top_db)
    except (AudioError, OSError) as error:
        raise ModelError(
            f"{file}: the image cannot be read ({error}); regenerate the images with "
            "`langid prepare`"
        ) from error
