"""Compare three base models on two languages: cut long recordings at pauses, split, and train.

    python examples/base_models.py interviews --out runs/base-models
    python examples/base_models.py                                       with synthetic recordings

The original use was hours of interviews in Spanish and Yucatec Maya, with one folder per language.
If a folder has one sub-folder per speaker, each speaker is in one split only.
"""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import typer

import langid_fastai as lf
from langid_fastai.corpus.demo import make_demo
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.report import console

SPEAKER = r"(?P<speaker>[^/]+)/[^/]+$"  # the folder that a file lies in


def main(
    corpus: Annotated[
        Path | None, typer.Argument(help="A corpus; by default synthetic speech.")
    ] = None,
    out: Path = Path("runs/base-models"),
    arch: str = "mobilenet_v2,resnet50,resnet152",
    weights: str = "none",
    epochs: tuple[int, int, int] = (1, 30, 2),
    voices: Annotated[int, typer.Option(help="Number of synthetic voices.")] = 24,
) -> None:
    """Cut recordings, train the networks and compare them."""
    # 1 Read long recordings and their speakers.
    if corpus is None:
        long = lf.read_corpus(make_long(out / "long", voices), speaker=SPEAKER)
    else:
        long = lf.read_corpus(corpus)

    # 2 Cut at pauses into utterances of 3 to 15 s; cut inside words only if there is no pause.
    cut = lf.cut_corpus(long, out / "utterances", lf.CutRules(shortest=3, longest=15))
    print(*console.cut_lines(cut), sep="\n")

    # 3 Train all networks on the same split and the same images.
    compared, _ = lf.compare(
        out / "compared",
        CorpusSettings(str(out / "utterances" / "index.csv"), test=0.3),
        arch.split(","),
        TrainSettings(weights=weights, epochs=epochs),
        lf.MelConfig(sr=16_000, n_fft=1024, hop_length=256, n_mels=64),
        tell=print,
    )
    print(*lf.comparison_lines(compared), sep="\n")
    print(f"picture    {out / 'compared' / 'comparison.png'}")


def make_long(folder: Path, voices: int) -> Path:
    """Join the clips of each demo voice and language to one recording, with pauses of 0.5 s.

    The voices are synthetic: the results show that the steps work, not how well they do on people.
    """
    demo = make_demo(
        folder.with_name("demo-corpus"),
        languages=("de", "es"),
        held_out=(),
        train_voices=voices - voices // 3,
        test_voices=voices // 3,
        train_clips=4,
        test_clips=4,
    )
    read_by = defaultdict(list)
    for file in sorted(demo.rglob("*.flac")):
        language, gender, rest = file.name.split("_", 2)
        read_by[language, f"{gender}{rest.partition('.')[0][:8]}"].append(file)
    for (language, voice), files in read_by.items():
        (folder / language / voice).mkdir(parents=True, exist_ok=True)
        pieces = []
        for file in files:
            y, sr = sf.read(file, dtype="int16")
            pieces += [y, np.zeros(sr // 2, dtype=np.int16)]
        sf.write(folder / language / voice / "reading.flac", np.concatenate(pieces), sr)
    return folder


if __name__ == "__main__":
    typer.run(main)
