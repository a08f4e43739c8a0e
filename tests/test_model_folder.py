"""Model folders of strangers and of older versions: what is read, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from langid_fastai.errors import ModelError
from langid_fastai.model_folder import (
    FORMAT_VERSION,
    MAX_JSON,
    Calibration,
    ModelInfo,
    read_info,
    read_shapes,
    tensors_hash,
    write_model,
)
from langid_fastai.networks import build_network, load_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig

FORMAT_1 = Path(__file__).parent / "golden" / "model_format_1"
TYPES = {"F32": torch.float32, "I64": torch.int64}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build_network("squeezenet1_1", 3).state_dict()


@pytest.fixture
def folder(tmp_path, state):
    info = ModelInfo("squeezenet1_1", ("de", "en", "es"), MelConfig(8000, 1.0, 256, 128, 32))
    write_model(tmp_path, state, info)
    return tmp_path


def change(folder, **changes):
    """Change fields of ``model.json``; a dict changes fields within."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_folder_of_format_1_still_answers(tmp_path, tone):
    """Written by version 0.1.0; its tensors are filled here, under the names they had then."""
    shapes = json.loads((FORMAT_1 / "tensors.json").read_text(encoding="utf-8"))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(shape, generator=generator).to(TYPES[dtype])
        for name, (dtype, shape) in shapes.items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_bytes((FORMAT_1 / "model.json").read_bytes())
    network, info = load_network(tmp_path)
    assert info.format_version == FORMAT_VERSION > 1
    assert info.calibration == Calibration()
    assert all(torch.equal(tensors[name], value) for name, value in network.state_dict().items())
    answers = LanguageIdentifier.load(tmp_path)((tone(440, 8000), 8000))
    assert {answer["label"] for answer in answers} == {"de", "en", "es"}


def test_shapes_are_read_without_the_tensors(folder, state):
    shapes = read_shapes(folder)
    assert list(shapes) == sorted(state)
    assert shapes["1.8.weight"] == ("F32", (3, 512))
    assert shapes["1.2.num_batches_tracked"] == ("I64", ())


def test_the_hash_is_of_the_tensors(folder, state):
    before = tensors_hash(folder)
    change(folder, arch="resnet18")
    assert tensors_hash(folder) == before
    save_file({**state, "1.2.bias": state["1.2.bias"] + 1}, folder / "model.safetensors")
    assert tensors_hash(folder) != before
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: missing"):
        tensors_hash(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda tensors: tensors | {"1.8.weight": torch.ones(4, 512)},
            r"1 tensors .* with 3 languages, as '1\.8\.weight': \('F32', \(4, 512\)\)",
        ),
        (
            lambda tensors: tensors | {"1.8.weight": torch.ones(3, 512, dtype=torch.float64)},
            r"'1\.8\.weight': \('F64'",
        ),
        (
            lambda tensors: {n: t for n, t in tensors.items() if n != "1.8.weight"},
            r"'1\.8\.weight': absent there",
        ),
        (lambda tensors: tensors | {"1.9.weight": torch.ones(1)}, r"'1\.9\.weight'.*absent wanted"),
    ],
)
def test_tensors_of_another_network_are_refused_by_name(folder, damage, message):
    save_file(damage(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_network(folder)


def test_tensors_are_refused_before_they_are_read(folder, monkeypatch):
    """A file that claims to be of another shape is not read into memory first."""
    change(folder, vocab=["de", "en"])
    monkeypatch.setattr("langid_fastai.model_folder._tensors", lambda file: pytest.fail("read"))
    with pytest.raises(ModelError, match="do not fit"):
        load_network(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": "de"}, "vocab must be a list of different labels"),
        ({"vocab": ["de", "de", "es"]}, "vocab must be a list of different labels"),
        ({"vocab": ["de", 3, "es"]}, "vocab must be a list of different labels"),
        ({"vocab": ["de"]}, "holds 1 labels"),
        ({"vocab": [str(i) for i in range(10_001)]}, "holds 10001 labels"),
        ({"arch": "no_such_net"}, "arch 'no_such_net' is no torchvision"),
        ({"mel": {"sr": 22}}, "sr=22 must be"),
        ({"mel": {"sr": "8000"}}, "sr='8000' must be"),
        ({"mel": {"n_mels": 10**9}}, "images of 1000000000 × 63 are more than"),
        ({"mel": {"n_fft": 2**30}}, "n_fft=1073741824"),
        ({"mel": {"n_ffts": 3}}, "damaged"),
        ({"mel": None}, "damaged"),
        ({"calibration": {"temperature": 0}}, "temperature=0 must be above 0"),
        ({"calibration": {"threshold": 2}}, "threshold=2 must be a probability"),
        ({"calibration": 3}, "damaged"),
        ({"format_version": 0}, "not a model of this library"),
        ({"format_version": "1"}, "not a model of this library"),
        ({"extra": 1}, "damaged.*extra"),
    ],
)
def test_model_json_of_a_stranger_is_checked(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_network(folder)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 100_000, b" " * (MAX_JSON + 1)], ids=["text", "deep", "large"]
)
def test_model_json_that_is_none_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json: damaged"):
        read_info(folder)


def test_names_from_a_hub_are_not_fetched(folder, monkeypatch):
    """A name of timm can point to a server; loading a folder asks none."""
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *address: pytest.fail("connected"))
    change(folder, arch="hf-hub:stranger/model")
    with pytest.raises(ModelError, match="is no torchvision or timm model"):
        load_network(folder)


def test_loading_unpickles_nothing(folder, monkeypatch):
    import pickle

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    identifier = LanguageIdentifier.load(folder)
    y = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert len(identifier((y, 8000))) == 3
