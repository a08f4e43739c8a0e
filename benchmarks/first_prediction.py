"""Time the first prediction: from process start to the printed answer for a 10 s recording.

    python benchmarks/first_prediction.py [--archs resnet18 resnet152] [--repetitions 3]

Ours is `langid predict`, with and without ``model.onnx`` in the model folder. Plain is a script
after fastai's documentation: `load_learner`, librosa for the spectrogram, `predict`. The networks
are untrained, which does not affect the time. Files are in the disk cache from the previous round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from common import alternate, print_table, ratio
from fastai.data.transforms import Normalize
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from torchvision import models

from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import build_network
from langid_fastai.preprocessing import MelConfig, mel_image, write_png

CONFIG = MelConfig()
VOCAB = ("de", "en", "es")
LANGID = [sys.executable, "-c", "from langid_fastai.cli import main; main()"]
PLAIN = """
import sys, librosa, numpy as np
from fastai.vision.all import PILImage, load_learner
learn = load_learner(sys.argv[1])
y, sr = librosa.load(sys.argv[2], sr=22050)
S_db = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr), ref=np.max)
grey = ((S_db[::-1] + 80) * 255 / 80).astype(np.uint8)
with learn.no_bar():
    label, _, probs = learn.predict(PILImage.create(np.stack([grey] * 3, axis=-1)))
print(label, probs)
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=["resnet18", "resnet152"])
    parser.add_argument("--repetitions", type=int, default=3)
    asked = parser.parse_args()
    print("## First prediction, from a cold process\n")
    print(
        "Seconds from the start of Python to the printed answer for one recording of 10 s (FLAC, "
        f"22 050 Hz), a new process each time; medians of {asked.repetitions} alternating "
        "repetitions, ratios to the plain script within them.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "speech.flac"
        sf.write(audio, made_up_speech(), CONFIG.sr)
        rows = [
            row
            for arch in asked.archs
            for row in rows_of(arch, make_models(Path(folder), arch), audio, asked.repetitions)
        ]
        help_only = alternate({"help": command([*LANGID, "--help"])}, asked.repetitions)["help"]
    rows.append(("", "`langid --help`", f"{statistics.median(help_only):.2f}", ""))
    print_table(("network", "", "s", "ratio"), rows)


def rows_of(
    arch: str, made: dict[str, Path], audio: Path, repetitions: int
) -> list[tuple[str, str, str, str]]:
    """Time one network each way, and return its rows of the table."""
    ours, ours_torch, plain = "`langid predict`, ONNX", "`langid predict`, torch", "plain script"
    seconds = alternate(
        {
            ours: command([*LANGID, "predict", made["onnx"], audio]),
            ours_torch: command([*LANGID, "predict", made["torch"], audio]),
            plain: command([sys.executable, "-W", "ignore", "-c", PLAIN, made["plain"], audio]),
        },
        repetitions,
    )
    return [
        (arch, name, f"{statistics.median(times):.2f}", f"{ratio(seconds[plain], times):.1f}")
        for name, times in seconds.items()
    ]


def command(argv: list[str | Path]) -> Callable[[], object]:
    """Return a function that runs a command in a new process and raises if it fails."""
    return lambda: subprocess.run(
        argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ
    )


def make_models(folder: Path, arch: str) -> dict[str, Path]:
    """Write an untrained network as a model folder, one with ``model.onnx``, and a pickle."""
    torch.manual_seed(0)
    made = {kind: folder / f"{arch}-{kind}" for kind in ("onnx", "torch")}
    state = build_network(arch, len(VOCAB)).state_dict()
    for model in made.values():
        write_model(model, state, ModelInfo(arch, VOCAB, CONFIG))
    export_onnx(made["onnx"])
    return {**made, "plain": export_plain(folder / f"{arch}-plain", arch)}


def export_plain(folder: Path, arch: str) -> Path:
    """Export the Learner of fastai's documentation as a pickle."""
    image = mel_image(made_up_speech(), CONFIG)
    for side, label in [(side, label) for side in ("train", "valid") for label in VOCAB]:
        (folder / side / label).mkdir(parents=True)
        write_png(image, folder / side / label / "0.png")
    normalize = Normalize.from_stats(*imagenet_stats, cuda=False)
    dls = ImageDataLoaders.from_folder(
        folder, train="train", valid="valid", bs=2, num_workers=0, batch_tfms=normalize
    )
    learn = vision_learner(dls, getattr(models, arch), pretrained=False)
    learn.export(folder / "export.pkl")
    return folder / "export.pkl"


def made_up_speech() -> np.ndarray:
    """Make ten seconds of a buzz that rises and falls like syllables, with noise."""
    t = np.arange(CONFIG.n_samples) / CONFIG.sr
    buzz = (np.mod(120 * t, 1.0) - 0.5) * (0.5 + 0.5 * np.sin(6 * np.pi * t)) ** 2
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.5 * buzz + 0.01 * noise).astype(np.float32)


if __name__ == "__main__":
    main()
