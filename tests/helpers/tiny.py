"""A small network for tests, and copies of its weights."""

import torch
from torch import nn


def tiny_network(*, has_norm=True):
    """Body and head as made by `build_network`, but small."""

    def block(n_in, n_out):
        conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(n_out) if has_norm else nn.Identity(), nn.ReLU())

    body = nn.Sequential(block(3, 8), block(8, 16), block(16, 32))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    norm = nn.BatchNorm1d(32) if has_norm else nn.Identity()
    head = nn.Sequential(pool, norm, nn.Dropout(0.25), nn.Linear(32, 2))
    return nn.Sequential(body, head)


def weights_of(learn):
    """Copies of all convolution and linear weights, by module name."""
    return {
        name: module.weight.detach().clone()
        for name, module in learn.model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}
