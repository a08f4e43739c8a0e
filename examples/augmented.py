"""Test whether augmentation helps on your recordings: train with and without it, several seeds.

    python examples/augmented.py recordings --augment white_noise,pitch,speed --seeds 3

Four treatments are compared on one split: no augmentation; augmented variants of the training
clips; masks and mixup of the images; and both. All are trained for the same number of steps, so a
gain is not due to longer training. Requires the extra `augment`.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import langid_fastai as lf

# Train the whole network at once, from scratch.
STAGE = lf.Stage("all", "all", epochs=1, lr=3e-3, policy="one_cycle")


def main(
    folder: Annotated[Path, typer.Argument(help="A corpus: a folder, or an index CSV.")],
    out: Path = Path("runs/augmented"),
    augment: Annotated[str, typer.Option(help="For waveforms.")] = "white_noise,pitch,speed",
    masks: Annotated[int, typer.Option(help="SpecAugment masks per image.")] = 1,
    mixup: Annotated[float, typer.Option(help="Parameter alpha of mixup.")] = 0.4,
    arch: str = "spectrogram_cnn",
    epochs: Annotated[int, typer.Option(help="Epochs without augmentation.")] = 12,
    seeds: int = 3,
    test: Annotated[float, typer.Option(help="Test fraction, if there is no test split.")] = 0.3,
) -> None:
    """Train with and without augmentation and print the mean and spread of the test accuracy."""
    # 1 Make one split, and the images of all clips and of the variants of training clips.
    corpus = lf.split_corpus(lf.measure_audio(lf.read_corpus(folder)), test=test, seed=0)
    config = lf.MelConfig(sr=16_000, clip_seconds=5.0, n_fft=512, hop_length=320, n_mels=64)
    plan = lf.VariantPlan(lf.parse_augmentations(augment))
    exported = lf.export_images(corpus, out / "images", config, augment=plan)
    print(f"{len(exported.clips)} images, {exported.n_variants} of them of augmented variants")
    clips = lf.read_clips(out / "images", corpus.index)
    clean = clips[clips["variant"] == ""]

    # 2 Define each treatment: the clips to train on, and the stage with its masks and mixup.
    treatments = {
        "none": (clean, STAGE),
        "waveforms": (clips, STAGE),
        "images": (clean, replace(STAGE, masks=masks, mixup=mixup)),
        "both": (clips, replace(STAGE, masks=masks, mixup=mixup)),
    }
    n_clean = (clean["split"] == "train").sum()
    rows = []
    for name, (used, stage) in treatments.items():
        share = n_clean / (used["split"] == "train").sum()
        stage = replace(stage, epochs=max(1, round(epochs * share)))
        for seed in range(seeds):
            accuracy = train_and_test(out / "images", used, stage, arch, seed)
            rows.append({"augmentation": name, "seed": seed, "accuracy": accuracy})
            print(f"{name}, seed {seed}: accuracy {accuracy:.4f}", flush=True)

    # 3 Print the mean and spread over the seeds.
    table = pd.DataFrame(rows).groupby("augmentation", sort=False)["accuracy"]
    tested = clips[clips["split"] == "test"]
    print(f"test: {tested['path'].nunique()} recordings of {tested['group'].nunique()} groups")
    print(table.agg(["mean", "std", "min", "max"]).round(4))


def train_and_test(
    images: Path, clips: pd.DataFrame, stage: lf.Stage, arch: str, seed: int
) -> float:
    """Train with this seed, and return the accuracy on the test recordings."""
    dls = lf.make_dataloaders(images, clips=clips, seed=seed)
    learn = lf.language_learner(dls, arch, weights="none", seed=seed)
    with learn.no_bar(), learn.no_logging():
        lf.fit_stages(learn, (stage,), seed=seed)
    tested = clips[clips["split"] == "test"].reset_index(drop=True)
    log_probs = lf.predict_images(learn, [images / image for image in tested["image"]])
    return lf.evaluate(tested, log_probs, list(dls.vocab))["recordings"]["accuracy"]


if __name__ == "__main__":
    typer.run(main)
