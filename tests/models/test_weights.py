"""Weights of networks are loaded completely or refused: files, downloads, model folders."""

import http.server
import re
import threading
from functools import partial

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from langid_fastai.errors import ModelError
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.networks import BUILDER_OPTIONS, build_network
from langid_fastai.models.weights import fetch_state, read_state
from langid_fastai.preprocessing import MelConfig

SMALL = "squeezenet1_1"
IMAGE = torch.zeros(2, 3, 64, 96)


@pytest.fixture
def body_state():
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local HTTP server over a folder, and an empty cache for torch's downloads."""
    served = tmp_path / "served"
    served.mkdir()
    handler = partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
        yield served, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_state_dict_file_fills_the_body(tmp_path, body_state, suffix):
    file = tmp_path / f"weights{suffix}"
    torch.save(body_state, file) if suffix == ".pth" else save_file(body_state, file)
    network = build_network("resnet18", 3, weights=file)
    torch.testing.assert_close(network[0][0].weight.data, body_state["conv1.weight"])
    last = network[0][7][1].bn2.weight.data
    torch.testing.assert_close(last, body_state["layer4.1.bn2.weight"])


@pytest.mark.parametrize(
    "arch", ["resnet18", "densenet121", "mnasnet0_5", "shufflenet_v2_x0_5", "googlenet", "swin_t"]
)
def test_every_tensor_of_the_body_is_that_of_the_file(tmp_path, arch):
    state = trained_state(arch)
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    assert_body_is(build_network(arch, 3, weights=file)[0], state)


def test_old_keys_of_densenet_are_renamed(tmp_path):
    """The published files: dots inside the names of the dense layers, no batch counters."""
    state = trained_state("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "w.pth")
    body = build_network("densenet121", 3, weights=tmp_path / "w.pth")[0]
    assert_body_is(body, state)


def test_old_keys_of_densenet_are_renamed_in_imagenet_weights(monkeypatch):
    state = trained_state("densenet121")
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", name): v for name, v in state.items()}
    monkeypatch.setattr("langid_fastai.models.networks.fetch_state", lambda url: old)
    assert_body_is(build_network("densenet121", 3, weights="imagenet")[0], state)


def trained_state(arch):
    """The state of a published model, each floating tensor filled with numbers of its own."""
    builder = torchvision.models.get_model_builder(arch)
    state = dict(builder(weights=None, **BUILDER_OPTIONS.get(arch, {})).state_dict())
    generator = torch.Generator().manual_seed(3)
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.uniform_(generator=generator)
    return state


def assert_body_is(body, state):
    """Compare tensor by tensor: a body keeps the order, and the classifier is last in the file."""
    mine, theirs = without_counters(body.state_dict()), without_counters(state)
    assert len(mine) > 0.9 * len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=False))


def without_counters(state):
    return [value for name, value in state.items() if not name.endswith("num_batches_tracked")]


def test_state_dict_without_classifier_is_enough(tmp_path, body_state):
    del body_state["fc.weight"], body_state["fc.bias"]
    torch.save(body_state, tmp_path / "w.pth")
    build_network("resnet18", 3, weights=tmp_path / "w.pth")


def test_state_dict_of_another_arch_is_refused(tmp_path, body_state):
    torch.save(body_state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth does not fit arch 'resnet50'.*another arch"):
        build_network("resnet50", 3, weights=tmp_path / "w.pth")


def test_missing_weight_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.pth.*no such file"):
        build_network("resnet18", 3, weights=tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_weight_file_is_refused(tmp_path, content, suffix):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="w"):
        read_state(file)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_weight_file_cannot_run_code(tmp_path, capsys):
    torch.save({"conv1.weight": Evil()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="not a plain state dict"):
        read_state(tmp_path / "w.pth")
    assert "code ran" not in capsys.readouterr().out


def test_a_whole_saved_object_is_no_state_dict(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="not a plain state dict"):
        read_state(tmp_path / "w.pth")


def test_download_reads_and_caches(server, tmp_path):
    served, address = server
    torch.save({"weight": torch.ones(2)}, served / "tiny.pth")
    url = f"{address}/tiny.pth"
    state = fetch_state(url)
    torch.testing.assert_close(state["weight"], torch.ones(2))
    (served / "tiny.pth").unlink()
    torch.testing.assert_close(fetch_state(url)["weight"], torch.ones(2))
    assert (tmp_path / "cache" / "checkpoints" / "tiny.pth").exists()


def test_download_of_wrong_content_is_refused(server):
    served, address = server
    torch.save({"weight": torch.ones(2)}, served / "tiny-deadbeef.pth")
    with pytest.raises(ModelError, match=r"tiny-deadbeef\.pth.*invalid hash"):
        fetch_state(f"{address}/tiny-deadbeef.pth")


def test_download_that_fails_names_url_cache_and_ways_out(server, tmp_path):
    url = f"{server[1]}/absent-0a1b2c3d.pth"
    with pytest.raises(ModelError) as caught:
        fetch_state(url)
    text = str(caught.value)
    assert url in text
    assert str(tmp_path / "cache" / "checkpoints") in text
    assert "--weights FILE" in text
    assert "--weights none" in text
    assert "404" in text


def test_imagenet_weights_are_requested_from_the_published_address(server, monkeypatch):
    """The real name and path on torchvision's server; the host is replaced."""
    asked = []

    def refuse(url, **options):
        asked.append(url)
        assert options["weights_only"]
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(ModelError, match="no route to host"):
        build_network("resnet152", 3, weights="imagenet")
    assert asked == [torchvision.models.ResNet152_Weights.DEFAULT.url]


def test_timm_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    timm = pytest.importorskip("timm")

    def refuse(*args, **kwargs):
        raise OSError("hub out of reach")

    monkeypatch.setattr("fastai.vision.learner.timm.create_model", refuse)
    assert timm.is_model("resnet10t")
    with pytest.raises(ModelError, match=r"resnet10t.*huggingface\.co.*out of reach.*cache folder"):
        build_network("resnet10t", 3, weights="imagenet")


def test_body_of_a_model_folder_is_used(tmp_path):
    torch.manual_seed(2)
    old = build_network(SMALL, 5)
    info = ModelInfo(SMALL, tuple("abcde"), MelConfig())
    write_model(tmp_path, old.state_dict(), info)
    new = build_network(SMALL, 2, weights=tmp_path)
    for mine, theirs in zip(new[0].parameters(), old[0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert new.eval()(IMAGE).shape == (2, 2)


def test_model_folder_of_another_arch_names_it(tmp_path):
    info = ModelInfo(SMALL, ("a", "b"), MelConfig())
    write_model(tmp_path, build_network(SMALL, 2).state_dict(), info)
    with pytest.raises(ModelError, match=f"--arch {SMALL}"):
        build_network("resnet18", 2, weights=tmp_path)
