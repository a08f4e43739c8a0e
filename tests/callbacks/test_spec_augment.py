"""SpecAugment, mixup and crops: what is changed, how much, and when."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.mixup import MixUp

from langid_fastai.callbacks import spec_augment
from langid_fastai.callbacks.spec_augment import (
    LEAST_WIDTH,
    MAX_HEIGHT,
    MAX_WIDTH,
    SpecAugment,
    crop_images,
    image_callbacks,
    mask_images,
)
from langid_fastai.errors import RunError
from langid_fastai.learner import language_learner, make_dataloaders
from langid_fastai.pipeline.settings import TrainSettings
from langid_fastai.pipeline.train import choose_stages
from langid_fastai.training import Stage, fit_stages

MIXED = Stage("all", "all", 2, 1e-3, mixup=0.4)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(64, 3, 128, 431)


def test_masks_are_whole_bands_and_time_spans(images):
    covered = (mask_images(images) != images).all(dim=1)
    bands, times = covered.all(dim=2), covered.all(dim=1)
    torch.testing.assert_close(covered, bands[:, :, None] | times[:, None, :])
    for spans, share in ((bands, MAX_HEIGHT), (times, MAX_WIDTH)):
        edges = spans.int().diff(dim=1).abs().sum(dim=1)
        assert edges.max() <= 2  # one span each
        assert spans.float().mean(dim=1).max() <= share + 1 / spans.shape[1]
        assert len(spans.float().sum(dim=1).unique()) > 10  # of all widths


def test_masks_have_the_mean_of_their_image(images):
    masked = mask_images(images)
    covered = masked != images
    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(masked[covered], mean[covered])


def test_each_image_has_its_own_masks_and_the_input_is_unchanged(images):
    before = images.clone()
    covered = (mask_images(images) != images)[:, 0]
    torch.testing.assert_close(images, before)
    assert len(torch.unique(covered, dim=0)) == len(images)


def test_more_masks_cover_more(images):
    share = [(mask_images(images, n) != images).float().mean() for n in (0, 1, 3)]
    assert share[0] == 0
    assert share[0] < share[1] < share[2]


def test_seed_determines_the_masks(images):
    torch.manual_seed(5)
    one = mask_images(images)
    torch.manual_seed(5)
    torch.testing.assert_close(mask_images(images), one)


def test_training_is_masked_and_validation_is_not(picture_folder):
    dls = make_dataloaders(picture_folder, batch_size=8, device="cpu")
    learn = language_learner(dls, "squeezenet1_1", weights="none", precision="fp32")
    changed = {True: [], False: []}

    class Before(Callback):
        order = SpecAugment.order - 1

        def before_batch(self):
            self.learn.unmasked = self.xb[0].clone()

    class After(Callback):
        order = SpecAugment.order + 1

        def before_batch(self):
            share = (self.xb[0] != self.learn.unmasked).float().mean()
            changed[self.training].append(float(share))

    learn.add_cbs([Before(), After()])
    with learn.no_bar(), learn.no_logging():
        fit_stages(learn, (Stage("all", "all", 1, 1e-4, masks=2),))
    assert min(changed[True]) > 0.1
    assert changed[False] == [0.0] * len(changed[False]) != []
    assert not any(isinstance(cb, SpecAugment) for cb in learn.cbs)


class Watch(Callback):
    """Record the input of the network and the loss of each batch; runs after mixup."""

    order = MixUp.order + 1

    def __init__(self):
        self.seen = []

    def before_batch(self):
        self.given = self.xb[0].detach().clone()

    def after_loss(self):
        state = {"x": self.given, "y": self.yb[0].clone(), "pred": self.pred.detach().clone()}
        mixup = [cb for cb in self.learn.cbs if isinstance(cb, MixUp)]
        if self.training and mixup:
            state |= {"lam": mixup[0].lam.clone(), "other": mixup[0].yb1[0].clone()}
        self.seen.append(state | {"loss": float(self.loss.detach()), "training": self.training})


def watched(make_learn, stage, **options):
    learn = make_learn()
    watch = Watch()
    learn.add_cb(watch)
    return fit_stages(learn, (stage,), **options), watch.seen, learn


def test_the_loss_of_mixed_images_is_that_of_both_labels(make_learn):
    history, seen, _ = watched(make_learn, MIXED)
    training = [batch for batch in seen if batch["training"]]
    cross_entropy = torch.nn.functional.cross_entropy
    for b in training:
        one, other = (cross_entropy(b["pred"], y, reduction="none") for y in (b["y"], b["other"]))
        expected = (b["lam"] * one + (1 - b["lam"]) * other).mean()
        assert b["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert len(torch.cat([b["lam"] for b in training]).unique()) > len(training)  # drawn for each
    # What the history calls the loss of training is what was trained on, batch by batch.
    epochs = [training[: len(training) // 2], training[len(training) // 2 :]]
    for row, batches in zip(history.to_dict("records"), epochs, strict=True):
        mean = sum(b["loss"] * len(b["y"]) for b in batches) / sum(len(b["y"]) for b in batches)
        assert row["train_loss"] == pytest.approx(mean, rel=1e-5)


def test_validation_uses_unchanged_images(make_learn):
    history, seen, learn = watched(make_learn, MIXED)
    last = [batch for batch in seen if not batch["training"]][-1]
    clean = torch.cat([x for x, _ in learn.dls.valid]).as_subclass(torch.Tensor)
    torch.testing.assert_close(last["x"].as_subclass(torch.Tensor), clean)
    loss = torch.nn.functional.cross_entropy(last["pred"], last["y"])
    assert history["valid_loss"].iloc[-1] == pytest.approx(float(loss), rel=1e-5)


def test_mixup_restores_the_learner(make_learn):
    learn = make_learn()
    before = learn.loss_func
    fit_stages(learn, (MIXED,))
    assert learn.loss_func is before
    assert not any(isinstance(cb, MixUp) for cb in learn.cbs)


def test_seed_determines_mixup(make_learn):
    """Therefore a resumed epoch equals an uninterrupted one."""
    runs = [watched(make_learn, MIXED, seed=seed)[0]["train_loss"].tolist() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_resumed_training_with_mixup_equals_an_uninterrupted_one(make_learn, tmp_path):
    whole, _, learn = watched(make_learn, MIXED)

    class Stop(Exception):
        pass

    def stop(history):
        raise Stop("after the first epoch")

    broken = make_learn()
    with pytest.raises(Stop):
        fit_stages(broken, (MIXED,), checkpoints=tmp_path, on_epoch=stop)
    resumed = make_learn()
    history = fit_stages(resumed, (MIXED,), checkpoints=tmp_path)
    assert history["train_loss"].tolist() == whole["train_loss"].tolist()
    for one, other in zip(resumed.model.parameters(), learn.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_an_older_checkpoint_is_resumed_without_mixup(make_learn, tmp_path):
    stage = replace(MIXED, mixup=0.0)
    fit_stages(make_learn(), (stage,), checkpoints=tmp_path)
    saved = torch.load(tmp_path / "last.pth", weights_only=True)
    del saved["of"]["schedule"][0]["mixup"], saved["of"]["schedule"][0]["crop"]
    torch.save(saved, tmp_path / "last.pth")
    assert len(fit_stages(make_learn(), (stage,), checkpoints=tmp_path)) == 2
    with pytest.raises(RunError, match="another schedule"):
        fit_stages(make_learn(), (MIXED,), checkpoints=tmp_path)


def test_masks_come_before_mixup(make_learn):
    names = [type(callback).__name__ for callback in image_callbacks(masks=2, mixup=0.4)]
    assert names == ["SpecAugment", "MixUp"]
    assert image_callbacks() == []
    history, *_ = watched(make_learn, replace(MIXED, masks=1))
    assert history["train_loss"].notna().all()


@pytest.mark.parametrize("mixup", [-0.1, 11, float("nan")])
def test_a_mixup_out_of_bounds_is_refused(mixup):
    with pytest.raises(RunError, match=r"must be from 0 to 10, e\.g\. 0\.4"):
        replace(MIXED, mixup=mixup)


def test_features_of_mixed_images_cannot_be_cached(make_learn):
    with pytest.raises(
        RunError, match=r"stage 'head' \(masks=0, mixup=0\.4, crop=1\) changes its images"
    ):
        fit_stages(make_learn(), (Stage("head", "head", 1, 1e-3, mixup=0.4),), cache_frozen=True)


@pytest.mark.parametrize("choice", [{"mixup": 0.4}, {"weights": "none"}])
def test_a_useless_cache_is_refused_before_the_corpus_is_read(choice):
    with pytest.raises(RunError, match="turn off the cache"):
        choose_stages(TrainSettings(cache_frozen=True, **choice))
    choose_stages(TrainSettings(cache_frozen=True))
    choose_stages(TrainSettings(weights="none", epochs=(0, 3, 0), cache_frozen=True))


def test_an_interrupt_restores_the_loss(make_learn):
    """In a notebook the same Learner is trained again."""
    learn = make_learn()
    before = learn.loss_func

    class Interrupt(Callback):
        def after_loss(self):
            raise KeyboardInterrupt

    with learn.added_cbs(Interrupt()), pytest.raises(KeyboardInterrupt):
        fit_stages(learn, (MIXED,))
    assert learn.loss_func is before
    assert len(fit_stages(learn, (MIXED,))) == 2


def test_the_option_of_a_run_mixes_in_every_stage():
    _, stages = choose_stages(TrainSettings(weights="none", mixup=0.4))
    assert {stage.mixup for stage in stages} == {0.4}
    _, plain = choose_stages(TrainSettings(weights="none"))
    assert {asdict(stage)["mixup"] for stage in plain} == {0.0}


# Crops


def test_each_image_has_its_own_crop():
    torch.manual_seed(0)
    x = torch.arange(200.0).expand(6, 2, 3, 200)
    cropped = crop_images(x, 0.4)
    assert cropped.shape == (6, 2, 3, 80)
    assert bool((cropped.diff(dim=3) == 1).all())
    assert len(set(cropped[:, 0, 0, 0].tolist())) > 1
    assert crop_images(x, 1.0).equal(x)
    assert crop_images(x, 0.1).shape[3] == LEAST_WIDTH
    assert crop_images(x[..., :50], 0.1).shape[3] == 50


@pytest.mark.parametrize("shape", [(4, 3, 32, 201), (4, 1, 8000)])
def test_only_training_batches_are_cropped(shape):
    [callback] = image_callbacks(crop=0.5)
    callback.learn = SimpleNamespace(xb=(torch.rand(shape), "y"))
    callback.before_batch()
    x, y = callback.learn.xb
    assert x.shape == (*shape[:-1], round(0.5 * shape[-1]))
    assert y == "y"
    assert not callback.run_valid


@pytest.mark.parametrize("crop", [0, 0.05, 1.1, float("nan")])
def test_a_crop_out_of_bounds_is_refused(crop):
    with pytest.raises(RunError, match=r"crop=.* must be from 0.1 to 1"):
        Stage("all", "all", 1, 1e-3, crop=crop)


def test_cropped_images_cannot_be_cached(make_learn):
    with pytest.raises(RunError, match=r"crop=0.5\) changes its images in"):
        fit_stages(make_learn(), (Stage("head", "head", 1, 1e-2, crop=0.5),), cache_frozen=True)


def test_a_network_trains_on_crops(make_learn, monkeypatch):
    monkeypatch.setattr(spec_augment, "LEAST_WIDTH", 10)  # of 48 frames
    learn = make_learn()
    history = fit_stages(learn, (Stage("all", "all", 2, 1e-2, crop=0.5),))
    assert len(history) == 2
    loss, _ = learn.validate()  # of whole images
    assert loss == pytest.approx(history["valid_loss"].iloc[-1], rel=1e-4)
