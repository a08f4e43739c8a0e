"""A folder of spectrogram images, or of clips of sound → DataLoaders → a fastai Learner.

::

    dls = make_dataloaders("runs/demo/images")
    learn = language_learner(dls, arch="resnet152", weights="pretrained")

Both are plain fastai objects: everything its documentation shows can be done with them.
"""

from __future__ import annotations

import os
import random
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import fastai.callback.progress  # gives every Learner its bar, and `no_bar`
import fastai.callback.schedule  # noqa: F401  # gives every Learner `fit_one_cycle`, `lr_find`
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IndexSplitter, Normalize, parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.torch_core import default_device, set_seed
from fastai.vision.core import PILImageBW, imagenet_stats
from fastai.vision.data import ImageBlock
from PIL import Image

from langid_fastai.callbacks.fused_adam import fused_adam
from langid_fastai.clips.export import SUFFIXES
from langid_fastai.clips.waveforms import clip_kind, read_waveform, takes_waveforms
from langid_fastai.errors import ModelError, RunError, first_line
from langid_fastai.models.folder import ModelInfo, validate_vocab, write_model
from langid_fastai.models.names import image_differences
from langid_fastai.models.networks import build_network, layer_groups, load_network
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.environment import library_versions

__all__ = [
    "Precision",
    "make_dataloaders",
    "language_learner",
    "load_learner",
    "save_learner",
    "wrap_network",
    "full_precision",
    "pick_device",
    "pick_precision",
    "CpuAutocast",
]

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def make_dataloaders(
    images: str | Path,
    *,
    clips: pd.DataFrame | None = None,
    batch_size: int = 16,
    workers: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> DataLoaders:
    """Make fastai DataLoaders from ``images/train/<language>/*.png`` and ``images/valid/…``.

    Images are loaded as grey bytes; on the device, a batch becomes ``(n, 3, n_mels, n_frames)``,
    the grey image three times, normalised by the ImageNet statistics that pretrained weights
    expect. Where the folder holds clips of sound (``*.wav``), a batch is ``(n, 1, n_samples)``.

    Parameters
    ----------
    images : folder made by `export_images`, or any folder of this form
    clips : another split of the same images: `image` (path below `images`) and `split`, as
        `read_clips` returns them; by default the folder's
    batch_size : images in a training batch; at most the number of training images
    workers : loading processes; 0 loads in the training process. By default 0 on the CPU, where
        loading costs 1 ms an image and all cores train, and up to 8 for a GPU
    device : by default a GPU if there is one
    seed : of the order of the training images

    Returns
    -------
    dls : `dls.vocab` are the languages, sorted

    Raises
    ------
    RunError : no images, one language, or a language that is validated but not trained

    Examples
    --------
    ::

        dls = make_dataloaders("runs/demo/images")
        dls.show_batch()
    """
    images = Path(images)
    if batch_size < 2:
        raise RunError(f"batch_size={batch_size} must be at least 2: batch norm needs company")
    train, valid = _pictures(images, clips)
    pictures = train + valid
    device = pick_device(str(device) if device is not None else None)
    labels = CategoryBlock(vocab=sorted(set(map(parent_label, pictures))))
    is_sound = pictures[0].endswith(SUFFIXES["waveform"])
    norm = Normalize.from_stats(*imagenet_stats, cuda=device.type == "cuda")
    block = DataBlock(
        blocks=(TransformBlock(_load_sound) if is_sound else ImageBlock(PILImageBW), labels),
        splitter=IndexSplitter(range(len(train), len(pictures))),
        get_y=parent_label,
        batch_tfms=None if is_sound else norm,
    )
    set_seed(seed)
    dls = block.dataloaders(
        pictures,
        path=images,
        bs=min(batch_size, len(train)),
        num_workers=_loading_processes(device) if workers is None else workers,
        pin_memory=device.type == "cuda",
        device=device,
    )
    dls.train.rng = random.Random(seed)
    return dls


def language_learner(
    dls: DataLoaders,
    arch: str = "resnet152",
    *,
    weights: str | Path = "pretrained",
    precision: Precision = "auto",
    seed: int = 0,
) -> Learner:
    """Make a Learner: the body of a known network, a new head, and three layer groups.

    Parameters
    ----------
    dls : from `make_dataloaders`
    arch : any torchvision name, timm name (extra `timm`), ``speech_embedding`` for images by
        `mel_config_for`, ``spectrogram_cnn`` or, for clips of sound, one of
        `langid_fastai.clips.waveforms.RAW_ARCHS`
    weights : ``pretrained``, the published weights of the network (of ImageNet, or of speech);
        ``none``; or a path: a torchvision state dict, or a model folder of this library, to
        transfer from one set of languages to another
    precision : arithmetic of training; ``auto`` is bfloat16 where the hardware computes it, float16
        on older GPUs, else float32. Weights are float32 always
    seed : of the new weights

    Returns
    -------
    learn : not frozen; `fit_stages` freezes and thaws. `learn.arch` and `learn.weights` say what it
        was made of

    Raises
    ------
    ModelError : unknown arch, weights that cannot be had, or images the arch does not take

    Examples
    --------
    ::

        learn = language_learner(dls, arch="resnet18", weights="none")
    """
    set_seed(seed)
    network = build_network(arch, len(dls.vocab), weights=weights)
    return wrap_network(dls, network, arch, weights=weights, precision=precision)


def wrap_network(
    dls: DataLoaders,
    network: torch.nn.Sequential,
    arch: str,
    *,
    weights: str | Path,
    precision: Precision = "auto",
) -> Learner:
    """Make a Learner of a network that is built already; see `language_learner`."""
    validate_vocab(list(dls.vocab))  # now, not when hours of training are to be saved
    _try_clip(network, dls, arch)
    device = dls.device or default_device()
    # In this memory order CPUs and GPUs convolve without reordering first.
    network = network.to(device).to(memory_format=torch.channels_last)
    learn = Learner(
        dls,
        network,
        loss_func=CrossEntropyLossFlat(),
        opt_func=fused_adam,
        splitter=layer_groups,
        metrics=accuracy,
    )
    learn.arch, learn.weights = arch, str(weights)
    learn.precision = pick_precision(device) if precision == "auto" else precision
    return learn.add_cbs(_precision_callbacks(learn.precision, device))


def load_learner(folder: str | Path, dls: DataLoaders) -> Learner:
    """Make a Learner of a trained model folder, to test it or train it on, in float32.

    Parameters
    ----------
    folder : a model folder, or a run folder that holds one
    dls : with the languages of the model

    Raises
    ------
    ModelError : no model folder, or the languages differ
    """
    network, info = load_network(folder)
    if list(info.vocab) != list(dls.vocab):
        raise ModelError(f"{folder} knows {list(info.vocab)}, the images hold {list(dls.vocab)}")
    return wrap_network(dls, network, info.arch, weights=folder, precision="fp32")


def save_learner(learn: Learner, folder: str | Path) -> None:
    """Write a trained Learner as a model folder, for `LanguageIdentifier.load` and `load_learner`.

    It is not calibrated: its scores are those of training, usually too sure. `langid-train`
    calibrates on the validation recordings.

    Parameters
    ----------
    learn : from `language_learner`, with images made by `export_images`
    folder : made if it is not there; a model in it is replaced

    Raises
    ------
    RunError : the images have no ``mel.json``, which tells how they were made

    Examples
    --------
    ::

        save_learner(learn, "model")
        LanguageIdentifier.load("model")("call.mp3")
    """
    note = Path(learn.dls.path) / "mel.json"
    if not note.exists():
        raise RunError(
            f"{note}: no such file, so nobody could tell how the images were made; make them with "
            "`export_images`"
        )
    info = ModelInfo(
        arch=learn.arch,
        vocab=tuple(learn.dls.vocab),
        mel=MelConfig.read(note),
        training={"weights": learn.weights},
        versions=library_versions(),
    )
    write_model(Path(folder), learn.model.state_dict(), info)


def full_precision(learn: Learner) -> AbstractContextManager[Learner]:
    """Compute in float32 inside the block, as prediction does later."""
    mixed = [cb for cb in learn.cbs if isinstance(cb, (CpuAutocast, MixedPrecision))]
    return learn.removed_cbs(mixed)


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name, or a GPU if there is one.

    Raises
    ------
    ModelError : no such device here
    """
    if name is None:
        return default_device()
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {name!r} cannot be used here ({first_line(error)}); take cpu, or cuda with a "
            "GPU and its driver"
        ) from error


def pick_precision(device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """The fastest arithmetic that the device computes itself."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_computes_bf16() else "fp32"


class CpuAutocast(Callback):
    """bfloat16 on CPUs that compute it; fastai's own `MixedPrecision` is for CUDA only."""

    order = MixedPrecision.order

    def before_batch(self) -> None:
        """Enter autocast for the forward pass and the loss."""
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()

    def after_pred(self) -> None:
        """Losses and metrics are computed in float32."""
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        """Leave autocast before the backward pass."""
        self.autocast.__exit__(None, None, None)


def _precision_callbacks(precision: str, device: torch.device) -> list[Callback]:
    if precision == "fp32":
        return []
    if precision == "bf16" and device.type == "cpu":
        return [CpuAutocast()]
    if device.type == "cuda" and precision in ("bf16", "fp16"):
        return [MixedPrecision(AMPMode(precision))]
    raise ModelError(
        f"precision={precision!r} does not go with device {device.type!r}; "
        "use auto, fp32, bf16 (CPU or CUDA) or fp16 (CUDA)"
    )


def _cpu_computes_bf16() -> bool:
    """Whether the processor has bfloat16 instructions; emulated ones are slower than float32."""
    # These are torch's only word on it, underscored; absent, float32 is the safe answer.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def _loading_processes(device: torch.device) -> int:
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def _pictures(images: Path, clips: pd.DataFrame | None) -> tuple[list[str], list[str]]:
    """Training and validation images, sorted, after checking that they can be learned from.

    Text, as a `Path` needs five times the memory, in every process that loads.
    """
    if not images.is_dir():
        raise RunError(f"{images}: no such folder of images; make one with `langid prepare CORPUS`")
    if clips is None:
        train, valid = (
            sorted(str(f) for suffix in set(SUFFIXES.values()) for f in folder.glob(f"*/*{suffix}"))
            for folder in (images / "train", images / "valid")
        )
    else:
        train, valid = (
            [f"{images}/{image}" for image in sorted(clips.loc[clips["split"] == side, "image"])]
            for side in ("train", "valid")
        )
    for side, pictures in (("train", train), ("valid", valid)):
        if not pictures:
            raise RunError(f"{images}: no image as {side}/<language>/*.png")
    trained, validated = (set(map(parent_label, pictures)) for pictures in (train, valid))
    if len(trained) < 2:
        raise RunError(f"{images / 'train'}: holds one language; at least two are needed")
    if only_valid := validated - trained:
        raise RunError(f"{images}: {sorted(only_valid)} stand in valid but not in train")
    return train, valid


def _load_sound(source: str | Path | bytes) -> torch.Tensor:
    return torch.from_numpy(read_waveform(source))[None]  # (1, n_samples)


def _try_clip(network: torch.nn.Module, dls: DataLoaders, arch: str) -> None:
    """See that the arch takes such clips, and images of this size: some want 224 × 224 alone."""
    is_sound = dls.train.items[0].endswith(SUFFIXES["waveform"])
    if is_sound != takes_waveforms(arch):
        raise ModelError(
            f"arch {arch!r} takes {'images' if is_sound else 'sound'}, and the clips are "
            f"{'sound' if is_sound else 'images'}; make others, with "
            f"MelConfig(kind={clip_kind(arch)!r}), into another folder"
        )
    if is_sound:
        return  # any length will do
    with Image.open(dls.train.items[0]) as image:
        width, height = image.size
    if differing := image_differences(arch, Path(dls.path), height):
        raise ModelError(
            f"arch {arch!r} does not take images like those of {dls.path} ({differing}); make "
            f"others into another folder, with mel_config_for({arch!r}) or `langid prepare --arch "
            f"{arch}`"
        )
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"arch {arch!r} does not take images of {height} × {width} ({error}); "
            "take a convolutional one such as resnet152"
        ) from error
    network.train()
