"""The fused optimizer takes the steps of fastai's Adam, through groups, freezing and resuming."""

import copy

import pytest
import torch
from fastai.optimizer import Adam
from torch import nn

from langid_fastai.callbacks.fused_adam import fused_adam


def network():
    torch.manual_seed(0)
    # Without a bias before the norm: its gradient is rounding, which Adam makes steps of.
    layers = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def groups(net):
    return [list(layer.parameters()) for layer in net]


def train(net, opt, n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_steps):
        x = torch.randn(4, 1, 8, 8, generator=generator)
        net(x).square().mean().backward()
        opt.step()
        opt.zero_grad()


def both():
    ours, theirs = network(), network()
    return (ours, fused_adam(groups(ours), lr=0.01)), (theirs, Adam(groups(theirs), lr=0.01))


def same(one, other):
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_steps_are_those_of_fastai():
    (ours, our_opt), (theirs, their_opt) = both()
    before = copy.deepcopy(ours)
    for net, opt in ((ours, our_opt), (theirs, their_opt)):
        opt.set_hypers(lr=[0.001, 0.01, 0.02], mom=0.8, wd=0.1)
        for p in net[1].parameters():
            opt.state[p]["do_wd"] = False
        train(net, opt, 20)
    same(ours, theirs)
    with pytest.raises(AssertionError, match="not close"):
        same(ours, before)


def test_weight_decay_excludes_what_fastai_excludes():
    (ours, our_opt), (theirs, their_opt) = both()
    for net, opt in ((ours, our_opt), (theirs, their_opt)):
        opt.set_hypers(wd=1.0)
        for p in net[1].parameters():
            opt.state[p]["do_wd"] = False
        train(net, opt, 5)
    same(ours, theirs)


def test_frozen_groups_do_not_change():
    (ours, our_opt), (theirs, their_opt) = both()
    before = copy.deepcopy(ours)
    for net, opt in ((ours, our_opt), (theirs, their_opt)):
        opt.freeze_to(-1)
        train(net, opt, 5)
    same(ours, theirs)
    same(ours[0], before[0])


def test_a_restored_state_continues():
    whole = network()
    opt = fused_adam(groups(whole), lr=0.01)
    train(whole, opt, 3)
    half = copy.deepcopy(whole)
    saved = copy.deepcopy({"state": list(opt.state_dict()["state"]), "hypers": opt.hypers})
    train(whole, opt, 3, seed=1)
    restored = fused_adam(groups(half), lr=0.5)
    restored.load_state_dict(saved)
    train(half, restored, 3, seed=1)
    same(whole, half)
