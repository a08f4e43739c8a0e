"""Scored clips, few enough to calculate by hand, for the tests of evaluation."""

import numpy as np
import pandas as pd

VOCAB = ["de", "en", "es"]

# Seven clips of five recordings of four speakers. Probabilities are exact in binary where the mean
# over clips matters.
CLIPS = [
    # path, offset, speaker, gender, language, p(de), p(en), p(es)
    ("a.flac", 0.0, "ann", "f", "de", 0.80, 0.10, 0.10),
    ("a.flac", 10.0, "ann", "f", "de", 0.40, 0.50, 0.10),  # wrong by itself, right on average
    ("b.flac", 0.0, "ann", "f", "de", 0.10, 0.60, 0.30),  # wrong
    ("c.flac", 0.0, "bob", "m", "en", 0.10, 0.80, 0.10),
    ("d.flac", 0.0, "cat", "f", "en", 0.20, 0.70, 0.10),
    ("e.flac", 0.0, "dan", "m", "es", 0.50, 0.25, 0.25),
    ("e.flac", 10.0, "dan", "m", "es", 0.50, 0.40, 0.10),  # the worse clip of a wrong recording
]


def make_clips() -> tuple[pd.DataFrame, np.ndarray]:
    """The seven clips, and their log-probabilities."""
    names = ["path", "offset", "speaker", "gender", "language", *VOCAB]
    table = pd.DataFrame(CLIPS, columns=names)
    table["image"] = [f"test/{r.language}/{r.path}@{r.offset:.0f}.png" for r in table.itertuples()]
    table["group"] = table["speaker"]
    return table.drop(columns=VOCAB), np.log(table[VOCAB].to_numpy())


def make_recordings(
    languages: list[str], predicted: list[str], groups: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """One clip per recording, scored 0.8 for `predicted` and 0.1 for each of the two others."""
    n = len(languages)
    clips = pd.DataFrame(
        {
            "path": [f"{i}.flac" for i in range(n)],
            "offset": 0.0,
            "image": [f"{i}.png" for i in range(n)],
            "language": languages,
            "speaker": groups,
            "group": groups,
        }
    )
    named = np.array([[label == name for label in VOCAB] for name in predicted])
    return clips, np.log(np.where(named, 0.8, 0.1))


def random_scores(
    rng: np.random.Generator, n: int, n_languages: int, *, digits: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and plausible log-probabilities, with ties since activations are rounded."""
    truth = rng.integers(n_languages, size=n)
    activations = rng.normal(size=(n, n_languages))
    activations[np.arange(n), truth] += 1.5
    activations = activations.round(digits)
    return truth, activations - np.logaddexp.reduce(activations, axis=1, keepdims=True)


def many_scores(n_languages: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """400 rows, of 13 speakers per language: truth, log-probabilities and groups."""
    truth, log_probs = random_scores(np.random.default_rng(0), 400, n_languages)
    return truth, log_probs, [f"{language}-{i % 13}" for i, language in enumerate(truth)]
