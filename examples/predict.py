"""Identify the language of recordings with a trained model, in Python.

    python examples/predict.py runs/mine call.mp3 interview.wav --candidates es,ca

`langid predict` does this on the command line.
"""

from pathlib import Path
from typing import Annotated

import typer

import langid_fastai as lf
from langid_fastai.prediction import Audio


def main(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    recordings: Annotated[list[Path], typer.Argument(help="Recordings of any length.")],
    candidates: Annotated[str, typer.Option(help="Possible languages, e.g. es,ca.")] = "",
) -> None:
    """Print the likeliest languages of each recording."""
    identifier = lf.LanguageIdentifier.load(model)
    print("languages", *identifier.info.vocab)

    # A recording may be a path, the bytes of a file, an open file, or a waveform with its rate.
    first = recordings[0]
    sr = identifier.info.mel.sr
    y = lf.load_audio(first, sr=sr)
    asked: list[Audio] = [first, first.read_bytes(), (y, sr)]
    print("one recording, three forms:", *(answers[0] for answers in identifier(asked)), sep="\n  ")

    # A list of recordings gives a list of answers, each independent of the other recordings.
    for path, answers in zip(recordings, identifier(list(recordings), top_k=3), strict=True):
        print(path.name, *(f"{a['label']} {a['score']:.3f}" for a in answers))

    # If only a few languages are possible, name them.
    if candidates:
        answers = identifier(first, candidates=candidates.split(","))
        print(f"among {candidates}:", *(f"{a['label']} {a['score']:.3f}" for a in answers))


if __name__ == "__main__":
    typer.run(main)
