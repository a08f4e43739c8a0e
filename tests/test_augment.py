"""SpecAugment: what is covered, how much, and when."""

import pytest
import torch
from fastai.callback.core import Callback

from langid_fastai.augment import MAX_HEIGHT, MAX_WIDTH, SpecAugment, mask_images
from langid_fastai.learner import language_learner, make_dataloaders
from langid_fastai.training import Stage, fit_stages


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(64, 3, 128, 431)


def test_masks_are_whole_bands_and_stretches(images):
    covered = (mask_images(images) != images).all(dim=1)
    bands, times = covered.all(dim=2), covered.all(dim=1)
    torch.testing.assert_close(covered, bands[:, :, None] | times[:, None, :])
    for spans, share in ((bands, MAX_HEIGHT), (times, MAX_WIDTH)):
        edges = spans.int().diff(dim=1).abs().sum(dim=1)
        assert edges.max() <= 2  # one span each
        assert spans.float().mean(dim=1).max() <= share + 1 / spans.shape[1]
        assert len(spans.float().sum(dim=1).unique()) > 10  # of all widths


def test_masks_hold_the_mean_of_their_image(images):
    masked = mask_images(images)
    covered = masked != images
    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(masked[covered], mean[covered])


def test_every_image_is_masked_anew_and_the_input_is_kept(images):
    before = images.clone()
    covered = (mask_images(images) != images)[:, 0]
    torch.testing.assert_close(images, before)
    assert len(torch.unique(covered, dim=0)) == len(images)


def test_more_masks_cover_more(images):
    share = [(mask_images(images, n) != images).float().mean() for n in (0, 1, 3)]
    assert share[0] == 0
    assert share[0] < share[1] < share[2]


def test_masks_follow_from_the_seed(images):
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
