"""DataLoaders and Learner: what they are made of, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from langid_fastai.errors import ModelError, RunError
from langid_fastai.learner import (
    language_learner,
    load_learner,
    make_dataloaders,
    save_learner,
)
from langid_fastai.models.folder import read_info, write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.preprocessing import MelConfig


def test_batches_are_normalised_grey_images(picture_folder):
    dls = make_dataloaders(picture_folder, batch_size=4)
    x, y = dls.one_batch()
    assert x.shape == (4, 3, 32, 48)
    assert y.shape == (4,)
    assert list(dls.vocab) == ["de", "es"]
    grey = x * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    grey = grey + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    torch.testing.assert_close(grey[:, 0], grey[:, 2], atol=1e-5, rtol=0)
    assert grey.min() >= -1e-5
    assert grey.max() <= 1 + 1e-5


def test_splits_are_separate(picture_folder):
    dls = make_dataloaders(picture_folder, batch_size=4)
    assert {Path(p).parent.parent.name for p in dls.train.items} == {"train"}
    assert {Path(p).parent.parent.name for p in dls.valid.items} == {"valid"}


def test_seed_determines_the_order(picture_folder):
    first = make_dataloaders(picture_folder, batch_size=8, seed=1).one_batch()[1]
    again = make_dataloaders(picture_folder, batch_size=8, seed=1).one_batch()[1]
    torch.testing.assert_close(first, again)


def test_batch_is_never_larger_than_the_training_set(picture_folder):
    """A larger one would be dropped as incomplete, and nothing would be trained."""
    dls = make_dataloaders(picture_folder, batch_size=999)
    assert dls.bs == 16
    assert len(dls.train) == 1


def test_single_image_batches_are_refused(picture_folder):
    with pytest.raises(RunError, match="batch_size=1 must be at least 2"):
        make_dataloaders(picture_folder, batch_size=1)


def test_missing_folder_names_the_command(tmp_path):
    with pytest.raises(RunError, match="langid prepare"):
        make_dataloaders(tmp_path / "absent")


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no images in train/<language>/\*\.png"):
        make_dataloaders(tmp_path)


def test_one_language_is_refused(picture_folder):
    for file in picture_folder.glob("*/es/*.png"):
        file.unlink()
    with pytest.raises(RunError, match="has only one language"):
        make_dataloaders(picture_folder)


def test_language_only_in_validation_is_refused(picture_folder):
    extra = picture_folder / "valid" / "fr"
    extra.mkdir()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(extra / "a.png")
    with pytest.raises(RunError, match=r"\['fr'\] are in valid but not in train"):
        make_dataloaders(picture_folder)


def test_equal_seeds_give_equal_weights(picture_folder):
    dls = make_dataloaders(picture_folder, batch_size=4)
    one, two, three = (
        language_learner(dls, "squeezenet1_1", weights="none", seed=seed).model.state_dict()
        for seed in (5, 5, 6)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)


def test_weights_none_downloads_nothing(picture_folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    learn = language_learner(make_dataloaders(picture_folder), "resnet18", weights="none")
    assert (learn.arch, learn.weights) == ("resnet18", "none")


@pytest.mark.parametrize("make", [str, Path])
@pytest.mark.parametrize("with_labels", [False, True])
def test_images_of_a_test_are_strings_or_paths(picture_folder, make, with_labels):
    dls = make_dataloaders(picture_folder, batch_size=8, device="cpu")
    files = sorted(picture_folder.glob("valid/*/*.png"))
    dl = dls.test_dl([make(file) for file in files], with_labels=with_labels)
    x, *labels = dl.one_batch()
    assert x.shape == (8, 3, 32, 48)
    assert [y.tolist() for y in labels] == [[0] * 4 + [1] * 4] * with_labels


def test_arch_for_another_image_size_is_refused(picture_folder):
    pytest.importorskip("timm")
    dls = make_dataloaders(picture_folder)
    with pytest.raises(ModelError, match="does not take images of 32 × 48"):
        language_learner(dls, "vit_tiny_patch16_224", weights="none")


def test_learner_is_loaded_from_a_model_folder(picture_folder, tmp_path):
    dls = make_dataloaders(picture_folder, batch_size=4, device="cpu")
    learn = language_learner(dls, "squeezenet1_1", weights="none", precision="fp32")
    info = ModelInfo("squeezenet1_1", ("de", "es"), MelConfig())
    write_model(tmp_path / "model", learn.model.state_dict(), info)
    again = load_learner(tmp_path / "model", dls)
    x, _ = dls.one_batch()
    torch.testing.assert_close(again.model.eval()(x), learn.model.eval()(x))


def test_folder_of_other_languages_is_refused(picture_folder, tmp_path):
    dls = make_dataloaders(picture_folder, batch_size=4)
    learn = language_learner(dls, "squeezenet1_1", weights="none")
    info = ModelInfo("squeezenet1_1", ("de", "fr"), MelConfig())
    write_model(tmp_path / "model", learn.model.state_dict(), info)
    with pytest.raises(
        ModelError, match=r"languages \['de', 'fr'\], but the images have \['de', 'es'\]"
    ):
        load_learner(tmp_path / "model", dls)


def test_a_saved_learner_gives_the_same_answers(picture_folder, tmp_path):
    mel = MelConfig(sr=8_000, clip_seconds=1.0, n_mels=32)
    mel.write(picture_folder / "mel.json")
    dls = make_dataloaders(picture_folder, batch_size=4, device="cpu")
    learn = language_learner(dls, "resnet18", weights="none", precision="fp32")
    save_learner(learn, tmp_path / "model")
    info = read_info(tmp_path / "model")
    assert (info.arch, info.vocab, info.mel) == ("resnet18", ("de", "es"), mel)
    again = load_learner(tmp_path / "model", dls)
    x, _ = dls.valid.one_batch()
    assert torch.equal(learn.model.eval()(x), again.model.eval()(x))


def test_images_without_mel_json_are_not_saved_as_a_model(picture_folder, tmp_path, make_learn):
    with pytest.raises(RunError, match=r"mel.json: no such file.*export_images"):
        save_learner(make_learn(), tmp_path / "model")


def test_an_invalid_language_name_is_refused_before_training(picture_folder):
    for side in ("train", "valid"):
        (picture_folder / side / "es").rename(picture_folder / side / "unknown")
    dls = make_dataloaders(picture_folder, batch_size=4)
    with pytest.raises(ModelError, match="cannot be named 'unknown'"):
        language_learner(dls, "squeezenet1_1", weights="none")
