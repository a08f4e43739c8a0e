"""The plain network for spectrograms: its name gives its layers; it trains like any other."""

import re

import pytest
import torch
from torch import nn

from langid_fastai.errors import ModelError
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.learner import language_learner, make_dataloaders, save_learner
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import build_network, layer_groups, load_network
from langid_fastai.models.spectrogram_cnn import (
    MAX_DEPTH,
    MAX_WIDTH,
    build_spectrogram_cnn,
    cnn_layers,
)
from langid_fastai.preprocessing import MelConfig
from langid_fastai.training import Stage, fit_stages

TINY = "spectrogram_cnn-w4-d2"


def parts(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    ("arch", "channels", "has_norm"),
    [
        ("spectrogram_cnn", [32, 64, 128, 256], True),
        ("spectrogram_cnn-w16", [16, 32, 64, 128], True),
        ("spectrogram_cnn-d2", [32, 64], True),
        ("spectrogram_cnn-w64-d6", [64, 128, 256, 512, 512, 512], True),
        ("spectrogram_cnn-w8-d1-plain", [8], False),
        ("spectrogram_cnn-plain", [32, 64, 128, 256], False),
    ],
)
def test_the_name_determines_the_layers(arch, channels, has_norm):
    layers = cnn_layers(arch)
    assert (layers.channels, layers.has_norm) == (channels, has_norm)
    network = build_network(arch, 5)
    convolutions = parts(network, nn.Conv2d)
    assert [c.out_channels for c in convolutions] == channels
    assert {c.padding for c in convolutions} == {"same"}
    assert len(parts(network, nn.MaxPool2d)) == len(channels)
    assert len(parts(network, nn.BatchNorm2d)) == has_norm * len(channels)
    assert [dense.out_features for dense in parts(network[1], nn.Linear)] == [128, 5]
    assert len(parts(network[1], nn.Dropout)) == 1


@pytest.mark.parametrize(("height", "width"), [(128, 431), (12, 87), (60, 101), (3, 5), (1, 1)])
def test_images_of_any_size_are_accepted(height, width):
    network = build_network("spectrogram_cnn-w4-d4", 3).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, height, width)).shape == (2, 3)


def test_a_block_keeps_the_size_and_pools_it_by_two():
    body = build_network("spectrogram_cnn-w4-d3", 2)[0]
    x = torch.rand(1, 3, 64, 101)
    sizes = [(x := block(x)).shape[2:] for block in body]
    assert sizes == [(32, 51), (16, 26), (8, 13)]


def test_the_number_of_parameters_is_the_stated_one():
    n = sum(p.numel() for p in build_network("spectrogram_cnn", 3).parameters())
    assert n / 1e6 == pytest.approx(0.45, abs=0.01)


@pytest.mark.parametrize(
    "arch",
    ["spectrogram_cnn-", "spectrogram_cnn-d4-w32", "spectrogram_cnn-wide", "spectrogram_cnn-w4-w4"],
)
def test_an_invalid_name_is_refused(arch):
    with pytest.raises(ModelError, match=f"{re.escape(arch)}' must be spectrogram_cnn, optionally"):
        build_network(arch, 2)


@pytest.mark.parametrize(
    "arch", [f"spectrogram_cnn-w{MAX_WIDTH + 1}", f"spectrogram_cnn-d{MAX_DEPTH + 1}"]
)
def test_a_name_cannot_request_a_huge_network(arch):
    with pytest.raises(ModelError, match="width must be 1 to 256, depth 1 to 8"):
        build_network(arch, 2)


def test_a_misspelt_name_is_reported():
    with pytest.raises(ModelError, match="did you mean spectrogram_cnn"):
        build_network("spectogram_cnn", 2)


def test_layer_groups_are_early_late_and_head():
    network = build_network("spectrogram_cnn", 3)
    early, late, head = layer_groups(network)
    assert {id(p) for p in late} == {id(p) for p in network[0][3].parameters()}
    assert {id(p) for p in head} == {id(p) for p in network[1].parameters()}
    assert len(early) + len(late) + len(head) == len(list(network.parameters()))


def test_the_signal_does_not_fade_in_a_deep_plain_network():
    """Without norm, too small weights would leave nothing of it after eight blocks."""
    torch.manual_seed(0)
    body = build_network("spectrogram_cnn-w16-d8-plain", 2)[0]
    with torch.inference_mode():
        out = body(torch.randn(4, 3, 128, 431))
    assert 0.1 < out.std() < 100


def test_training_starts_from_a_model_of_the_same_arch(tmp_path):
    torch.manual_seed(0)
    old = build_network(TINY, 3)
    write_model(tmp_path, old.state_dict(), ModelInfo(TINY, ("de", "en", "es"), MelConfig()))
    new = build_network(TINY, 2, weights=tmp_path)
    for ours, theirs in zip(new[0].parameters(), old[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    loaded, info = load_network(tmp_path)
    assert info.arch == TINY
    torch.testing.assert_close(loaded[1][-1].weight, old[1][-1].weight)
    with pytest.raises(ModelError, match="has arch 'spectrogram_cnn-w4-d2'"):
        build_spectrogram_cnn("spectrogram_cnn-w4-d3", 2, weights=tmp_path)
    with pytest.raises(ModelError, match=r"no published weights.*--weights none"):
        build_network(TINY, 2, weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["spectrogram_cnn-w8-d2", "spectrogram_cnn-w8-d2-plain"])
def test_it_learns(picture_folder, tmp_path, arch):
    dls = make_dataloaders(picture_folder, batch_size=8, device="cpu")
    learn = language_learner(dls, arch, weights="none", precision="fp32")
    with learn.no_bar(), learn.no_logging():
        history = fit_stages(learn, (Stage("all", "all", 8, 3e-3, policy="one_cycle"),))
    assert history["accuracy"].iloc[-1] == 1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    MelConfig(8000, 1.0, 256, 128, 32).write(picture_folder / "mel.json")
    save_learner(learn, tmp_path / "model")
    if not arch.endswith("-plain"):  # such a one becomes a file in test_features
        assert export_onnx(tmp_path / "model").difference < 1e-3
