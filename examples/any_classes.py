"""Train on classes other than languages: musical styles, or accents of English.

    python examples/any_classes.py music
    python examples/any_classes.py accents

The audio is synthetic: rhythms with chords for the styles, and English sentences read by eSpeak in
several accents. With your own recordings, start at step 2. The answer has the format of a
`transformers` pipeline for audio classification: ``[{"label": …, "score": …}, …]``, best first.
"""

import random
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import typer

from langid_fastai import LanguageIdentifier, MelConfig
from langid_fastai.corpus.demo import SAMPLE_RATE, VOICES, read_sentences, speak
from langid_fastai.pipeline import evaluate, prepare, train
from langid_fastai.pipeline.run_folder import Run
from langid_fastai.pipeline.settings import CorpusSettings, TrainSettings
from langid_fastai.report import console

# Beats with a drum (the first is 1), number of beats per bar, and semitones of the chord.
STYLES = {
    "waltz": ((1,), 3, (0, 4, 7)),
    "march": ((1, 3), 4, (0, 4, 7)),
    "blues": ((2, 4), 4, (0, 4, 7, 10)),
}
ACCENTS = ("en-us", "en-gb-scotland", "en-029")  # American, Scottish, Caribbean


class What(StrEnum):
    """Classes to train on."""

    music = "music"
    accents = "accents"


def main(
    what: Annotated[What, typer.Argument(help="Classes to train on.")],
    out: Path = Path("runs"),
    per_class: Annotated[int, typer.Option(help="Number of pieces or voices in each class.")] = 24,
    arch: str = "resnet18",
    epochs: tuple[int, int, int] = (1, 20, 2),
    seed: int = 0,
) -> None:
    """Make recordings, train, test, and classify one test recording."""
    # 1 Make one folder per class; each has one sub-folder per piece or voice.
    recordings = out / f"{what.value}-recordings"
    for name, y in (make_music if what == What.music else make_accents)(per_class, seed):
        (recordings / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(recordings / name, y, SAMPLE_RATE)

    # 2 Split by sub-folder; a voice with several accents is one speaker, in one split.
    run = Run(out / what.value)
    speaker = None if what == What.music else r"(?P<speaker>[^/]+)/[^/]+$"
    corpus = prepare.read_and_split(
        run, CorpusSettings(str(recordings), speaker=speaker, valid=0.2, test=0.3, seed=seed)
    )
    prepare.make_images(run, corpus, MelConfig(sr=16_000, clip_seconds=5.0, n_mels=64))

    # 3 Train and test.
    settings = TrainSettings(arch, weights="none", epochs=epochs, seed=seed)
    network, plan = train.make_network(run, corpus, settings)
    learn = train.make_learner(run, settings, network)
    train.train(run, learn, settings, plan, on_epoch=lambda h: print(console.epoch_line(h)))
    train.calibrate(run, learn)
    print(*console.result_lines(evaluate.assess_test(run, learn)), sep="\n")
    evaluate.write_pages(run)

    # 4 Classify a test recording.
    asked = corpus.index[corpus.index["split"] == "test"]["path"].iloc[0]
    print(asked, LanguageIdentifier.load(run.folder)(recordings / asked), sep="\n")


def make_music(n: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield two takes of each piece, at different tempos and levels; each piece has one key."""
    for style, (drummed, n_beats, chord) in STYLES.items():
        for piece in range(n):
            for take in range(2):
                rng = np.random.default_rng([seed, piece, take, *style.encode()])
                beat = 60 / rng.uniform(90, 140)  # s
                t = np.arange(int(8 * SAMPLE_RATE)) / SAMPLE_RATE
                root = 110 * 2 ** (np.random.default_rng([seed, piece]).integers(12) / 12)  # Hz
                y = np.zeros(len(t))
                for k, start in enumerate(np.arange(0, 8, beat)):
                    since = t - start
                    fade = np.where(since >= 0, np.exp(-since.clip(0) / 0.25), 0)
                    for semitone in chord:
                        f = root * 2 ** (semitone / 12)
                        y += 0.1 * fade * np.sin(2 * np.pi * f * since)
                    if k % n_beats + 1 in drummed:
                        y += 0.3 * fade**4 * rng.standard_normal(len(t))
                y *= rng.uniform(0.3, 0.9) / np.abs(y).max()
                yield f"{style}/{piece:03}/{take}.flac", y


def make_accents(n: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield recordings of voices that read different English sentences in every accent."""
    sentences = read_sentences()["en"]["train"]
    voices = random.Random(seed).sample(sorted(VOICES["f"] + VOICES["m"]), n)
    for voice in voices:
        for accent in ACCENTS:
            for take in range(3):
                rng = random.Random(f"{seed}/{voice}/{accent}/{take}")
                text = " ".join(rng.sample(sentences, 4))
                rate, pitch = rng.randint(140, 190), rng.randint(35, 65)
                yield (
                    f"{accent}/{voice}/{take}.flac",
                    speak(text, accent, voice, rate=rate, pitch=pitch),
                )


if __name__ == "__main__":
    typer.run(main)
