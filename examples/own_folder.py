"""Train on your own folder, with one sub-folder per language, step by step in Python.

    python examples/own_folder.py recordings --out runs/mine

These are the steps of `langid-train recordings`; stop after any line to inspect the result.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import langid_fastai as lf


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with one sub-folder per language.")],
    out: Path = Path("runs/own"),
    arch: str = "resnet18",
    weights: str = "none",
    epochs: int = 30,
) -> None:
    """Train and test on a folder with one sub-folder per language."""
    # 1 Read the corpus and split it by speaker.
    corpus = lf.split_corpus(lf.measure_audio(lf.read_corpus(folder)), seed=0)
    print(corpus.layout, *corpus.notes, sep="\n  ")
    print(corpus.index.groupby(["language", "split"])["path"].count().unstack())
    print(f"{len(lf.audit_split(corpus))} leaks")

    # 2 Make the images.
    config = lf.MelConfig(sr=16_000, n_fft=1024, hop_length=256)
    exported = lf.export_images(corpus, out / "images", config)
    print(f"{len(exported.clips)} images, {len(exported.failed)} failed")

    # 3 Train, with the schedule that suits the initial weights.
    dls = lf.make_dataloaders(out / "images", batch_size=16)
    learn = lf.language_learner(dls, arch, weights=weights)
    schedule = lf.SCRATCH_SCHEDULE if weights == "none" else lf.SEED_SCHEDULE
    stages = [replace(s, epochs=epochs) if s.trains == "all" else s for s in schedule]
    history = lf.fit_stages(learn, stages, checkpoints=out / "checkpoints")
    print(history.groupby("stage", sort=False).last())

    # 4 Test on speakers that were not used in training.
    clips = lf.read_clips(out / "images", corpus.index, "test")
    log_probs = lf.predict_images(learn, [out / "images" / image for image in clips["image"]])
    result = lf.evaluate(clips, log_probs, list(dls.vocab))
    accuracy, interval = (
        result["recordings"]["accuracy"],
        result["recordings"]["accuracy_wilson"],
    )
    print(f"accuracy {accuracy:.4f} on {result['n_recordings']} recordings, 95 % {interval}")
    print(f"from {result['n_groups']} groups; languages {list(result['languages'])}")


if __name__ == "__main__":
    typer.run(main)
