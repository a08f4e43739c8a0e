"""Augmentation of spectrogram images (and audio clips) during training.

SpecAugment (Park et al. 2019, "SpecAugment: a simple data augmentation method for automatic speech
recognition", arXiv:1904.08779) masks random spans of time and bands of frequency, so that a network
cannot rely on a single word or formant. Time warping is omitted: according to the authors, it has
the highest cost and the least effect.

Mixup (Zhang et al. 2018, "mixup: beyond empirical risk minimization", arXiv:1710.09412) blends each
image with another from its batch, and the targets in the same proportion, by fastai's callback and
loss. The training loss of blended images cannot reach zero; validation uses unchanged images.

Conventions: images are ``(n, n_channels, height, width)``; height is the number of mel bands, width
the number of frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastai.callback.core import Callback
from fastai.callback.mixup import MixUp
from fastai.learner import Learner

__all__ = [
    "crop_images",
    "mask_images",
    "roll_images",
    "RandomCrop",
    "SpecAugment",
    "image_callbacks",
    "loss_kept",
]

# Widest mask, as a fraction of the image: 25 of 128 bands, 65 of 431 frames (1.5 s). Park et al.
# mask up to 27 of 80 bands and 100 frames (1 s).
MAX_HEIGHT = 0.2
MAX_WIDTH = 0.15
# Minimum width of a crop, frames: that of the shortest input of `speech_embedding`.
LEAST_WIDTH = 76


def mask_images(x: torch.Tensor, n_masks: int = 1) -> torch.Tensor:
    """Replace random bands and time spans of each image by the mean of each channel.

    Parameters
    ----------
    x : (n, n_channels, height, width)
    n_masks : number of frequency masks, and of time masks, per image; their widths and positions
        are drawn from torch's generator

    Returns
    -------
    masked : (n, n_channels, height, width), a copy

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> x = torch.rand(8, 3, 128, 431)
    >>> bool((mask_images(x) != x).float().mean() < MAX_HEIGHT + MAX_WIDTH)
    True
    """
    mean = x.mean(dim=(2, 3), keepdim=True)
    covered = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for _ in range(n_masks):
        bands = _spans(len(x), x.shape[2], MAX_HEIGHT, x.device)
        times = _spans(len(x), x.shape[3], MAX_WIDTH, x.device)
        covered |= bands[:, None, :, None] | times[:, None, None, :]
    return torch.where(covered, mean, x)


def roll_images(x: torch.Tensor) -> torch.Tensor:
    """Rotate each image in time by a random number of frames.

    The position of a sound in a clip has no meaning, since a clip could begin at any time.

    Parameters
    ----------
    x : (n, n_channels, height, width)

    Returns
    -------
    rolled : (n, n_channels, height, width), a copy

    Examples
    --------
    >>> x = torch.arange(5.0).expand(2, 1, 1, 5)
    >>> roll_images(x).sort(dim=3).values.equal(x)
    True
    """
    n, _, _, width = x.shape
    shift = torch.randint(width, (n, 1), device=x.device)
    frame = (torch.arange(width, device=x.device) + shift) % width  # (n, width)
    return x.gather(3, frame[:, None, None, :].expand_as(x))


def crop_images(x: torch.Tensor, share: float) -> torch.Tensor:
    """Crop each image in time at a random position, drawn from torch's generator.

    Parameters
    ----------
    x : (n, n_channels, height, width)
    share : fraction of the width that is kept, above 0 and at most 1

    Returns
    -------
    cropped : (n, n_channels, height, round(share * width)); if that is narrower than `LEAST_WIDTH`
        frames, the width is `LEAST_WIDTH`, or that of `x` if less

    Examples
    --------
    >>> crop_images(torch.zeros(2, 3, 32, 601), 0.5).shape
    torch.Size([2, 3, 32, 300])
    """
    n, n_channels, height, width = x.shape
    kept = max(round(share * width), min(width, LEAST_WIDTH))
    start = torch.randint(width - kept + 1, (n, 1), device=x.device)
    frame = start + torch.arange(kept, device=x.device)  # (n, kept)
    return x.gather(3, frame[:, None, None, :].expand(n, n_channels, height, kept))


class RandomCrop(Callback):
    """Crop the training batches of a fastai Learner in time; validation uses whole clips.

    Parameters
    ----------
    share : see `crop_images`
    """

    order = -1  # before masks and mixup
    run_valid = False

    def __init__(self, share: float) -> None:
        self.share = share

    def before_batch(self) -> None:
        """Crop the batch, images or waveforms."""
        x = self.xb[0].as_subclass(torch.Tensor)
        images = x if x.ndim == 4 else x[:, :, None]
        cropped = crop_images(images, self.share)
        self.learn.xb = (cropped if x.ndim == 4 else cropped[:, :, 0], *self.xb[1:])


class SpecAugment(Callback):
    """Roll and mask the training batches of a fastai Learner; validation is unchanged.

    Waveforms, ``(n, 1, n_samples)``, are rolled and masked in time only.

    Parameters
    ----------
    n_masks : see `mask_images`
    """

    run_valid = False

    def __init__(self, n_masks: int = 1) -> None:
        self.n_masks = n_masks

    def before_batch(self) -> None:
        """Roll and mask the batch."""
        x = self.xb[0].as_subclass(torch.Tensor)  # operations on fastai's type are slower
        # A waveform is treated as an image of one row, which is too low for frequency masks.
        images = x if x.ndim == 4 else x[:, :, None]
        self.learn.xb = (
            mask_images(roll_images(images), self.n_masks).view_as(x),
            *self.xb[1:],
        )


def image_callbacks(masks: int = 0, mixup: float = 0.0, crop: float = 1.0) -> list[Callback]:
    """Make the callbacks that augment the training batches of a fastai Learner.

    Parameters
    ----------
    masks : see `mask_images`; 0 disables masks and rolling
    mixup : alpha of Zhang et al., who use 0.2 to 0.4 for images: proportions are drawn from
        Beta(alpha, alpha) for each image; 0 disables mixup
    crop : `share` of `crop_images`; 1 for whole clips

    Examples
    --------
    >>> [type(callback).__name__ for callback in image_callbacks(masks=1, mixup=0.4, crop=0.5)]
    ['RandomCrop', 'SpecAugment', 'MixUp']
    """
    cropped: list[Callback] = [RandomCrop(crop)] if crop != 1 else []
    masked: list[Callback] = [SpecAugment(masks)] if masks else []
    return [*cropped, *masked, *([MixUp(mixup)] if mixup else [])]


@contextmanager
def loss_kept(learn: Learner) -> Iterator[None]:
    """Restore the loss of a Learner after the block, since fastai's mixup replaces it.

    Parameters
    ----------
    learn : Learner to train inside the block; its loss is also restored after an interrupt
    """
    loss_func = learn.loss_func
    try:
        yield
    finally:
        learn.loss_func = loss_func


def _spans(n: int, length: int, share: float, device: torch.device) -> torch.Tensor:
    """Draw a span per image, with a random width up to `share`: ``(n, length)``, boolean."""
    width = torch.rand(n, 1, device=device) * share * length
    start = torch.rand(n, 1, device=device) * (length - width)
    position = torch.arange(length, device=device)
    return (position >= start) & (position < start + width)
