"""Published results on the Kaggle data set, for comparison with a run."""

from __future__ import annotations

from typing import Any

__all__ = ["PUBLISHED_SEED", "PUBLISHED"]

# The hobby project this library grew out of, on Kaggle's toponowicz/spoken-language-identification.
# Values from its README: validation accuracy after each of three stages, and test accuracy on the
# 540 test clips (511 correct). Which clips were used for validation is not stated.
PUBLISHED_SEED: dict[str, Any] = {
    "system": "hobby project: fastai, ResNet152, 7 + 12 + 8 epochs, the same Kaggle set",
    "valid": [0.945, 0.976, 0.986],
    "test": 0.9463,
}


def _system(
    system: str, test: float, n_correct: int | None, validation: str, source: str
) -> dict[str, Any]:
    return {
        "system": system,
        "test": test,
        "n_correct": n_correct,
        "validation": validation,
        "source": source,
    }


# Results on the 540 test clips of the same data set, best first: accuracy, unless the name states
# another metric. `n_correct` is given by the source, or is the sum of the diagonal of its confusion
# matrix; None if the source gives only a rate. If a source has multiple results for one system, the
# best is listed. Left out: Hindawi CIN 2021 (98.63 %) and speak-sense (99.3 %), tested on other or
# unstated clips or languages, and the ICIT 2019 paper, which has no number in its abstract.
PUBLISHED: dict[str, Any] = {
    "seed": PUBLISHED_SEED,
    "systems": [
        _system(
            "ResNet18 on spectrogram pictures, from scratch, 60 epochs (SAS DLPy)",
            0.974074,
            526,
            "random clips: speakers shared with training",
            "sassoftware/python-dlpy, langid_spectrogram_ResNet18_model.ipynb",
        ),
        _system(
            "CNN and RNN on MFCC (SAS DLPy)",
            0.974074,
            526,
            "none seen",
            "sassoftware/python-dlpy, lang_id_audio_CNN_RNN_model.ipynb",
        ),
        _system(
            "CNN on mel filter banks, by the author of the set (F1, not accuracy)",
            0.97,
            None,
            "other speakers than in training: 1 of 14 folds, 6 speakers",
            "README, model.py and common.py of the set's repository",
        ),
        _system(
            "CNN by Mohammadreza-mz",
            0.9630,
            520,
            "0.9977; protocol not said",
            "CNN Model.ipynb, Results.ipynb of its repository",
        ),
        _system(
            "ResNet152 with fastai, 7 + 12 + 8 epochs (hobby project)",
            PUBLISHED_SEED["test"],
            511,
            "0.945, 0.976, 0.986 after each stage; protocol not said",
            "README of its repository",
        ),
        _system(
            "CNN by menphix-watanabe",
            0.9407,
            508,
            "not said",
            "README of its repository",
        ),
        _system(
            "multilayer perceptron on pooled features, by MichealNestor01",
            0.9240,
            None,
            "random clips, 0.8643 to 0.9981: speakers shared with training",
            "README of its repository",
        ),
        _system(
            "random forest on pooled features, by MichealNestor01",
            0.75,
            None,
            "not said",
            "README of its repository",
        ),
        _system(
            "CNN on spectrogram pictures of 128 by 128, by bartekxk",
            0.65,
            None,
            "the test clips themselves, called validation",
            "README of its repository",
        ),
        _system(
            "decision tree on pooled features, by MichealNestor01",
            0.61,
            None,
            "not said",
            "README of its repository",
        ),
        _system(
            "nearest neighbours on pooled features, by MichealNestor01",
            0.54,
            None,
            "not said",
            "README of its repository",
        ),
        _system(
            "CNN by Nasseredd",
            0.4444,
            None,
            "random clips: speakers shared with training",
            "test_result.txt of its repository",
        ),
    ],
}
