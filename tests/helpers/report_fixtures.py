"""A fictitious run for tests of its report: ``metrics.json``, images, audio, parsed page."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import soundfile as sf
from report_scores import Test, around

from langid_fastai.evaluation.intervals import wilson_interval
from langid_fastai.evaluation.published import PUBLISHED
from langid_fastai.preprocessing import MelConfig, clips_of, mel_image, write_png

MEL = MelConfig(sr=16_000, clip_seconds=3.0)  # short clips, to be quick
SECONDS = 7.5  # of a recording
STAGES = (("head", 7, 1e-2), ("all", 12, 1e-4), ("refreeze", 8, 1e-4))
CONDITIONS = (
    ("clean", "as recorded", None, 0.0),
    ("noise20", "white noise at 20 dB", None, 0.01),
    ("noise10", "white noise at 10 dB", None, 0.08),
    ("noise0", "white noise at 0 dB", None, 0.31),
    ("telephone", "telephone band, 300 to 3400 Hz at 8 kHz", None, 0.12),
    ("mp3", "MP3 at 32 kbit/s", None, 0.004),
    ("slow", "speed minus 10 %", None, 0.03),
    ("fast", "speed plus 10 %", None, 0.025),
    ("cut10", "first 10 s", 10.0, 0.0),
    ("cut5", "first 5 s", 5.0, 0.03),
    ("cut3", "first 3 s", 3.0, 0.09),
    ("cut1", "first 1 s", 1.0, 0.29),
)


def make_metrics(test=None, *, published=True):
    """A complete ``metrics.json``, with every optional section."""
    test = test or Test()
    metrics = {
        "run": make_provenance(),
        "corpus": make_corpus(test.vocab),
        "images": {"n": 73_620, "n_failed": 0, "recordings_made": 0, "recordings_kept": 73_620},
        "training": make_training(),
        "test": test.section(),
        "calibration": make_calibration(),
        "unknown": make_unknown(test),
        "baseline": make_baseline(test),
        "robustness": make_robustness(test),
        "other": [make_other(test)],
        "cross_validation": make_cross_validation(test.vocab),
    }
    return metrics | ({"published": PUBLISHED} if published else {})


def make_provenance():
    return {
        "command": "langid-train kaggle:toponowicz/spoken-language-identification --seed 7",
        "seed": 7,
        "arch": "resnet152",
        "weights": "imagenet",
        "schedule": "seed",
        "device": "NVIDIA H100",
        "precision": "fp16",
        "date": "2026-03-01",
        "versions": {"langid_fastai": "0.1.0", "fastai": "2.8.12"},
        "index_hash": "0123456789abcdef",
        "model_hash": "fedcba9876543210",
    }


def make_corpus(vocab):
    side = {"recordings": 720, "groups": 24, "hours": 2.0}
    splits = {"train": side | {"recordings": 22_620}, "valid": side, "test": side}
    return {
        "source": "kaggle:toponowicz/spoken-language-identification",
        "layout": "kaggle",
        "n_recordings": 73_620,
        "hours": 204.5,
        "languages": dict.fromkeys(vocab, splits) | {"fr": {"test": side}},
        "held_out": ["fr"],
        "notes": ["71 recordings lack a speaker"],
        "leaks": 0,
    }


def make_history():
    """One row per epoch, as in ``history.csv``."""
    rows = []
    for name, epochs, lr in STAGES:
        for i, rate in enumerate(np.geomspace(lr, lr / 1e5, epochs).tolist()):
            n = len(rows)
            losses = {
                "train_loss": 0.05 + 0.9 * math.exp(-n / 4),
                "valid_loss": 0.09 + math.exp(-n / 5),
            }
            reached = {"accuracy": 0.986 - 0.15 * math.exp(-n / 5), "lr": rate, "seconds": 61.5}
            rows.append({"stage": name, "epoch": i} | losses | reached)
    return rows


def make_training():
    history = make_history()
    stages = [
        {"name": name, "trains": name, "epochs": epochs, "seconds": 61.5 * epochs}
        | {"lr": [lr / 9, lr / 6, lr] if name == "all" else lr}
        | {"train_loss": 0.0712, "valid_loss": 0.0934, "accuracy": accuracy}
        for (name, epochs, lr), accuracy in zip(STAGES, (0.9412, 0.9731, 0.9867), strict=True)
    ]
    return {"stages": stages, "history": history}


def make_calibration():
    edges = np.linspace(0, 1, 11)
    n = [0, 0, 0, 3, 5, 8, 9, 12, 21, 50]

    def side(loss, ece, excess):
        middles = (edges[:-1] + edges[1:]) / 2
        return {
            "log_loss": loss,
            "log_loss_bootstrap": around(loss, 0.05),
            "ece": ece,
            "ece_bootstrap": around(ece, 0.012),
            "reliability": [
                {"low": low, "high": high, "n": k, "confidence": c, "accuracy": max(c - excess, 0)}
                for low, high, k, c in zip(edges[:-1], edges[1:], n, middles, strict=True)
                if k
            ],
        }

    before, after = side(0.3125, 0.0844, 0.13), side(0.2311, 0.0213, 0.02)
    counts = {"n_recordings": 216, "n_bins": 10}
    return {"temperature": 1.8436, **counts, "before": before, "after": after}


def make_unknown(test):
    def called(n, n_unknown, n_groups):
        rate = n_unknown / n
        intervals = {"rate_wilson": list(wilson_interval(n_unknown, n))}
        intervals["rate_bootstrap"] = around(rate, 0.1)
        return {"n_recordings": n, "n_groups": n_groups, "rate": rate, **intervals}

    held_out = called(72, 49, 8)
    taken_for = {test.vocab[-1]: 13, test.vocab[0]: 7, test.vocab[1]: 3}
    french = {**called(72, 49, 8), "taken_for": taken_for}
    return {
        "score": "highest calibrated probability",
        "false_alarm_rate": 0.05,
        "threshold": 0.6137,
        "n_recordings": 216,
        "known": called(len(test.truth), 7, test.section()["n_groups"]),
        "held_out": held_out
        | {"auroc": 0.9031, "auroc_bootstrap": [0.8412, 0.9533], "languages": {"fr": french}},
    }


def make_baseline(test):
    theirs = Test(test.vocab, margin=1.6, seed=6)
    gain = test.rates()["accuracy"] - theirs.rates()["accuracy"]
    return {
        "system": "mean and deviation of 20 MFCC and deltas, logistic regression",
        "n_train_clips": 5040,
        "recordings": theirs.rates(),
        "clips": theirs.rates(shift=0.02),
        "difference": {"accuracy": gain, "accuracy_bootstrap": [gain - 0.09, gain + 0.08]},
    }


def make_robustness(test):
    clean = test.rates(shift=0.013)
    n = test.n_clips * len(test.truth)
    conditions = []
    for name, words, seconds, loss in CONDITIONS:
        figures = {"accuracy": clean["accuracy"] - loss, "macro_f1": clean["macro_f1"] - 1.1 * loss}
        intervals = {f"{key}_bootstrap": around(x, 0.05 + loss / 8) for key, x in figures.items()}
        wilson = {"accuracy_wilson": list(wilson_interval(round(figures["accuracy"] * n), n))}
        named = {"name": name, "words": words, "seconds": seconds, "n_clips": n}
        conditions.append(named | figures | intervals | wilson)
    counts = {x: test.section()[x] for x in ("n_clips", "n_recordings", "n_groups")}
    return {**counts, "conditions": conditions}


def make_other(test):
    """A second corpus, on which the model performs worse."""
    shared = test.vocab[:2]
    home = Test(shared)
    there = Test(shared, n_speakers=11, n_per_speaker=3, margin=1.9, seed=8)
    counts = there.section()
    return {
        "source": "/data/voxlingua107-dev",
        "layout": "voxlingua107",
        "hours": 1.37,
        **{x: counts[x] for x in ("n_recordings", "n_clips", "n_groups", "n_speakers")},
        "left_out": ["fr", *test.vocab[2:]],
        "languages": {
            label: {
                "theirs": f"{label}-x",
                "n_recordings": rates["n_recordings"],
                "recall_home": home.languages()[label]["recall"],
                "recall_there": rates["recall"],
            }
            for label, rates in there.languages().items()
        },
        "home": home.rates(),
        "home_n_recordings": len(home.truth),
        "home_n_groups": home.section()["n_groups"],
        "there": there.rates(),
        "confusion": there.confusion(),
        "warnings": ["the recordings there are shorter than a clip"],
    }


def make_cross_validation(vocab):
    folds, names = [], ("accuracy", "macro_f1", "eer", "cavg")
    for fold in range(1, 6):
        test = Test(vocab, margin=3.0, seed=20 + fold)
        figures = {name: test.rates()[name] for name in names}
        counts = {"n_recordings": len(test.truth), "n_groups": test.section()["n_groups"]}
        folds.append({"fold": fold, **counts, **figures, "seconds": 4210.0 + fold})
    values = {name: [fold[name] for fold in folds] for name in names}
    return {
        "n_folds": 5,
        "protocol": "whole speakers, 5 folds, each language spread over all",
        "seed": 7,
        "folds": folds,
        "mean": {name: float(np.mean(x)) for name, x in values.items()},
        "std": {name: float(np.std(x, ddof=1)) for name, x in values.items()},
        "accuracy_min": min(values["accuracy"]),
        "accuracy_max": max(values["accuracy"]),
        "pooled": Test(vocab, n_speakers=20, margin=3.0, seed=30).section(),
    }


def speech(seconds, sr, seed):
    """A synthetic voice with gliding pitch, syllables and vowels."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    knots = np.arange(0, seconds + 0.5, 0.22)

    def contour(low, high):
        return np.interp(t, knots, rng.uniform(low, high, len(knots)))

    pitch = contour(95, 210)
    phase = 2 * np.pi * np.cumsum(pitch) / sr
    vowel = np.stack([contour(300, 800), contour(900, 2200), contour(2400, 3200)])
    y = np.zeros_like(t)
    for harmonic in range(1, 34):
        f = harmonic * pitch
        gain = np.exp(-(((f - vowel) / 180) ** 2)).sum(axis=0) + 0.02
        y += gain / harmonic**0.5 * np.sin(harmonic * phase)
    y *= np.clip(contour(-0.3, 1.2), 0, 1)
    y += 0.02 * rng.normal(size=len(t))
    return (0.5 * y / np.abs(y).max()).astype(np.float32)


def write_metrics(folder: Path, metrics) -> None:
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def write_run(folder: Path, metrics, *, corpus: Path, mel=MEL, seconds=SECONDS) -> None:
    """Write a run folder as after evaluation, and the recordings that it shows."""
    (folder / "images" / "test").mkdir(parents=True)
    mel.write(folder / "images" / "mel.json")
    write_metrics(folder, metrics)
    for seed, loss in enumerate(metrics["test"]["top_losses"]):
        y = speech(seconds, mel.sr, seed)
        (corpus / loss["path"]).parent.mkdir(parents=True, exist_ok=True)
        sf.write(corpus / loss["path"], y, mel.sr)
        clip = dict(clips_of([y], mel))[loss["offset"]]
        write_png(mel_image(clip, mel), folder / "images" / loss["image"])


VOID = {"meta", "img", "source", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Parse a page strictly: every tag is closed in order; keep its text, tags and links."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> is duplicated"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def values(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]
