"""Networks for raw waveforms: layers and sizes as in the table of the paper."""

import numpy as np
import pytest
import torch
from torch import nn

from langid_fastai.clips.waveforms import RAW_ARCHS, clip_kind
from langid_fastai.errors import ModelError
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import build_network, layer_groups, load_network
from langid_fastai.models.raw_waveform import LAYERS, build_raw_network, raw_layers
from langid_fastai.preprocessing import MelConfig

# Name, million parameters in table 1 of Dai et al. 2016, layers with weights (its name), and ours
# with 10 outputs, to the last.
PAPER = [
    ("m3", 0.2, 3, 220_682),
    ("m5", 0.5, 5, 558_090),
    ("m11", 1.8, 11, 1_784_202),
    ("m18", 3.7, 18, 3_679_882),
    ("m34-res", 4.0, 34, 4_069_546),
]


@pytest.mark.parametrize(("arch", "million", "n_layers", "exactly"), PAPER)
def test_parameters_and_layers_are_those_of_the_paper(arch, million, n_layers, exactly):
    network = build_raw_network(arch, 10)
    n = sum(p.numel() for p in network.parameters())
    assert n == exactly
    assert n / 1e6 == pytest.approx(million, abs=0.08)
    shortcuts = sum(m.kernel_size == (1,) for m in network.modules() if isinstance(m, nn.Conv1d))
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv1d, nn.Linear))]
    assert len(layers) - shortcuts == n_layers


def test_every_name_has_layers():
    assert {name.removesuffix("-light") for name in RAW_ARCHS} == set(LAYERS)
    for name in LAYERS:
        light, full = raw_layers(f"{name}-light"), raw_layers(name)
        assert (light.stride, light.first) == (16, 32)
        assert (full.stride, [n for n, _ in full.groups]) == (4, [n for n, _ in light.groups])


@pytest.mark.parametrize("arch", RAW_ARCHS)
def test_shapes_after_each_group_are_those_of_the_table(arch):
    """Of 32 000 samples, 8000 after the first stride, then 2000, 500, 125, 32."""
    layers = raw_layers(arch)
    body, head = build_raw_network(arch, 3).eval()
    x = torch.randn(2, 1, 32_000)
    lengths = []
    with torch.no_grad():
        for part in body:
            x = part(x)
            lengths.append(x.shape[2])
        assert head(x).shape == (2, 3)
    n = [2000, 500, 125, 32, 32] if layers.stride == 4 else [500, 125, 32, 8, 8]
    if arch.startswith("m3-") or arch == "m3":
        n = n[:2]
    elif arch.startswith("m5"):
        n = n[:4]
    assert lengths == [32_000, *n]
    assert x.shape[1] == layers.groups[-1][1]


@pytest.mark.parametrize("n_samples", [8000, 12_345, 80_000])
def test_clips_of_any_length_are_accepted(n_samples):
    network = build_raw_network("m34-res-light", 4).eval()
    assert network(torch.randn(2, 1, n_samples)).shape == (2, 4)


def test_level_and_offset_have_no_effect(rng):
    network = build_raw_network("m5", 3).eval()
    y = torch.from_numpy(rng.standard_normal((2, 1, 16_000)).astype(np.float32))
    with torch.no_grad():
        torch.testing.assert_close(network(y), network(0.01 * y + 0.2), atol=1e-3, rtol=1e-3)
        assert torch.isfinite(network(torch.zeros(2, 1, 16_000))).all()


def test_first_convolution_is_a_bank_of_long_filters():
    first = build_network("m11", 2)[0][1][0]
    assert (first.kernel_size, first.stride) == ((80,), (4,))


def test_layer_groups_cover_every_weight_once():
    for arch in RAW_ARCHS:
        network = build_network(arch, 3)
        groups = layer_groups(network)
        assert len(groups) == 3
        assert all(groups)
        ids = [id(p) for group in groups for p in group]
        assert sorted(ids) == sorted(id(p) for p in network.parameters())


def test_missing_weights_are_reported():
    with pytest.raises(ModelError, match=r"some/file\.pth': no such file or folder"):
        build_network("m5", 3, weights="some/file.pth")


@pytest.mark.parametrize("weights", ["imagenet", __file__])
def test_weights_of_images_are_refused(weights):
    with pytest.raises(
        ModelError, match=r"not for 'm5', which has no published weights.*--weights none"
    ):
        build_network("m5", 3, weights=weights)


def test_unknown_names_are_refused():
    with pytest.raises(ModelError, match="arch 'm7' must be one of m3, m5"):
        raw_layers("m7")
    with pytest.raises(ModelError, match="m34-res"):
        build_network("m34_res", 3)


def test_a_body_is_loaded_from_a_model_folder(tmp_path):
    trained = build_network("m5-light", 3)
    mel = MelConfig(8000, 1.0, kind=clip_kind("m5-light"))
    info = ModelInfo("m5-light", ("1", "2", "3"), mel)
    write_model(tmp_path, trained.state_dict(), info)
    network, loaded = load_network(tmp_path)
    assert loaded.mel.kind == "waveform"
    torch.testing.assert_close(network.state_dict(), trained.state_dict())
    other = build_network("m5-light", 2, weights=tmp_path)
    torch.testing.assert_close(other[0].state_dict(), trained[0].state_dict())
    with pytest.raises(ModelError, match="has arch 'm5-light', not 'm5'; pass --arch m5-light"):
        build_network("m5", 2, weights=tmp_path)
