"""Measure bulk prediction: recordings read in worker processes and scored in batches.

    python benchmarks/bulk.py --recordings FOLDER [--archs speech_embedding resnet18 resnet152]

For each network, the following are timed in alternation: `LanguageIdentifier.predict_many`; one
call per recording, as in `langid predict` without ``--out``; the network alone, on clips in memory;
and the audio-classification pipeline of transformers, with a network of about the size of
speech_embedding. Then reading is timed alone, in one process and in two, and peak memory is
measured at two numbers of recordings. The networks are untrained, which does not affect the times.
The recordings are links to those of a folder, by default to synthetic ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
from common import alternate, print_table, ratio
from joblib import cpu_count
from memory import MIB, children, peak

from langid_fastai.audio.files import load_audio
from langid_fastai.corpus.readers.find import find_audio
from langid_fastai.inference.backends import scoring_threads
from langid_fastai.inference.bulk import WINDOWS, _Reader
from langid_fastai.inference.windows import spoken_windows
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import mel_config_for
from langid_fastai.models.networks import build_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.utils.parallel import streamed

VOCAB = ("de", "en", "es")
N_FILES = {"speech_embedding": 400, "resnet18": 100, "resnet152": 30}
N_READ = 2_000
N_MEMORY = (1_000, 10_000)


def main() -> None:
    """Measure and print tables; with ``--peak``, only measure the memory of one prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--archs", nargs="+", default=list(N_FILES))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the workload")
    parser.add_argument("--memory", nargs="*", type=int, default=list(N_MEMORY))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(json.dumps(peaks_of(Path(asked.peak[0]), Path(asked.peak[1]), int(asked.peak[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        originals = find_recordings(asked.recordings, scratch)
        models = {arch: make_model(scratch / arch, arch) for arch in asked.archs}
        print("## Bulk prediction\n\nThe start of the reading processes is included, about 1 s.\n")
        rows, reading = [], {}
        for arch in asked.archs:
            n = max(2, round(asked.scale * N_FILES[arch]))
            files = link(originals, scratch / "links" / arch, n)
            rows.append(measure(arch, models[arch], files, asked.repetitions))
            print(rows[-1], file=sys.stderr)
        for arch in asked.archs:
            if (mel := mel_config_for(arch)) not in reading:
                n = max(2, round(asked.scale * N_READ))
                files = link(originals, scratch / "read" / arch, n)
                reading[mel] = measure_reading(arch, models[arch], files, asked.repetitions)
        head = ["network", "recordings", "recordings/s", "of the network alone"]
        head += ["hours of audio per core-hour", "× one by one", "× transformers"]
        print_table([*head, "largest difference"], rows)
        print("\nReading and making clips, without network and start of processes, recordings/s:\n")
        print_table(
            ["network", "recordings", "1 process", "2 processes", "ratio"], reading.values()
        )
        if asked.memory:
            print()
            print_memory(originals, models[asked.archs[0]], scratch, asked.memory)


def measure(arch: str, model: Path, files: list[str], repetitions: int) -> list[str]:
    """Time one network, and return its row of the table."""
    identifier = LanguageIdentifier.load(model)
    clips = ready_clips(identifier, files)
    duration = sum(sf.info(file).duration for file in files)
    found: dict[str, list[list[float]]] = {}

    def many() -> None:
        predictions = identifier.predict_many(files, device="cpu")
        found["many"] = [scores_of(p.answers) for p in predictions]

    def single() -> None:
        found["single"] = [scores_of(identifier(file)) for file in files]

    def network() -> None:
        batches = np.split(clips, range(WINDOWS, len(clips), WINDOWS))
        with scoring_threads(identifier.engine) as pool:
            list(pool.map(identifier.engine.score_clips, batches))

    transformers = make_pipeline(identifier.info.mel.sr)
    seconds = alternate(
        {
            "many": many,
            "single": single,
            "network": network,
            "transformers": lambda: list(map(transformers, files)),
        },
        repetitions,
    )
    difference = np.abs(np.array(found["many"]) - np.array(found["single"])).max()
    return [
        arch,
        f"{len(files):,}",
        f"{len(files) / np.median(seconds['many']):.1f}",
        f"{ratio(seconds['network'], seconds['many']):.2f}",
        f"{duration / np.median(seconds['many']) / cpu_count():.0f}",
        f"{ratio(seconds['single'], seconds['many']):.2f}",
        f"{ratio(seconds['transformers'], seconds['many']):.2f}",
        f"{difference:.1g}",
    ]


def measure_reading(arch: str, model: Path, files: list[str], repetitions: int) -> list[str]:
    """Time reading and cutting into clips, without a network, in one process and in two.

    The clock starts with the first clip, when the processes have started. The first of the rounds
    is not counted.
    """
    identifier = LanguageIdentifier.load(model)
    reader = _Reader(identifier.info.mel, identifier.engine.clip_of, False, None)

    def clock(n_jobs: int) -> float:
        items = streamed(reader, enumerate(files), n_jobs=n_jobs)
        next(items)  # the processes have started
        began = time.perf_counter()
        for _ in items:
            pass
        return time.perf_counter() - began

    rounds = [(clock(1), clock(2)) for _ in range(1 + repetitions)]
    one, two = zip(*rounds[1:], strict=True)
    rates = [f"{len(files) / np.median(seconds):.0f}" for seconds in (one, two)]
    return [arch, f"{len(files):,}", *rates, f"{ratio(one, two):.2f}"]


def print_memory(originals: list[Path], model: Path, scratch: Path, sizes: list[int]) -> None:
    """Print peak memory at several numbers of recordings, each in a new process."""
    rows = []
    for n in sizes:
        link(originals, scratch / "many" / str(n), n)
        command = [sys.executable, "-W", "ignore", __file__, "--peak", str(model)]
        command += [str(scratch / "many" / str(n)), str(n)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        caller, worker = json.loads(done.stdout)
        rows.append([f"{n:,} recordings", f"{caller / MIB:.0f}", f"{worker / MIB:.0f}"])
    print_table(["peak memory, MiB", "the process that scores", "each that reads"], rows)


def peaks_of(model: Path, folder: Path, n: int) -> tuple[int, int]:
    """Predict a folder; return the peak memory of this process and its largest child, bytes."""
    files = (str(folder / name) for name in find_audio(folder)[0])
    largest = n_done = 0
    for prediction in LanguageIdentifier.load(model).predict_many(files, device="cpu"):
        n_done += not prediction.failure
        if n_done % 100 == 99:
            largest = max(largest, *(peak(process) for process in children()))
    if n_done != n:
        raise RuntimeError(f"{n - n_done} recordings failed")
    return peak(), largest


def ready_clips(identifier: LanguageIdentifier, files: list[str]) -> np.ndarray:
    """Return the clips of these files, as input of the network."""
    mel, clip_of = identifier.info.mel, identifier.engine.clip_of
    windows = (y for file in files for y, _ in spoken_windows([load_audio(file, sr=mel.sr)], mel))
    return np.stack([clip_of(y) if clip_of else y for y in windows])


def scores_of(answers: list) -> list[float]:
    """Return scores in the order of the labels."""
    return [answer["score"] for answer in sorted(answers, key=lambda answer: answer["label"])]


def make_pipeline(sr: int) -> Callable[[str], object]:
    """Make the audio-classification pipeline of transformers with a small, untrained AST."""
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        AudioClassificationPipeline,
    )

    config = ASTConfig(
        hidden_size=72, num_hidden_layers=4, num_attention_heads=4, intermediate_size=288
    )
    config.num_labels = len(VOCAB)
    classify = AudioClassificationPipeline(
        model=ASTForAudioClassification(config).eval(),
        feature_extractor=ASTFeatureExtractor(),
        device="cpu",
        framework="pt",
    )

    def predict(file: str) -> object:
        # The pipeline's own reader requires the program ffmpeg.
        return classify({"raw": load_audio(file, sr=16_000), "sampling_rate": 16_000})

    return predict


def make_model(folder: Path, arch: str) -> Path:
    """Write an untrained network as a model folder, and return the folder."""
    state = build_network(arch, len(VOCAB), weights="none").state_dict()
    write_model(folder, state, ModelInfo(arch, VOCAB, mel_config_for(arch)))
    return folder


def find_recordings(folder: Path | None, scratch: Path) -> list[Path]:
    """Return the recordings of a folder, or make synthetic ones."""
    if folder is not None:
        return [folder / name for name in find_audio(folder)[0]]
    rng, sr = np.random.default_rng(0), 16_000
    made = [scratch / "made" / f"{i}.flac" for i in range(16)]
    for number, file in enumerate(made):
        file.parent.mkdir(exist_ok=True)
        sf.write(file, 0.1 * rng.standard_normal((5 + number) * sr), sr)
    return made


def link(originals: list[Path], folder: Path, n: int) -> list[str]:
    """Make `n` links to the recordings, each in turn, and return their paths."""
    folder.mkdir(parents=True)
    files = []
    for number, original in zip(range(n), itertools.cycle(originals)):
        file = folder / f"{number:06d}{original.suffix}"
        file.symlink_to(original.resolve())
        files.append(str(file))
    return files


if __name__ == "__main__":
    main()
