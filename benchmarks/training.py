"""Compare training with the plain fastai script of the source project, on the same images.

    python benchmarks/training.py [--arch resnet152] [--images 48] [--precision fp32]

Plain: `vision_learner`, float32, default memory layout, features of the frozen body computed in
every epoch. Ours: `langid-train`, with and without `--cache-frozen`. Epochs of each kind are timed
in alternation, and the time of the schedule of 7 + 12 + 8 epochs is computed within each round. The
rate of training is also compared with that on random tensors which are already on the device.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from common import print_table, ratio
from fastai.callback.core import Callback, CancelFitException
from fastai.data.transforms import Normalize
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from torch import nn
from torchvision import models

from langid_fastai.callbacks.frozen_features import adapt_norms, cached_features
from langid_fastai.learner import language_learner, make_dataloaders
from langid_fastai.preprocessing import MelConfig, write_png
from langid_fastai.training import SEED_SCHEDULE, Stage

HEAD, ALL, REFREEZE = SEED_SCHEDULE
N_FROZEN, N_FULL = HEAD.epochs + REFREEZE.epochs, ALL.epochs
N_STEPS = 10  # training steps on random tensors, to time the network alone

Times = list[float]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet152")
    parser.add_argument("--images", type=int, default=48, help="number of training images")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--precision",
        default="auto",
        help="arithmetic of langid-train: auto, fp32 or bf16; the plain script uses fp32",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), asked.images)
        plain = plain_learner(Path(folder), asked.arch, asked.batch_size)
        dls = make_dataloaders(folder, batch_size=asked.batch_size)
        ours = language_learner(dls, asked.arch, weights="none", precision=asked.precision)
        for learn in (plain, ours):
            learn.remove_cb(learn.progress)
            learn.logger = lambda *_: None
        seconds = clock_all(plain, ours, asked)
        epochs = f"{HEAD.epochs} + {N_FULL} + {REFREEZE.epochs} epochs"
        print(f"## Training {asked.arch}, {epochs}, {ours.precision}\n")
        print(
            f"{asked.images} training and {asked.images // 3} validation images of "
            f"{' × '.join(map(str, MelConfig().shape))}, batches of {asked.batch_size}, ours in "
            f"{ours.precision}; medians of {asked.repetitions} alternating repetitions, ratios "
            "within them. An epoch contains its validation; ms are by training image.\n"
        )
        print_epochs(seconds, asked.images)
        print_rates(seconds, asked)


def clock_all(plain: Learner, ours: Learner, asked: argparse.Namespace) -> dict[str, Times]:
    """Return the seconds of each kind of epoch, by name, in each round after a warm-up."""
    x = torch.rand(asked.batch_size, 3, *MelConfig().shape, device=ours.dls.device)
    y = torch.arange(asked.batch_size, device=ours.dls.device) % 2
    colour = step_of(ours, ours.model, x, y)
    grey = step_of(ours, one_channel(ours.model), x[:, :1], y)
    kinds: dict[str, Callable[[], float]] = {
        "plain, frozen epoch": lambda: clock(lambda: fit(plain, HEAD)),
        "plain, full epoch": lambda: clock(lambda: fit(plain, ALL)),
        "ours, frozen epoch": lambda: clock(lambda: fit(ours, HEAD)),
        "ours, full epoch": lambda: clock(lambda: fit(ours, ALL)),
        "norms": lambda: clock(lambda: adapt_norms(ours)),
        "features": lambda: clock(lambda: compute_features(ours)),
        "cached, frozen epoch": lambda: clock_head(ours),
        "loading": lambda: clock(lambda: [None for _ in ours.dls.train]),
        "on images": lambda: clock(lambda: fit(ours, ALL, [WithoutValidation()])),
        "on random tensors": lambda: clock(colour),
        "of one channel": lambda: clock(grey),
    }
    seconds: dict[str, Times] = {name: [] for name in kinds}
    for _ in range(1 + asked.repetitions):
        for name, elapsed in kinds.items():
            seconds[name].append(elapsed())
    return {name: times[1:] for name, times in seconds.items()}


def print_epochs(seconds: dict[str, Times], n: int) -> None:
    """Print the times of the epochs and of the whole schedule."""
    frozen, full, our_frozen, our_full, norms, features, cached, loading, *_ = map(
        np.array, seconds.values()
    )
    schedule = N_FROZEN * frozen + N_FULL * full
    without = N_FROZEN * our_frozen + N_FULL * our_full
    with_cache = norms + 2 * features + N_FROZEN * cached + N_FULL * our_full
    print_table(
        ("", "plain, s", "ours, s", "times faster", "ours, ms an image"),
        [
            row("frozen epoch", frozen, our_frozen, n),
            row("frozen epoch, `--cache-frozen`", frozen, cached, n),
            row("features, once a frozen stage", None, features, n),
            row("batch norms adapted, once", None, norms, n),
            row("full epoch", full, our_full, n),
            row("**whole schedule**", schedule, without, n),
            row("**whole schedule, `--cache-frozen`**", schedule, with_cache, n),
            row("loading the images of an epoch", None, loading, n),
        ],
    )


def row(name: str, plain: np.ndarray | None, ours: np.ndarray, n: int) -> tuple[str, ...]:
    """Return a row of the table."""
    theirs = "" if plain is None else f"{statistics.median(plain):.2f}"
    faster = "" if plain is None else f"{ratio(plain, ours):.2f}"
    took = statistics.median(ours)
    return name, theirs, f"{took:.2f}", faster, f"{1000 * took / n:.1f}"


def print_rates(seconds: dict[str, Times], asked: argparse.Namespace) -> None:
    """Print the rate of training on the images and on random tensors of 3 and 1 channels."""
    n = asked.images // asked.batch_size * asked.batch_size  # an incomplete last batch is dropped
    three, one = seconds["on random tensors"], seconds["of one channel"]
    on_images = [n / s for s in seconds["on images"]]
    on_random = [asked.batch_size * N_STEPS / s for s in three]
    print(
        "\nIn plain torch, on random tensors that lie on the device already, the network trains "
        f"{statistics.median(on_random):.1f} images a second; on the images, with loading and all "
        f"of fastai's bookkeeping, {statistics.median(on_images):.1f}: "
        f"{ratio(on_images, on_random):.2f} of it. With a first convolution of one channel instead "
        f"of three, the steps on random tensors take {ratio(one, three):.3f} of the time."
    )


def step_of(
    learn: Learner, network: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> Callable[[], None]:
    """Return training steps in plain torch, with the Learner's precision and memory layout."""
    network = network.train()
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-6, fused=True)
    x = x.to(memory_format=torch.channels_last)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(learn.precision)

    def steps() -> None:
        for _ in range(N_STEPS):
            with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
                loss = nn.functional.cross_entropy(network(x).float(), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


def one_channel(network: nn.Sequential) -> nn.Sequential:
    """Return a copy for grey images: the first convolution's weights are summed over colours."""
    network = copy.deepcopy(network)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))
    first.in_channels = 1
    return network


def plain_learner(folder: Path, arch: str, batch_size: int) -> Learner:
    """Make the Learner of the source project, with fastai's defaults only."""
    dls = ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="valid",
        bs=batch_size,
        num_workers=0,
        batch_tfms=Normalize.from_stats(*imagenet_stats, cuda=torch.cuda.is_available()),
    )
    return vision_learner(dls, getattr(models, arch), pretrained=False, metrics=accuracy)


def fit(learn: Learner, stage: Stage, cbs: Sequence[Callback] = ()) -> None:
    """Train one epoch of a stage as in the source project, continuing with the same optimizer."""
    learn.freeze() if stage.trains == "head" else learn.unfreeze()
    learn.fit(1, stage.lr if stage.trains == "head" else np.array(stage.lr), cbs=list(cbs))


class WithoutValidation(Callback):
    """End the fit after training, before validation."""

    def after_train(self) -> None:
        """Stop the fit."""
        raise CancelFitException


def compute_features(learn: Learner) -> None:
    """Compute the features that `--cache-frozen` computes once per stage."""
    with cached_features(learn):
        pass


def clock_head(learn: Learner) -> float:
    """Return the seconds of an epoch on features, excluding their computation."""
    learn.freeze()
    with cached_features(learn):
        return clock(lambda: learn.fit(1, HEAD.lr))


def clock(run: Callable[[], object]) -> float:
    """Return the seconds of a call, including its work on a GPU."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


def make_images(folder: Path, n: int) -> None:
    """Write grey images of the default size in two classes, as an export does."""
    rng = np.random.default_rng(0)
    for side, n_side in (("train", n), ("valid", n // 3)):
        for i in range(n_side):
            file = folder / side / ("de", "es")[i % 2] / f"{i}@0.00.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_png(rng.integers(0, 256, MelConfig().shape, dtype=np.uint8), file)


if __name__ == "__main__":
    main()
