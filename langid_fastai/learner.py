"""Turn a folder of spectrogram images or audio clips into DataLoaders and a fastai Learner.

::

    dls = make_dataloaders("runs/demo/images")
    learn = language_learner(dls, arch="resnet152", weights="pretrained")

Both are plain fastai objects: everything in the fastai documentation works with them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import fastai.callback.progress  # adds the progress bar and `no_bar` to every Learner
import fastai.callback.schedule  # noqa: F401  # adds `fit_one_cycle`, `lr_find` to every Learner
import pandas as pd
import torch
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
from langid_fastai.callbacks.precision import (
    Precision,
    pick_device,
    pick_precision,
    precision_callbacks,
)
from langid_fastai.clips.export import SUFFIXES
from langid_fastai.clips.waveforms import clip_kind, read_waveform, takes_waveforms
from langid_fastai.errors import ModelError, RunError
from langid_fastai.models.encoder_info import arch_name
from langid_fastai.models.folder import write_model
from langid_fastai.models.hub_encoder import encoder_of, stored_state
from langid_fastai.models.model_info import ModelInfo, validate_vocab
from langid_fastai.models.names import image_differences
from langid_fastai.models.networks import build_network, layer_groups, load_network
from langid_fastai.preprocessing import MelConfig
from langid_fastai.utils.environment import library_versions

__all__ = [
    "make_dataloaders",
    "language_learner",
    "load_learner",
    "save_learner",
    "wrap_network",
]


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

    Images are loaded as 8-bit grey; on the device, a batch becomes ``(n, 3, n_mels, n_frames)``:
    the grey image in three channels, normalised by the ImageNet statistics that pretrained weights
    expect. If the folder contains audio clips (``*.wav``), a batch is ``(n, 1, n_samples)``.

    Parameters
    ----------
    images : folder made by `export_images`, or any folder with this layout
    clips : table with another split of the same images, as from `read_clips`: columns `image`
        (path relative to `images`) and `split`. By default, the subfolders determine the split
    batch_size : images per training batch; at most the number of training images
    workers : number of processes that load images; 0 loads in the training process. By default, up
        to 8 with a GPU and 0 on the CPU, where loading takes 1 ms per image and all cores train
    device : device to train on; by default, a GPU if there is one
    seed : random seed for the order of the training images

    Returns
    -------
    dls : training and validation DataLoaders; `dls.vocab` is the sorted list of languages

    Raises
    ------
    RunError : there are no images or only one language, or a language is in validation but not in
        training

    Examples
    --------
    ::

        dls = make_dataloaders("runs/demo/images")
        dls.show_batch()
    """
    images = Path(images)
    if batch_size < 2:
        raise RunError(f"batch_size={batch_size} must be at least 2, as batch norm requires")
    train, valid = _image_files(images, clips)
    files = train + valid
    device = pick_device(str(device) if device is not None else None)
    labels = CategoryBlock(vocab=sorted(set(map(parent_label, files))))
    is_sound = files[0].endswith(SUFFIXES["waveform"])
    norm = Normalize.from_stats(*imagenet_stats, cuda=device.type == "cuda")
    block = DataBlock(
        blocks=(TransformBlock(_load_sound) if is_sound else ImageBlock(PILImageBW), labels),
        splitter=IndexSplitter(range(len(train), len(files))),
        get_y=parent_label,
        batch_tfms=None if is_sound else norm,
    )
    set_seed(seed)
    dls = block.dataloaders(
        files,
        path=images,
        bs=min(batch_size, len(train)),
        num_workers=_loading_processes(device) if workers is None else workers,
        pin_memory=device.type == "cuda",
        device=device,
    )
    dls.train.rng = random.Random(seed)
    for items in dls.valid_ds.tls:
        items.types[0] = (str, Path)  # so that `test_dl` accepts either
    return dls


def language_learner(
    dls: DataLoaders,
    arch: str = "resnet152",
    *,
    weights: str | Path = "pretrained",
    precision: Precision = "auto",
    seed: int = 0,
) -> Learner:
    """Make a Learner from a standard network with a new head, in three layer groups.

    Parameters
    ----------
    dls : DataLoaders from `make_dataloaders`
    arch : name of the network. For images: any network of torchvision or timm (extra `timm`),
        ``spectrogram_cnn``, or ``speech_embedding`` (images made with `mel_config_for`). For audio
        clips: one of `langid_fastai.clips.waveforms.RAW_ARCHS`, or an encoder of the Hugging Face
        Hub (``hf:owner/name``, extra `hub`)
    weights : initial weights: ``pretrained`` for the published ones (trained on ImageNet or on
        speech), ``none`` for random ones, or the path of a torchvision state dict or of a model
        folder of this library, to transfer from one set of languages to another
    precision : training precision; ``auto`` is bfloat16 where the hardware supports it, float16 on
        older GPUs, else float32. Weights are always float32
    seed : random seed for the new weights

    Returns
    -------
    learn : Learner with all layers trainable; `fit_stages` freezes and unfreezes them. `learn.arch`
        and `learn.weights` record these arguments

    Raises
    ------
    ModelError : `arch` is unknown, `weights` are unavailable, or the network does not take these
        clips

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
    """Make a Learner from an existing network; see `language_learner`."""
    validate_vocab(list(dls.vocab))  # now, not when saving after hours of training
    _try_clip(network, dls, arch)
    device = dls.device or default_device()
    # In this memory format CPUs and GPUs convolve without reordering first.
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
    return learn.add_cbs(precision_callbacks(learn.precision, device))


def load_learner(folder: str | Path, dls: DataLoaders) -> Learner:
    """Make a float32 Learner from a trained model folder, to test it or train it further.

    Parameters
    ----------
    folder : a model folder, or a run folder that contains one
    dls : DataLoaders with the same languages as the model

    Raises
    ------
    ModelError : there is no model in `folder`, or the languages differ
    """
    network, info = load_network(folder)
    if list(info.vocab) != list(dls.vocab):
        raise ModelError(
            f"{folder} has the languages {list(info.vocab)}, but the images have "
            f"{list(dls.vocab)}; use images of the same languages"
        )
    return wrap_network(dls, network, info.arch, weights=folder, precision="fp32")


def save_learner(
    learn: Learner, folder: str | Path, *, training: dict[str, Any] | None = None
) -> None:
    """Write a trained Learner as a model folder, for `LanguageIdentifier.load` and `load_learner`.

    The model is not calibrated, so its scores are usually overconfident. `langid-train` calibrates
    on the validation recordings.

    Parameters
    ----------
    learn : Learner from `language_learner`, trained on images made by `export_images`
    folder : model folder, created if missing; an existing model is replaced
    training : description of the training, stored with the model; by default, the initial weights

    Raises
    ------
    RunError : the images have no ``mel.json``, which records how they were made

    Examples
    --------
    ::

        save_learner(learn, "model")
        LanguageIdentifier.load("model")("call.mp3")
    """
    note = Path(learn.dls.path) / "mel.json"
    if not note.exists():
        raise RunError(
            f"{note}: no such file, so it is unknown how the images were made; make them with "
            "`export_images`"
        )
    encoder = encoder_of(learn.model)
    info = ModelInfo(
        arch=arch_name(learn.arch),
        vocab=tuple(learn.dls.vocab),
        mel=MelConfig.read(note),
        training=training or {"weights": learn.weights},
        versions=library_versions(*(["transformers"] if encoder else [])),
        encoder=encoder,
    )
    write_model(Path(folder), stored_state(learn.model), info)


def _loading_processes(device: torch.device) -> int:
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0


def _image_files(images: Path, clips: pd.DataFrame | None) -> tuple[list[str], list[str]]:
    """Return the sorted training and validation images, after checking that both can be used.

    They are strings, since `Path` objects need five times the memory in every loading process.
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
            [f"{images}/{image}" for image in sorted(clips.loc[clips["split"] == split, "image"])]
            for split in ("train", "valid")
        )
    for split, files in (("train", train), ("valid", valid)):
        if not files:
            raise RunError(
                f"{images}: no images in {split}/<language>/*.png; make them with `langid prepare "
                "CORPUS`"
            )
    trained, validated = (set(map(parent_label, files)) for files in (train, valid))
    if len(trained) < 2:
        raise RunError(f"{images / 'train'}: has only one language; at least two are needed")
    if only_valid := validated - trained:
        raise RunError(
            f"{images}: {sorted(only_valid)} are in valid but not in train; add training images"
        )
    return train, valid


def _load_sound(source: str | Path | bytes) -> torch.Tensor:
    return torch.from_numpy(read_waveform(source))[None]  # (1, n_samples)


def _try_clip(network: torch.nn.Module, dls: DataLoaders, arch: str) -> None:
    """Check that the network accepts the kind and size of the clips: some accept only 224 × 224."""
    is_sound = dls.train.items[0].endswith(SUFFIXES["waveform"])
    if is_sound != takes_waveforms(arch):
        raise ModelError(
            f"arch {arch!r} takes {'images' if is_sound else 'waveforms'}, but the clips are "
            f"{'waveforms' if is_sound else 'images'}; export clips with "
            f"MelConfig(kind={clip_kind(arch)!r}) to another folder"
        )
    width = height = 0
    if not is_sound:
        with Image.open(dls.train.items[0]) as image:
            width, height = image.size
    if differing := image_differences(arch, Path(dls.path), height):
        raise ModelError(
            f"arch {arch!r} does not take clips like those in {dls.path} ({differing}); export "
            f"clips to another folder, with mel_config_for({arch!r}) or `langid prepare --arch "
            f"{arch}`"
        )
    if is_sound:
        return  # any length is accepted
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"arch {arch!r} does not take images of {height} × {width} ({error}); "
            "use a convolutional network such as resnet152"
        ) from error
    network.train()
