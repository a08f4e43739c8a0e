"""The recurrent network for spectrograms: its name gives its layers; it trains like others."""

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
from langid_fastai.preprocessing import MelConfig
from langid_fastai.training import Stage, fit_stages

TINY = "spectrogram_crnn-w4-d2-u8"


@pytest.mark.parametrize(
    ("arch", "channels", "units"),
    [
        ("spectrogram_crnn", [32, 64, 128, 256], 128),
        ("spectrogram_crnn-w16-d3", [16, 32, 64], 128),
        (TINY, [4, 8], 8),
    ],
)
def test_the_name_determines_the_layers(arch, channels, units):
    network = build_network(arch, 5)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == channels
    [lstm] = [m for m in network.modules() if isinstance(m, nn.LSTM)]
    assert (lstm.input_size, lstm.hidden_size, lstm.bidirectional) == (
        2 * channels[-1],
        units,
        True,
    )


@pytest.mark.parametrize(("height", "width"), [(128, 431), (32, 76), (3, 5), (1, 1)])
def test_images_of_any_size_are_accepted(height, width):
    network = build_network("spectrogram_crnn-w4-d4-u8", 3).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, height, width)).shape == (2, 3)


def test_time_counts():
    """The order of frames matters, unlike in a network that only pools over time."""
    torch.manual_seed(0)
    network = build_network("spectrogram_crnn-w4-d1-u8", 2).eval()
    x = torch.rand(1, 3, 16, 40)
    with torch.inference_mode():
        assert not torch.allclose(network(x), network(x.flip(3)), atol=1e-4)


@pytest.mark.parametrize(
    "arch", ["spectrogram_crnn-", "spectrogram_crnn-u8-w4", "spectrogram_crnns"]
)
def test_an_invalid_name_is_refused(arch):
    with pytest.raises(ModelError, match=re.escape(arch)):
        build_network(arch, 2)


@pytest.mark.parametrize("part", ["w257", "d9", "u513"])
def test_a_name_cannot_request_a_huge_network(part):
    with pytest.raises(ModelError, match="width must be 1 to 256, depth 1 to 8, units 1 to 512"):
        build_network(f"spectrogram_crnn-{part}", 2)


def test_layer_groups_are_early_late_and_head():
    network = build_network("spectrogram_crnn", 3)
    early, late, head = layer_groups(network)
    assert {id(p) for p in network[0][-1].parameters()} <= {id(p) for p in late}
    assert {id(p) for p in head} == {id(p) for p in network[1].parameters()}
    assert len(early) + len(late) + len(head) == len(list(network.parameters()))


def test_training_starts_from_a_model_of_the_same_arch(tmp_path):
    old = build_network(TINY, 3)
    write_model(tmp_path, old.state_dict(), ModelInfo(TINY, ("de", "en", "es"), MelConfig()))
    new = build_network(TINY, 2, weights=tmp_path)
    torch.testing.assert_close(new[0].state_dict(), old[0].state_dict())
    loaded, _ = load_network(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), old.state_dict())
    with pytest.raises(ModelError, match=r"no published weights.*--weights none"):
        build_network(TINY, 2, weights="pretrained")


@pytest.mark.slow
def test_it_learns_and_becomes_a_file(picture_folder, tmp_path):
    dls = make_dataloaders(picture_folder, batch_size=8, device="cpu")
    learn = language_learner(dls, "spectrogram_crnn-w8-d2-u16", weights="none", precision="fp32")
    stages = (
        Stage("all", "all", 8, 1e-2, policy="one_cycle"),
        Stage("refreeze", "head", 1, 1e-4),
    )
    with learn.no_bar(), learn.no_logging():
        history = fit_stages(learn, stages, cache_frozen=True)
    assert history["accuracy"].iloc[-1] == 1
    MelConfig(8000, 1.0, 256, 128, 32).write(picture_folder / "mel.json")
    save_learner(learn, tmp_path / "model")
    assert export_onnx(tmp_path / "model").difference < 1e-3


def test_it_also_computes_in_bfloat16():
    network = build_network(TINY, 2).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(torch.rand(4, 3, 32, 48))
    assert out.shape == (4, 2)
    out.float().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
