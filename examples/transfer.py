"""Test whether a body trained on other languages helps with a new pair of languages.

    python examples/transfer.py --out runs/transfer

First, a body is trained on synthetic speech: numbers read in six languages. Then three networks are
trained on numbers read by a few voices in two other languages: one from that body at the low
learning rates for pretrained weights, one from that body at the rates for training from scratch,
and one from scratch at those rates. The benefit of the body is the difference between the last two.
All are tested on the same recordings, of voices that were not used in any training.

With your own corpora, this takes two commands::

    langid-train many-languages --out runs/many --weights none
    langid-train new-pair --out runs/pair --weights runs/many/model --schedule scratch
"""

import random
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import soundfile as sf
import typer

import langid_fastai as lf
from langid_fastai.corpus.demo import SAMPLE_RATE, VOICES, speak
from langid_fastai.evaluation import compare_paired
from langid_fastai.pipeline import evaluate, prepare, train
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.report import console

MANY = ("de", "en-us", "fr", "it", "pl", "sv")
PAIR = ("es", "pt")  # near relatives
SPEAKER = r"(?P<speaker>[^/]+)/[^/]+$"  # the folder that a file lies in


def main(
    out: Path = Path("runs/transfer"),
    many_voices: Annotated[int, typer.Option(help="Training voices of the body.")] = 16,
    pair_voices: Annotated[int, typer.Option(help="Training voices of the pair.")] = 5,
    test_voices: Annotated[int, typer.Option(min=2, help="Test voices of the pair.")] = 20,
    clips: Annotated[int, typer.Option(help="Number per voice and language.")] = 4,
    arch: str = "resnet18",
    many_epochs: tuple[int, int, int] = (1, 20, 2),
    pair_epochs: Annotated[
        tuple[int, int, int], typer.Option(help="At low rates; otherwise 1, sum - 1, 2.")
    ] = (7, 12, 8),
    seed: int = 0,
) -> None:
    """Train a body on many languages, then a new pair with and without it."""
    # 1 Choose three disjoint sets of voices, and write one folder per split.
    voices = random.Random(seed).sample(
        sorted(VOICES["f"] + VOICES["m"]), many_voices + pair_voices + test_voices
    )
    learners = voices[many_voices : many_voices + pair_voices]
    make_numbers(out / "many-languages", "", MANY, voices[:many_voices], clips, seed)
    make_numbers(out / "new-pair", "train", PAIR, learners[1:], clips, seed)
    make_numbers(out / "new-pair", "valid", PAIR, learners[:1], clips, seed)
    make_numbers(out / "new-pair", "test", PAIR, voices[-test_voices:], clips, seed)

    # 2 Train the body from scratch.
    settings = TrainSettings(arch, weights="none", epochs=many_epochs, seed=seed)
    many = train_and_test(out / "many", out / "many-languages", settings)
    print(*console.result_lines(many), sep="\n")

    # 3 Train the pair from the body and from scratch: same split, about as many epochs.
    body, epochs = str((out / "many" / "model").resolve()), (1, sum(pair_epochs) - 1, 2)
    starts = {
        "low-rates": TrainSettings(arch, body, "seed", pair_epochs, seed=seed),
        "body": TrainSettings(arch, body, "scratch", epochs, seed=seed),
        "nothing": TrainSettings(arch, "none", "scratch", epochs, seed=seed),
    }
    found = {}
    for start, settings in starts.items():
        folder = out / f"from-{start}"
        metrics = train_and_test(folder, out / "new-pair", settings)
        test = metrics["test"]
        rates = test["recordings"]
        found[start] = pd.read_csv(folder / "predictions.csv").set_index("path")
        print(
            f"from {start:<9} accuracy {rates['accuracy']:.4f} of {test['n_recordings']} "
            f"recordings, Wilson {show(rates['accuracy_wilson'])}, over {test['n_groups']} voices "
            f"{show(rates['accuracy_bootstrap'])}"
        )

    # 4 Compare on the same recordings.
    say_gain("gain from the body:", found["body"], found["nothing"])
    say_gain("gain from the body at low rates:", found["low-rates"], found["nothing"])


def say_gain(words: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Print the difference in accuracy on the same recordings, and whether it is significant."""
    theirs = theirs.loc[ours.index]
    gain = compare_paired(
        (ours["language"] == ours["predicted"]).to_numpy(),
        (theirs["language"] == theirs["predicted"]).to_numpy(),
        ours["group"],
    )
    low, high = gain["accuracy_bootstrap"]
    verdict = "a gain" if low > 0 else "a loss" if high < 0 else "no significant difference"
    print(
        f"{words} {gain['accuracy']:+.4f}, 95 % {low:+.4f} to {high:+.4f} over voices, "
        f"p {gain['mcnemar_p']:.4f} (McNemar): {verdict}, for one seed and synthetic voices"
    )


def train_and_test(folder: Path, corpus: Path, settings: TrainSettings) -> dict[str, Any]:
    """Do the steps of `langid-train`, with small images, and return the metrics."""
    run = Run(folder)
    found = prepare.read_and_split(
        run, CorpusSettings(str(corpus), speaker=SPEAKER, valid=0.2, test=0.2, seed=settings.seed)
    )
    network, plan = train.make_network(run, found, settings)
    print(*console.plan_lines(plan), sep="\n")
    prepare.make_images(run, found, lf.MelConfig(sr=16_000, clip_seconds=5.0, n_mels=64))
    learn = train.make_learner(run, settings, network)
    train.train(run, learn, settings, plan, on_epoch=lambda h: print(console.epoch_line(h)))
    train.calibrate(run, learn)
    metrics = evaluate.assess_test(run, learn)
    evaluate.write_pages(run)
    return metrics


def make_numbers(
    folder: Path, side: str, languages: tuple[str, ...], voices: list[str], clips: int, seed: int
) -> None:
    """Write recordings of voices that read numbers, each up to ten seconds long."""
    for voice in voices:
        for language in languages:
            for clip in range(clips):
                rng = random.Random(f"{seed}/{voice}/{language}/{clip}")
                text = ", ".join(str(rng.randint(10, 9999)) for _ in range(4))
                rate, pitch = rng.randint(140, 190), rng.randint(35, 65)
                file = folder / side / language / voice / f"{clip}.flac"
                if not file.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    y = speak(text, language, voice, rate=rate, pitch=pitch)
                    sf.write(file, y, SAMPLE_RATE)


def show(interval: list[float] | None) -> str:
    """Format an interval; there is none for a single voice."""
    return f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "(one voice)"


if __name__ == "__main__":
    typer.run(main)
