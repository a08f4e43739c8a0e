"""Features computed once equal those of the body, and only the head is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import moved, weights_of

from langid_fastai.callbacks.frozen_features import adapt_norms, cached_features
from langid_fastai.errors import RunError
from langid_fastai.training import SCRATCH_SCHEDULE, SEED_SCHEDULE, Stage, fit_stages

FROZEN = (Stage("head", "head", 3, 1e-2),)


@pytest.mark.parametrize("arch", ["tiny", "resnet18"])
def test_features_are_those_of_the_body_in_evaluation_mode(make_learn, arch):
    learn = make_learn(arch=arch)
    images = learn.dls.valid
    learn.model.eval()
    with torch.no_grad():
        wanted = torch.cat([learn.model(x) for x, _ in images])
    labels = torch.cat([torch.as_tensor(y) for _, y in images])
    with cached_features(learn):
        batches = list(learn.dls.valid)
        assert batches[0][0].ndim == 2 or batches[0][0].shape[2:] == (1, 1)
        with torch.no_grad():
            got = torch.cat([learn.model.eval()(x) for x, _ in batches])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert torch.cat([y for _, y in batches]).equal(labels)
    assert learn.dls.valid is images


def test_the_learner_is_restored_after_the_block(make_learn):
    learn = make_learn()
    before, dls = {k: v.clone() for k, v in learn.model.state_dict().items()}, learn.dls
    with pytest.raises(KeyError, match="inside"), cached_features(learn):
        raise KeyError("inside")
    assert learn.dls is dls
    x, _ = dls.one_batch()
    assert learn.model(x).shape == (len(x), 2)
    assert learn.model.state_dict().keys() == before.keys()


def test_only_the_head_is_trained_and_no_norm_of_the_body(make_learn):
    learn = make_learn()
    adapt_norms(learn)
    before = weights_of(learn)
    norms = {k: v.clone() for k, v in learn.model[0].state_dict().items()}
    stages = (Stage("all", "all", 0, 1e-3), *FROZEN)  # the first stage would adapt them again
    history = fit_stages(learn, stages, cache_frozen=True)
    assert len(history) == 3
    assert moved(before, weights_of(learn)) == {name for name in before if name.startswith("1.")}
    assert all(torch.equal(v, norms[k]) for k, v in learn.model[0].state_dict().items())


def test_the_whole_recipe_with_the_cache_learns_and_calibrates_its_history(make_learn):
    learn = make_learn(batch_size=4)
    history = fit_stages(learn, SEED_SCHEDULE, cache_frozen=True)
    assert history["stage"].value_counts().to_dict() == {"head": 7, "all": 12, "refreeze": 8}
    assert history["accuracy"].iloc[-1] == 1.0
    # What the history says of the last epoch, the whole network gives on the images.
    loss, accuracy = learn.validate()
    assert loss == pytest.approx(history["valid_loss"].iloc[-1], rel=1e-4)
    assert accuracy == history["accuracy"].iloc[-1]


def test_adapted_norms_have_the_statistics_of_the_images(make_learn):
    learn = make_learn(batch_size=16)
    norm = learn.model[0][0][1]
    seen = []
    learn.model[0][0][0].register_forward_hook(lambda _module, _x, out: seen.append(out.detach()))
    adapt_norms(learn)
    outputs = torch.cat(seen)
    torch.testing.assert_close(norm.running_mean, outputs.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, outputs.var(dim=(0, 2, 3)), rtol=1e-2, atol=1e-4)
    assert norm.momentum == 0.1


def test_resumed_cached_run_equals_an_uninterrupted_one(make_learn, tmp_path):
    stages = tuple(replace(stage, epochs=2) for stage in SEED_SCHEDULE)
    wanted = fit_stages(make_learn(), stages, cache_frozen=True)
    for n in (1, 2, 5):

        def stop(history, n=n):
            if len(history) == n:
                raise KeyError("killed")

        folder = tmp_path / str(n)
        (folder / "features-x.4711.tmp").mkdir(parents=True)
        with pytest.raises(KeyError, match="killed"):
            fit_stages(make_learn(), stages, checkpoints=folder, cache_frozen=True, on_epoch=stop)
        assert [p.name for p in folder.iterdir()] == ["last.pth"]  # no features are left
        got = fit_stages(make_learn(seed=9), stages, checkpoints=folder, cache_frozen=True)
        columns = ["train_loss", "valid_loss", "accuracy"]
        np.testing.assert_allclose(got[columns], wanted[columns], rtol=1e-3, atol=1e-5)


def test_a_checkpoint_with_the_cache_is_refused_without_it(make_learn, tmp_path):
    fit_stages(make_learn(), FROZEN, checkpoints=tmp_path, cache_frozen=True)
    with pytest.raises(RunError, match="another cache_frozen"):
        fit_stages(make_learn(), FROZEN, checkpoints=tmp_path)


def test_masked_images_cannot_be_cached(make_learn):
    with pytest.raises(RunError, match="its images in each epoch"):
        fit_stages(make_learn(), SCRATCH_SCHEDULE, cache_frozen=True)
