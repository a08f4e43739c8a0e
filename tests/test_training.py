"""The three stages: their settings, which weights they train, and resuming after a kill."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from tiny import moved, weights_of
from torch import nn

from langid_fastai.callbacks.checkpoint import HISTORY
from langid_fastai.errors import RunError
from langid_fastai.training import (
    SCRATCH_SCHEDULE,
    SEED_SCHEDULE,
    Stage,
    discriminative,
    find_lr,
    fit_stages,
)

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Rates(Callback):
    """Record each group's learning rate at every training step, from the optimizer."""

    run_valid = False

    def __init__(self):
        self.steps = []

    def after_step(self):
        self.steps.append((self.epoch, [hyper["lr"] for hyper in self.opt.hypers]))


class KilledError(Exception):
    """Simulate SIGKILL within one process."""


def test_seed_schedule_is_the_recipe():
    assert [(s.name, s.trains, s.epochs, s.policy) for s in SEED_SCHEDULE] == [
        ("head", "head", 7, "constant"),
        ("all", "all", 12, "constant"),
        ("refreeze", "head", 8, "constant"),
    ]
    assert [s.lr for s in SEED_SCHEDULE] == [1e-2, (1e-4 / 9, 1e-4 / 6, 1e-4), 1e-4]


def test_rates_of_the_seed_schedule_in_every_step(make_learn):
    """7, 12 and 8 epochs at 1e-2, [1e-4/9, 1e-4/6, 1e-4] and 1e-4 in every single step."""
    learn = make_learn(batch_size=16)
    rates = Rates()
    learn.add_cb(rates)
    history = fit_stages(learn, SEED_SCHEDULE)
    assert len(rates.steps) == 27  # one batch an epoch
    wanted = [[1e-2] * 3] * 7 + [[1e-4 / 9, 1e-4 / 6, 1e-4]] * 12 + [[1e-4] * 3] * 8
    np.testing.assert_allclose([lrs for _, lrs in rates.steps], wanted, rtol=1e-12, strict=True)
    assert [epoch for epoch, _ in rates.steps] == [*range(7), *range(12), *range(8)]
    assert history["stage"].value_counts().to_dict() == {"head": 7, "all": 12, "refreeze": 8}


@pytest.mark.parametrize("arch", ["tiny", "resnet18"])
def test_stages_one_and_three_train_only_the_head(make_learn, arch):
    learn = make_learn(arch=arch)
    stages = tuple(replace(stage, epochs=1) for stage in SEED_SCHEDULE)
    before = weights_of(learn)
    head = {name for name in before if name.startswith("1.")}
    fit_stages(learn, stages[:1])
    after_head = weights_of(learn)
    assert moved(before, after_head) == head
    fit_stages(learn, stages[1:2])
    after_all = weights_of(learn)
    assert moved(after_head, after_all) == set(before)
    # The hard case: gradients left from the stage before, and weight decay acting on them.
    fit_stages(learn, stages[2:])
    assert moved(after_all, weights_of(learn)) == head


def test_frozen_stages_of_one_run_train_only_the_head(make_learn):
    """As above, within one call, where the stages follow each other without a new Learner."""
    learn = make_learn()
    body = {}

    class AtStages(Callback):
        def before_fit(self):
            body.setdefault("starts", []).append(weights_of(self.learn))

    learn.add_cb(AtStages())
    fit_stages(learn, tuple(replace(stage, epochs=1) for stage in SEED_SCHEDULE))
    third = body["starts"][2]
    assert all(name.startswith("1.") for name in moved(third, weights_of(learn)))


def test_batch_norm_of_the_frozen_body_is_trained(make_learn):
    learn = make_learn()
    norm = learn.model[0][0][1]
    mean = norm.running_mean.clone()
    fit_stages(learn, (replace(SEED_SCHEDULE[0], epochs=1),))
    assert norm.weight.requires_grad
    assert not torch.equal(norm.running_mean, mean)


def test_one_cycle_rises_to_its_rate_and_falls(make_learn):
    learn = make_learn(batch_size=2)
    rates = Rates()
    learn.add_cb(rates)
    fit_stages(learn, (Stage("all", "all", epochs=2, lr=1e-3, policy="one_cycle"),))
    lrs = [lrs[-1] for _, lrs in rates.steps]
    assert max(lrs) == pytest.approx(1e-3, rel=0.05)
    assert lrs[0] < 1e-4
    assert lrs[-1] < 1e-4


def test_history_has_a_row_per_epoch(make_learn):
    seen = []
    stages = (Stage("head", "head", 2, 1e-3), Stage("all", "all", 1, 1e-3, "one_cycle"))
    history = fit_stages(make_learn(), stages, on_epoch=lambda h: seen.append(len(h)))
    assert list(history.columns) == list(HISTORY)
    assert history[["stage", "epoch"]].values.tolist() == [["head", 0], ["head", 1], ["all", 0]]
    assert seen == [1, 2, 3]
    assert history["lr"].iloc[0] == 1e-3
    assert np.isfinite(history.drop(columns="stage").to_numpy(dtype=float)).all()


def test_train_loss_is_the_mean_over_the_epoch(make_learn):
    learn = make_learn(batch_size=8)
    losses = []

    class StepLosses(Callback):
        run_valid = False

        def after_batch(self):
            losses.append(float(self.loss.detach()))

    learn.add_cb(StepLosses())
    history = fit_stages(learn, (Stage("all", "all", 1, 1e-3),))
    assert len(losses) == 2
    assert history["train_loss"].iloc[0] == pytest.approx(np.mean(losses))


STAGES = (
    Stage("head", "head", 1, 1e-2),
    Stage("all", "all", 3, discriminative(1e-3), "one_cycle"),
    Stage("refreeze", "head", 1, 1e-4),
)


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_resumed_run_equals_an_uninterrupted_one(make_learn, tmp_path, killed_after):
    unbroken = make_learn()
    wanted = fit_stages(unbroken, STAGES)

    def kill(history):
        if len(history) == killed_after:
            raise KilledError("now")

    with pytest.raises(KilledError):
        fit_stages(make_learn(), STAGES, checkpoints=tmp_path, on_epoch=kill)
    # A new process has another state of its random generators, and other new weights.
    torch.manual_seed(99)
    resumed = make_learn(seed=99)
    history = fit_stages(resumed, STAGES, checkpoints=tmp_path)
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), wanted.drop(columns="seconds"), rtol=1e-4
    )
    theirs = unbroken.model.state_dict()
    for name, tensor in resumed.model.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def test_finished_run_is_not_trained_again(make_learn, tmp_path):
    first = make_learn()
    fit_stages(first, STAGES, checkpoints=tmp_path)
    again = make_learn(seed=4)
    calls = []
    history = fit_stages(again, STAGES, checkpoints=tmp_path, on_epoch=calls.append)
    assert not calls
    assert len(history) == 5
    theirs = first.model.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in again.model.state_dict().items())


def test_checkpoint_of_another_schedule_or_seed_is_refused(make_learn, tmp_path):
    fit_stages(make_learn(), STAGES[:1], checkpoints=tmp_path)
    with pytest.raises(RunError, match=r"last\.pth was made with another schedule"):
        fit_stages(make_learn(), STAGES, checkpoints=tmp_path)
    with pytest.raises(RunError, match="another seed"):
        fit_stages(make_learn(), STAGES[:1], checkpoints=tmp_path, seed=1)


def test_checkpoint_is_replaced_atomically(make_learn, tmp_path):
    fit_stages(make_learn(), STAGES[:1], checkpoints=tmp_path / "checkpoints")
    folder = tmp_path / "checkpoints"
    assert [p.name for p in folder.iterdir()] == ["last.pth"]
    torch.load(folder / "last.pth", weights_only=True)


def test_damaged_checkpoint_is_refused(make_learn, tmp_path):
    (tmp_path / "last.pth").write_bytes(b"half a checkp")
    with pytest.raises(RunError, match=r"last\.pth: damaged .*remove it"):
        fit_stages(make_learn(), STAGES, checkpoints=tmp_path)


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return print, ("code of a stranger",)


def test_checkpoint_with_code_is_refused_and_not_run(make_learn, tmp_path, capsys):
    torch.save({"of": {"schedule": []}, "model": Evil()}, tmp_path / "last.pth")
    with pytest.raises(RunError, match=r"last\.pth: damaged .*remove it"):
        fit_stages(make_learn(), STAGES, checkpoints=tmp_path)
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [{}, {"of": None}, [1], torch.zeros(3)])
def test_other_tensors_are_not_a_checkpoint(make_learn, tmp_path, content):
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(RunError, match=r"last\.pth: not a training checkpoint; remove it"):
        fit_stages(make_learn(), STAGES, checkpoints=tmp_path)


def test_find_lr_does_not_change_the_learner(make_learn, tmp_path):
    learn = make_learn(batch_size=4)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    rate = find_lr(learn, plot=tmp_path / "lr.png")
    assert 1e-7 < rate < 10
    assert (tmp_path / "lr.png").stat().st_size > 1000
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())


@pytest.mark.slow
def test_a_small_network_learns_labels_but_not_shuffled_ones(make_learn, picture_folder):
    """Bright above or below is learned; with shuffled labels, validation stays at chance."""
    stages = (Stage("all", "all", 12, 1e-2, "one_cycle"),)
    history = fit_stages(make_learn(), stages)
    assert history["accuracy"].iloc[-1] == 1.0
    assert history["train_loss"].iloc[-1] < math.log(2) / 2
    for i, file in enumerate(sorted(picture_folder.glob("train/*/*.png"))):
        side = ("de", "es")[i % 2]  # half of each language under each label
        file.rename(file.parents[1] / side / f"shuffled{i}.png")
    history = fit_stages(make_learn(), stages)
    assert 0.2 <= history["accuracy"].iloc[-1] <= 0.8


def test_scratch_schedule_trains_everything_in_most_epochs():
    epochs = {stage.trains: stage.epochs for stage in SCRATCH_SCHEDULE}
    assert epochs["all"] > sum(SCRATCH_SCHEDULE[i].epochs for i in (0, 2))
