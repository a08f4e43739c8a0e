"""Networks: names, layer groups, and model folders."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torchvision.models
from fastai.vision.learner import add_head, create_body, model_meta
from safetensors.torch import save_file

from langid_fastai.errors import ModelError
from langid_fastai.models.folder import read_info, tensors_hash, write_info, write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import (
    BUILDER_OPTIONS,
    _Weightless,
    build_network,
    layer_groups,
    load_network,
)
from langid_fastai.preprocessing import MelConfig

SMALL = "squeezenet1_1"
IMAGE = torch.zeros(2, 3, 64, 96)


# One small member of each torchvision family, and its classifier, which the body leaves out.
FAMILIES = {
    "alexnet": "classifier",
    "convnext_tiny": "classifier",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier",
    "efficientnet_v2_s": "classifier",
    "googlenet": "fc",
    "inception_v3": "fc",
    "mnasnet0_5": "classifier",
    "mobilenet_v2": "classifier",
    "mobilenet_v3_small": "classifier",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier",
    "swin_t": "head",
    "vgg11": "classifier",
    "vgg11_bn": "classifier",
}


@pytest.mark.parametrize(("arch", "classifier"), FAMILIES.items())
def test_torchvision_families_build_with_their_whole_body(arch, classifier):
    """The body is all but the classifier, and its shapes are found without the weights."""
    network = build_network(arch, 3).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 96, 128)).shape == (2, 3)
    builder = torchvision.models.get_model_builder(arch)
    with _Weightless():
        full = builder(weights=None, **BUILDER_OPTIONS.get(arch, {}))
    expected = [
        p.shape for name, p in full.named_parameters() if not name.startswith(f"{classifier}.")
    ]
    assert [p.shape for p in network[0].parameters()] == expected
    assert_found_without_weights(arch, network)


def assert_found_without_weights(arch, network):
    with _Weightless():
        weightless = build_network(arch, 3)
    assert {n: (t.dtype, t.shape) for n, t in weightless.state_dict().items()} == {
        n: (t.dtype, t.shape) for n, t in network.state_dict().items()
    }
    assert sum(p.numel() for p in weightless.parameters() if not p.is_meta) < 1e5


@pytest.mark.parametrize("arch", ["vit_b_16", "maxvit_t"])
def test_arch_without_a_feature_map_is_refused(arch):
    with pytest.raises(ModelError, match=f"'{arch}' has no convolutional body"):
        build_network(arch, 3)


def test_refusal_recommends_names_that_build():
    with pytest.raises(ModelError) as caught:
        build_network("vit_b_16", 3)
    known = set(torchvision.models.list_models(module=torchvision.models)) - {"vit_b_16"}
    recommended = sorted(known & set(re.findall(r"\w+", str(caught.value))))
    assert len(recommended) > 2
    for arch in recommended:
        with _Weightless():
            build_network(arch, 3)


def test_resnet152_is_the_published_one():
    with _Weightless():
        n_body = sum(p.numel() for p in build_network("resnet152", 3)[0].parameters())
    with torch.device("meta"):
        full = torchvision.models.resnet152(weights=None)
    n_classifier = sum(p.numel() for p in full.fc.parameters())
    assert n_body == sum(p.numel() for p in full.parameters()) - n_classifier == 58_143_808


def test_timm_names_build():
    pytest.importorskip("timm")
    assert build_network("resnet10t", 3).eval()(IMAGE).shape == (2, 3)


def test_a_timm_name_that_timm_does_not_build_is_refused():
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=r"'resnet18d\.evil': timm cannot build it.*evil"):
        build_network("resnet18d.evil", 3)


@pytest.mark.parametrize("arch", ["resnet10t", "swin_s3_tiny_224"])
def test_shapes_of_timm_are_found_without_the_weights(arch):
    pytest.importorskip("timm")
    assert_found_without_weights(arch, build_network(arch, 3))


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet152"])
def test_layer_groups_are_those_of_fastai(arch):
    with _Weightless():
        network = build_network(arch, 3)
    theirs = model_meta[torchvision.models.get_model_builder(arch)]["split"](network)
    ours = layer_groups(network)
    assert [{id(p) for p in group} for group in ours] == [{id(p) for p in g} for g in theirs]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "convnext_tiny"])
def test_layer_groups_contain_every_parameter_once(arch):
    with _Weightless():
        network = build_network(arch, 3)
    groups = layer_groups(network)
    assert len(groups) == 3
    assert all(groups)
    ids = [id(p) for group in groups for p in group]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in network.parameters()}


def test_unknown_arch_names_the_nearest():
    with pytest.raises(ModelError, match=r"'resnet125'.*did you mean.*resnet152"):
        build_network("resnet125", 3)


def test_unknown_arch_without_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match=r"langid_fastai\[timm\]"):
        build_network("efficientnet_b99", 3)


def test_model_folder_round_trip(tmp_path):
    network = build_network(SMALL, 2).eval()
    info = ModelInfo(SMALL, ("de", "es"), MelConfig(sr=16_000), {"seed": 3}, {"torch": "2"})
    write_model(tmp_path, network.state_dict(), info)
    loaded, loaded_info = load_network(tmp_path)
    assert loaded_info == replace(info, tensors=tensors_hash(tmp_path))
    assert not loaded.training
    torch.testing.assert_close(loaded(IMAGE), network(IMAGE))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "no model folder"),
        (lambda f: (f / "model.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.json").write_text("[]"), "not a model of this library"),
        (lambda f: (f / "model.json").write_text('{"format_version": 99}'), "newer than"),
        (lambda f: (f / "model.json").write_text('{"format_version": 1}'), "damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "missing or damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 99), "missing or damaged"),
        (lambda f: save_file({"x": torch.ones(1)}, f / "model.safetensors"), "do not fit"),
    ],
)
def test_damaged_model_folder_is_refused(tmp_path, damage, message):
    info = ModelInfo(SMALL, ("a", "b"), MelConfig())
    write_model(tmp_path, build_network(SMALL, 2).state_dict(), info)
    damage(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_network(tmp_path)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "densenet121"])
def test_networks_are_those_of_fastai(arch):
    """Built without it, so that loading a model need not import it: same names, same numbers."""
    builder = torchvision.models.get_model_builder(arch)
    torch.manual_seed(0)
    body = create_body(builder(weights=None), cut=model_meta[builder]["cut"])
    n_features = body.eval()(IMAGE).shape[1]
    theirs = add_head(body, n_features, 5)
    torch.manual_seed(0)
    ours = build_network(arch, 5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(ours.eval()(IMAGE), theirs.eval()(IMAGE))
    rates = [[m.p for m in net[1] if isinstance(m, torch.nn.Dropout)] for net in (ours, theirs)]
    assert rates[0] == rates[1]


def test_loading_imports_no_fastai(tmp_path):
    info = ModelInfo(SMALL, ("a", "b"), MelConfig())
    write_model(tmp_path, build_network(SMALL, 2).state_dict(), info)
    code = (
        "import sys\nfrom langid_fastai.models.networks import load_network\n"
        f"load_network({str(tmp_path)!r})\nprint('fastai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("arch", ["vit_giant_patch14_dinov2", "regnet_y_128gf"])
def test_a_small_folder_cannot_request_a_huge_network(tmp_path, monkeypatch, arch):
    """Shapes are compared before the weights of billions of parameters get memory."""
    if arch.startswith("vit"):
        pytest.importorskip("timm")
    info = ModelInfo(SMALL, ("a", "b"), MelConfig())
    write_model(tmp_path, build_network(SMALL, 2).state_dict(), info)
    write_info(tmp_path, replace(read_info(tmp_path), arch=arch))
    built = []

    def noted(arch, n_languages):
        built.append(build_network(arch, n_languages))
        return built[-1]

    monkeypatch.setattr("langid_fastai.models.networks.build_network", noted)
    with pytest.raises(ModelError, match=f"do not fit arch '{arch}'"):
        load_network(tmp_path)
    [network] = built
    assert sum(p.numel() for p in network.parameters()) > 6e8
    assert sum(p.numel() for p in network.parameters() if not p.is_meta) < 3e6
