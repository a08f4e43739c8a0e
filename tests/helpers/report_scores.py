"""Recordings with made-up scores, and the section `test` of ``metrics.json`` that they give.

Counts, accuracies, curves and matrices are computed from the scores, so that the metrics of a test
are consistent; intervals are merely plausible.
"""

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_curve

from langid_fastai.evaluation.breakdowns import count_answers
from langid_fastai.evaluation.intervals import wilson_interval

VOCAB = ("de", "en", "es")
FEW = (
    "the test has few speakers ({}); with fewer than 10 per language, the interval is wide and a "
    "single speaker can change the result"
)


def around(value, width, high=1.0):
    """An interval around a value."""
    return [max(0.0, value - width), min(high, value + 0.8 * width)]


class Test:
    """A test of recordings by speakers of one language each."""

    __test__ = False  # not a test class

    def __init__(
        self,
        vocab=VOCAB,
        *,
        n_speakers=4,
        n_per_speaker=9,
        margin=3.4,
        n_clips=2,
        seed=5,
        clip_seconds=3.0,
    ):
        rng = np.random.default_rng(seed)
        self.vocab, self.n_speakers = vocab, n_speakers
        self.n_clips, self.clip_seconds = n_clips, clip_seconds
        n = len(vocab) * n_speakers * n_per_speaker
        self.truth = np.repeat(np.arange(len(vocab)), n_speakers * n_per_speaker)
        self.speaker = np.repeat(np.arange(len(vocab) * n_speakers), n_per_speaker)
        ease = np.repeat(rng.normal(margin, 0.3 * margin, len(vocab) * n_speakers), n_per_speaker)
        scores = rng.normal(size=(n, len(vocab)))
        scores[np.arange(n), self.truth] += ease
        self.log_probs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        self.predicted = self.log_probs.argmax(axis=1)
        self.paths = [
            f"{vocab[t]}/{self.name_of(k)}/chapter-{i % n_per_speaker + 1:02d}.flac"
            for i, (t, k) in enumerate(zip(self.truth, self.speaker, strict=True))
        ]

    def name_of(self, speaker):
        names = ("anna", "boris", "carla", "david", "elena", "frank", "greta", "henri")
        number = speaker % self.n_speakers
        suffix = "" if self.n_speakers <= len(names) else str(number)
        return f"{self.vocab[speaker // self.n_speakers]}-{names[number % len(names)]}{suffix}"

    def trials(self):
        """Pooled one-against-the-rest scores, and whether each is of the target language."""
        return self.log_probs.ravel(), np.eye(len(self.vocab), dtype=bool)[self.truth].ravel()

    def rates(self, shift=0.0):
        """All metrics; `shift` makes them a little worse, like those of clips."""
        false_alarm, miss = self.det()
        eer = float(np.mean([false_alarm, miss], axis=0)[np.argmin(np.abs(false_alarm - miss))])
        right = self.predicted == self.truth
        figures = {
            "accuracy": right.mean() - shift,
            "balanced_accuracy": balanced_accuracy_score(self.truth, self.predicted) - shift,
            "macro_f1": f1_score(self.truth, self.predicted, average="macro") - shift,
            "eer": eer + shift / 2,
            "cavg": eer * 1.07 + shift / 2,
            "min_cavg": eer * 0.94 + shift / 2,
            "log_loss": log_loss(self.truth, np.exp(self.log_probs)) + shift,
            "ece": 0.0213 + shift / 3,
        }
        rates = {name: float(value) for name, value in figures.items()}
        for name, value in list(rates.items()):
            rates[f"{name}_bootstrap"] = around(value, 0.4 * min(value, abs(1 - value)) + 0.02, 9.0)
        n = len(self.truth)
        rates["accuracy_wilson"] = list(wilson_interval(round(rates["accuracy"] * n), n))
        return rates

    def det(self):
        scores, is_target = self.trials()
        false_alarm, hit, _ = roc_curve(is_target, scores)
        return false_alarm, 1 - hit

    def confusion(self):
        matrix = np.zeros((len(self.vocab),) * 2, dtype=int)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return {"labels": list(self.vocab), "matrix": matrix.tolist()}

    def share(self, rows):
        """Counts and accuracy of some rows, with both intervals."""
        n, n_right = int(rows.sum()), int((self.predicted == self.truth)[rows].sum())
        return {
            "n_recordings": n,
            "n_groups": len(set(self.speaker[rows].tolist())),
            "accuracy": n_right / n,
            "accuracy_wilson": list(wilson_interval(n_right, n)),
            "accuracy_bootstrap": around(n_right / n, 0.07),
        }

    def languages(self):
        named = {}
        for i, label in enumerate(self.vocab):
            hits = int(((self.truth == i) & (self.predicted == i)).sum())
            n, n_named = int((self.truth == i).sum()), int((self.predicted == i).sum())
            rates = {"precision": hits / max(n_named, 1), "recall": hits / n, "eer": 0.03 + i / 200}
            rates["f1"] = 2 * hits / (n + n_named)
            rates |= {f"{name}_bootstrap": around(x, 0.06) for name, x in rates.items()}
            rates["recall_wilson"] = list(wilson_interval(hits, n))
            counts = {"n_recordings": n, "n_groups": self.n_speakers, "n_speakers": self.n_speakers}
            named[label] = rates | counts
        return named

    def speakers(self):
        rows = []
        for speaker in sorted(set(self.speaker.tolist())):
            share = self.share(self.speaker == speaker)
            name = self.name_of(speaker)
            language = self.vocab[speaker // self.n_speakers]
            rows.append(
                {"speaker": name, "group": name, "language": language}
                | {"gender": "fm"[speaker % 2], "n_clips": self.n_clips * share["n_recordings"]}
                | {x: share[x] for x in ("n_recordings", "accuracy", "accuracy_wilson")}
            )
        return sorted(rows, key=lambda row: (row["accuracy"], row["speaker"]))

    def top_losses(self):
        loss = -self.log_probs[np.arange(len(self.truth)), self.truth]
        wrong = [i for i in np.argsort(-loss) if self.predicted[i] != self.truth[i]]
        return [
            {
                "path": self.paths[i],
                "offset": self.clip_seconds * (n % 2),
                "language": self.vocab[self.truth[i]],
                "predicted": self.vocab[self.predicted[i]],
                "score": float(np.exp(self.log_probs[i].max())),
                "loss": float(loss[i]),
                "image": f"test/{self.paths[i].replace('/', '_')}@{n % 2}.png",
            }
            for n, i in enumerate(wrong[:12])
        ]

    def section(self):
        """The section `test` of ``metrics.json``."""
        n, is_first = len(self.truth), self.speaker % 2 == 0
        keep = np.unique(np.linspace(0, len(self.det()[0]) - 1, 200).astype(int))
        genders = [
            {"gender": "f", **self.share(is_first), "macro_f1": 0.9123},
            {"gender": "m", **self.share(~is_first), "macro_f1": 0.9234},
        ]
        bins = ((3, 5), (5, 10), (10, 20), (20, 60), (60, None))
        part = np.arange(n) * 7 % len(bins)
        few = ", ".join(f"{label} {self.n_speakers}" for label in self.vocab)
        return {
            "n_clips": self.n_clips * n,
            "n_recordings": n,
            "n_groups": len(set(self.speaker.tolist())),
            "n_speakers": len(set(self.speaker.tolist())),
            "costs": {"p_target": 0.5, "c_miss": 1.0, "c_fa": 1.0},
            "clips": self.rates(shift=0.013),
            "recordings": self.rates(),
            "languages": self.languages(),
            "confusion": self.confusion(),
            "answers": count_answers(np.array(self.confusion()["matrix"]), list(self.vocab)),
            "speakers": self.speakers(),
            "genders": genders,
            "durations": [
                {"low": low, "high": high, **self.share(part == i)}
                for i, (low, high) in enumerate(bins)
            ],
            "det": {
                "false_alarm": self.det()[0][keep].tolist(),
                "miss": self.det()[1][keep].tolist(),
            },
            "top_losses": self.top_losses(),
            "warnings": [FEW.format(few)],
        }
