"""Find the segments of each language in a long or multilingual recording.

    python examples/timeline.py runs/mine meeting.mp3 --out meeting.txt

The output file is a label track that Audacity shows under the waveform (File, Import, Labels).
`langid predict MODEL AUDIO --timeline` prints the same segments.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

import langid_fastai as lf
from langid_fastai.inference.timeline_formats import to_labels


def main(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    recording: Annotated[Path, typer.Argument(help="Recording of any length.")],
    out: Annotated[Path, typer.Option(help="Label track for Audacity.")] = Path("labels.txt"),
) -> None:
    """Print the segments and the fraction of each language, and write a label track."""
    identifier = lf.LanguageIdentifier.load(model)
    segments = identifier.timeline(recording)
    for segment in segments:
        print(f"{segment['start']:8.1f} {segment['end']:8.1f}  {segment['label']}")
    seconds: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        seconds[segment["label"]] += segment["end"] - segment["start"]
    total = sum(seconds.values())
    print("share", *(f"{label} {s / total:.2f}" for label, s in seconds.items()))
    out.write_text(to_labels(segments), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
