"""Measure the effect of `--cache-frozen` on training time and accuracy, for several seeds.

    python benchmarks/cached.py [--seeds 3] [--arch resnet18] [--voices 24]

No published weights are needed: a body is first trained on German and English, on a demo corpus of
another seed. It is then trained on German, English and Spanish, with few voices and four clips per
voice and language, by the seed schedule of 7 + 12 + 8 epochs, with and without the cache. The split
and the body are the same for all. The test is on six voices that were not used in any training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from common import print_table
from fastai.learner import Learner

import langid_fastai as lf
from langid_fastai.corpus.demo import make_demo
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo

BODY_EPOCHS, BODY_VOICES = 20, 36
CONFIG = lf.MelConfig(sr=16_000, n_fft=1024, hop_length=512)


def main() -> None:
    """Train, test and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--voices", type=int, default=24, help="number of voices for training")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        body = train_body(folder / "body", asked.arch)
        images, index = make_images(folder / "three", ("de", "en", "es"), asked.voices, seed=0)
        runs = {
            cached: [
                train_and_test(images, index, asked.arch, body, seed, cached)
                for seed in range(asked.seeds)
            ]
            for cached in (False, True)
        }
    n_train = int((index["split"] == "train").sum())
    print(f"## `--cache-frozen`: time and accuracy ({asked.arch}, {asked.seeds} seeds)\n")
    print(
        f"Demo corpus, split by voice: {n_train} clips trained on, 108 recordings of 6 other "
        "voices tested; the same split and body for all. Synthetic voices: it compares two ways of "
        "training, and tells nothing about languages.\n"
    )
    print_table(
        ("", "accuracy by seed", "mean", "standard deviation", "seconds, median"),
        [row(cached, results) for cached, results in runs.items()],
    )
    differences = [b[0] - a[0] for a, b in zip(*runs.values(), strict=True)]
    print(
        f"\nAccuracy with the cache minus without, by seed: "
        f"{', '.join(f'{d:+.4f}' for d in differences)}; mean {statistics.mean(differences):+.4f}."
    )


def row(cached: bool, results: list[tuple[float, float]]) -> tuple[str, ...]:
    """Return a row of the table."""
    accuracies, seconds = zip(*results, strict=True)
    return (
        "`--cache-frozen`" if cached else "without",
        ", ".join(f"{a:.4f}" for a in accuracies),
        f"{statistics.mean(accuracies):.4f}",
        f"{statistics.stdev(accuracies):.4f}",
        f"{statistics.median(seconds):.0f}",
    )


def train_body(folder: Path, arch: str) -> Path:
    """Train a body briefly on two of the languages, with other sentences and voices."""
    images, _ = make_images(folder, ("de", "en"), voices=BODY_VOICES, seed=1)
    learn = quiet_learner(images, arch, "none", seed=1)
    middle = replace(lf.SCRATCH_SCHEDULE[1], epochs=BODY_EPOCHS)
    lf.fit_stages(learn, [middle], seed=1)
    info = ModelInfo(arch, tuple(learn.dls.vocab), CONFIG)
    write_model(folder / "model", learn.model.state_dict(), info)
    return folder / "model"


def make_images(
    folder: Path, languages: tuple[str, ...], voices: int, seed: int
) -> tuple[Path, pd.DataFrame]:
    """Make a demo corpus, split it by voice, and make its images."""
    root = make_demo(
        folder / "demo", languages=languages, held_out=(), train_voices=voices, train_clips=4,
        test_voices=6, seed=seed,
    )  # fmt: skip
    corpus = lf.split_corpus(lf.read_corpus(root), seed=0)
    lf.export_images(corpus, folder / "images", CONFIG)
    return folder / "images", corpus.index


def train_and_test(
    images: Path, index: pd.DataFrame, arch: str, body: Path, seed: int, cached: bool
) -> tuple[float, float]:
    """Return the accuracy on the test recordings, and the training time in s."""
    learn = quiet_learner(images, arch, body, seed)
    began = time.perf_counter()
    lf.fit_stages(learn, lf.SEED_SCHEDULE, seed=seed, cache_frozen=cached)
    seconds = time.perf_counter() - began
    clips = lf.read_clips(images, index, "test")
    log_probs = lf.predict_images(learn, [images / image for image in clips["image"]])
    result = lf.evaluate(clips, log_probs, list(learn.dls.vocab))
    return result["recordings"]["accuracy"], seconds


def quiet_learner(images: Path, arch: str, weights: str | Path, seed: int) -> Learner:
    """Make a Learner that prints nothing."""
    dls = lf.make_dataloaders(images, batch_size=16, seed=seed)
    learn = lf.language_learner(dls, arch, weights=weights, seed=seed)
    learn.remove_cb(learn.progress)
    learn.logger = lambda *_: None
    return learn


if __name__ == "__main__":
    main()
