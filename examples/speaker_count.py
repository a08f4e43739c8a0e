"""Train networks to count the speakers in a mixture, from its waveform and its spectrogram.

    langid corpus demo voices --train-voices 33 --test-voices 12 --train-clips 3 --test-clips 3
    python examples/speaker_count.py voices --out runs/count

Any corpus with known speakers can be used, such as LibriSpeech. Both networks are trained on the
same mixtures, and tested on mixtures of other speakers.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import langid_fastai as lf


def main(
    corpus: Annotated[str, typer.Argument(help="Corpus with known speakers.")],
    out: Path = Path("runs/count"),
    speakers: int = 4,
    n: int = 2000,
    seconds: float = 4.0,
    arch: Annotated[list[str], typer.Option(help="Network; may be repeated.")] = [  # noqa: B006  # typer copies it
        "m11-light",
        "resnet18",
    ],
    epochs: int = 30,
    valid: float = 0.2,
    test: float = 0.25,
    seed: int = 0,
) -> None:
    """Train networks to count speakers, and compare them."""
    # 1 Split by speaker, and mix the speakers of each split.
    voices = lf.read_voices(corpus, valid=valid, test=test, seed=seed)
    config = lf.MixConfig(n, speakers, seconds, valid=valid, test=test, seed=seed)
    mixtures = lf.mix_corpus(voices, out / "mixtures", config)
    print(mixtures.layout, *mixtures.notes, f"{len(lf.audit_split(mixtures))} leaks", sep="\n  ")

    for name in arch:
        # 2 Make clips: waveforms or images, whichever the network takes.
        folder = out / name
        kind = lf.clip_kind(name)
        mel = lf.MelConfig(8_000, seconds, n_fft=512, hop_length=128, n_mels=64, kind=kind)
        lf.export_images(mixtures, folder / "images", mel)

        # 3 Train.
        learn = lf.language_learner(lf.make_dataloaders(folder / "images"), name, weights="none")
        first, middle, last = lf.SCRATCH_SCHEDULE
        stages = (first, replace(middle, epochs=epochs), last)
        with learn.no_bar(), learn.no_logging():
            lf.fit_stages(learn, stages, checkpoints=folder / "checkpoints", seed=seed)
        lf.save_learner(learn, folder / "model")

        # 4 Test on mixtures of other speakers.
        clips = lf.read_clips(folder / "images", mixtures.index, "test")
        files = [folder / "images" / file for file in clips["image"]]
        result = lf.evaluate(clips, lf.predict_images(learn, files), list(learn.dls.vocab))
        low, high = result["recordings"]["accuracy_wilson"]
        print(
            f"{name:<14} accuracy {result['recordings']['accuracy']:.4f} of "
            f"{result['n_recordings']} mixtures, 95 % {low:.4f} to {high:.4f}; "
            f"chance {1 / speakers:.4f}"
        )
        print(pd.DataFrame(result["confusion"]["matrix"], learn.dls.vocab, learn.dls.vocab))


if __name__ == "__main__":
    typer.run(main)
