"""Compute the features of a frozen body once, so that training the head takes seconds.

If the body is frozen *and* in evaluation mode, an image has the same features in every epoch. By
default, the batch norms of a frozen body are trained, as in fastai, so the features change. They
are cached only with the option `cache_frozen` of `fit_stages`.

Conventions: a network is ``Sequential(body, head)``. The first layers of the head that have no
weights (pooling) are also computed once. The features of an image are ``(n_features,)`` float32,
16 kB for ResNet152. They are in a memory-mapped file, so they are not limited by memory.

Contents: `cached_features`, `adapt_norms`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import torch
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import nn
from torch.utils.data import TensorDataset

from langid_fastai.utils.files import UNFINISHED, reserve
from langid_fastai.utils.folder_lock import sweep
from langid_fastai.utils.progress import track

__all__ = ["adapt_norms", "cached_features"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def cached_features(learn: Learner, folder: Path | None = None) -> Iterator[None]:
    """Replace the images of a Learner by their features, and its body by the identity.

    Inside the block, only the head is trained: the body, including its batch norms, is unchanged.

    Parameters
    ----------
    learn : Learner, restored with its `dls` after the block
    folder : folder for the temporary file of features; default: the system's temporary folder
    """
    body, head = learn.model
    passive = [body, *takewhile(_is_passive, head)]
    images = learn.dls
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    # With this suffix, `sweep` removes the folder of a killed command.
    mark = f".{os.getpid()}{UNFINISHED}"
    with tempfile.TemporaryDirectory(mark, "features-", folder) as scratch:
        train = _features(learn, passive, images.train, Path(scratch) / "train")
        valid = _features(learn, passive, images.valid, Path(scratch) / "valid")
        learn.dls = DataLoaders(
            DataLoader(
                train,
                bs=images.train.bs,
                shuffle=True,
                drop_last=images.train.drop_last,
                device=images.device,
            ),
            DataLoader(valid, bs=images.valid.bs, device=images.device),
            device=images.device,
        )
        # fastai does not freeze batch norms; distributed processes would wait for their gradients.
        free = [weight for weight in body.parameters() if weight.requires_grad]
        try:
            body.requires_grad_(False)
            for layer in passive:
                layer.forward = _pass_on  # overrides the method; keeps the weights
            yield
        finally:
            for layer in passive:
                del layer.forward
            for weight in free:
                weight.requires_grad_(True)
            learn.dls = images


def adapt_norms(learn: Learner) -> None:
    """Compute the statistics of the body's batch norms on the training images, in one pass.

    ImageNet weights have the statistics of photographs. With those of spectrograms, a head trained
    on the features is more accurate (Li et al. 2017, "Revisiting batch normalization for practical
    domain adaptation", https://arxiv.org/abs/1603.04779).
    """
    norms = [module for module in learn.model[0].modules() if isinstance(module, NORMS)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    learn.model[0].train()
    with torch.no_grad(), _autocast(learn):
        batches = learn.dls.train.new(shuffle=False)
        for x, _ in track(batches, total=len(batches), what="adapting norms", unit="batches"):
            learn.model[0](x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _features(learn: Learner, layers: list[nn.Module], dl: TfmdDL, file: Path) -> TensorDataset:
    """Compute the features of all images of a loader, in order, and write them to a file.

    Returns
    -------
    dataset : pairs of the features of an image, float32, and its label
    """
    learn.model.eval()
    labels: list[torch.Tensor] = []
    features, n_done = torch.empty(0), 0
    batches = dl.new(shuffle=False, drop_last=False)
    for x, y in track(batches, total=len(batches), what="frozen features", unit="batches"):
        with torch.inference_mode(), _autocast(learn):
            for layer in layers:
                x = layer(x)
        if not n_done:
            shape = (len(dl.dataset), *x.shape[1:])
            n_values = torch.Size(shape).numel()
            reserve(file, n_values * torch.float32.itemsize)
            # `shared`: a memory map of the file.
            features = torch.from_file(
                str(file), shared=True, size=n_values, dtype=torch.float32
            ).view(shape)
        features[n_done : n_done + len(x)] = x.float().cpu()
        labels.append(torch.as_tensor(y).cpu())
        n_done += len(x)
    return TensorDataset(features, torch.cat(labels))


def _is_passive(layer: nn.Module) -> bool:
    """Return whether a layer has no weights and is not random, such as pooling."""
    return not list(layer.parameters()) and not isinstance(layer, nn.Dropout)


def _pass_on(x: torch.Tensor) -> torch.Tensor:
    return x


def _autocast(learn: Learner) -> torch.autocast:
    """Return a context that computes in the precision of the Learner."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(learn.precision)
    return torch.autocast(learn.dls.device.type, dtype, enabled=dtype is not None)
