"""Foreign model folders, and those of older versions: which are read, which refused."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from langid_fastai.errors import ModelError
from langid_fastai.models.folder import (
    MAX_JSON,
    read_info,
    read_model,
    read_shapes,
    read_tensors,
    tensors_hash,
    write_model,
)
from langid_fastai.models.model_info import FORMAT_VERSION, Calibration, ModelInfo
from langid_fastai.models.networks import build_network, load_network
from langid_fastai.prediction import LanguageIdentifier
from langid_fastai.preprocessing import MelConfig

FORMAT_1 = Path(__file__).parents[1] / "golden" / "model_format_1"
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


def test_a_folder_has_the_permissions_of_the_umask(folder, state):
    """A web server must be able to load a model that another user trained."""
    before = os.umask(0o027)
    try:
        write_model(folder, state, read_info(folder))
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == {"model.json": 0o640, "model.safetensors": 0o640}


def test_a_mixture_of_two_models_is_refused(folder, state):
    """Their shapes are the same; it can happen while a model is trained again."""
    assert read_info(folder).tensors == tensors_hash(folder)
    save_file({**state, "1.2.bias": state["1.2.bias"] + 1}, folder / "model.safetensors")
    for load in (load_network, read_model, LanguageIdentifier.load):
        with pytest.raises(ModelError, match=r"model\.json was written with other tensors"):
            load(folder)
    change(folder, tensors=None)  # as in folders of before
    load_network(folder)


def test_tensors_replaced_while_they_are_read_are_detected(folder, state, monkeypatch):
    info, load = read_info(folder), load_file

    def replaced(file):
        tensors = load(file)
        write_model(folder, {**state, "1.2.bias": state["1.2.bias"] + 1}, info)
        return tensors

    monkeypatch.setattr("safetensors.torch.load_file", replaced)
    with pytest.raises(ModelError, match="other tensors"):
        read_tensors(folder, info)


def test_two_writers_have_two_files(folder, state, monkeypatch):
    """A failed one leaves nothing."""
    seen = []

    def fail(file, content):
        seen.append(file)
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with pytest.raises(OSError, match="disk full"):
            write_model(folder, state, read_info(folder))
    assert len({*seen}) == 2
    assert {file.name for file in folder.iterdir()} == {"model.json", "model.safetensors"}


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
            r"1 tensors .* with 3 languages, e.g. '1\.8\.weight': \('F32', \(4, 512\)\)",
        ),
        (
            lambda tensors: tensors | {"1.8.weight": torch.ones(3, 512, dtype=torch.float64)},
            r"'1\.8\.weight': \('F64'",
        ),
        (
            lambda tensors: {n: t for n, t in tensors.items() if n != "1.8.weight"},
            r"'1\.8\.weight': absent in the file",
        ),
        (
            lambda tensors: tensors | {"1.9.weight": torch.ones(1)},
            r"'1\.9\.weight'.*absent expected",
        ),
    ],
)
def test_tensors_of_another_network_are_refused_by_name(folder, damage, message):
    save_file(damage(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_network(folder)


def test_tensors_are_refused_before_they_are_read(folder, monkeypatch):
    """A file with other shapes in its header is not read into memory first."""
    change(folder, vocab=["de", "en"])
    monkeypatch.setattr("langid_fastai.models.folder._tensors", lambda file: pytest.fail("read"))
    with pytest.raises(ModelError, match="do not fit"):
        load_network(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab": "de"}, "vocab must be a list of different labels"),
        ({"vocab": ["de", "de", "es"]}, "vocab must be a list of different labels"),
        ({"vocab": ["de", 3, "es"]}, "vocab must be a list of different labels"),
        ({"vocab": ["de"]}, "has 1 labels"),
        ({"vocab": ["de", "unknown", "es"]}, "cannot be named 'unknown'.*rename it"),
        ({"vocab": ["de", "\x1b[2J", "es"]}, r"'\\x1b\[2J' must be 1 to 100 printable"),
        ({"vocab": ["de", "e\nn", "es"]}, r"'e\\nn' must be"),
        ({"vocab": ["de", "\u202een", "es"]}, "must be .*printable"),
        ({"vocab": ["de", " ", "es"]}, "' ' must be 1 to 100"),
        ({"vocab": ["de", "e" * 101, "es"]}, r"'e+\.\.\.e+' must be 1 to 100"),
        ({"vocab": None}, "vocab must be a list"),
        ({"arch": 3}, "arch=3 must be the name"),
        ({"arch": ["resnet18"]}, r"arch=\['resnet18'\] must be the name"),
        ({"arch": None}, "arch=None must be the name"),
        ({"arch": "\x1b[2J"}, "must be the name"),
        ({"arch": "r" * 10**6}, "must be the name|damaged"),
        ({"training": "x"}, "training and versions must be objects"),
        ({"training": {"heard": 3}}, "heard must be a list"),
        ({"training": {"heard": [[]]}}, "heard must be a list"),
        ({"versions": 3}, "training and versions must be objects"),
        ({"versions": {"torch": 3}}, "versions must be texts"),
        ({"tensors": 3}, "tensors must be a hash"),
        ({"vocab": [str(i) for i in range(10_001)]}, "has 10001 labels"),
        ({"arch": "no_such_net"}, "arch 'no_such_net' is not a torchvision"),
        ({"mel": {"sr": 22}}, "sr=22 must be"),
        ({"mel": {"sr": "8000"}}, "sr='8000' must be"),
        ({"mel": {"n_mels": 10**9}}, "n_mels=1000000000.* maximum is 2048"),
        # The filters alone, dense and in float64, would take 98 GB.
        (
            {"mel": {"n_mels": 200_000, "n_fft": 1 << 17, "hop_length": 10**7}},
            "hop_length=10000000",
        ),
        ({"mel": {"n_mels": 2000, "n_fft": 1 << 16}}, "65538000 filter weights.*is 8388608"),
        ({"mel": {"n_mels": 2048, "hop_length": 1}}, "pixels .*maximum is 2097152"),
        ({"mel": {"n_fft": 1 << 17, "hop_length": 1}}, "powers .*maximum is 67108864"),
        ({"mel": {"hop_length": 257}}, "hop_length=257 must be at most n_fft=256"),
        ({"mel": {"clip_seconds": 61}}, "clip_seconds=61 must be between"),
        ({"mel": {"clip_seconds": True}}, "clip_seconds=True must be a number"),
        ({"mel": {"fmin": "0"}}, "fmin='0' must be a number"),
        ({"mel": {"fmax": []}}, r"fmax=\[\] must be a number"),
        ({"mel": {"top_db": 1e300}}, r"top_db=1e\+300 must be 10 to 200 dB"),
        ({"mel": {"top_db": 1e-300}}, "top_db=1e-300 must be 10 to 200 dB"),
        ({"mel": {"n_fft": 2**30}}, "n_fft=1073741824"),
        ({"mel": {"n_ffts": 3}}, "damaged .mel has an unknown field 'n_ffts'"),
        ({"mel": None}, "damaged .mel must be an object"),
        ({"calibration": {"temperature": 0}}, "temperature=0 must be 0.01 to 100"),
        ({"calibration": {"temperature": 1e-300}}, "temperature=1e-300 must be 0.01 to 100"),
        ({"calibration": {"temperature": True}}, "temperature=True must be"),
        ({"calibration": {"threshold": "x"}}, "threshold='x' must be a probability"),
        ({"calibration": {"false_alarm_rate": 5}}, "false_alarm_rate=5 must be a probability"),
        ({"calibration": {"n_recordings": -1}}, "n_recordings=-1 must be a whole number"),
        ({"calibration": {"thresholds": 1}}, "calibration has an unknown field 'thresholds'"),
        ({"calibration": {"threshold": 2}}, "threshold=2 must be a probability"),
        ({"calibration": 3}, "damaged .calibration must be an object"),
        ({"format_version": 0}, "not a model of this library"),
        ({"format_version": "1"}, "not a model of this library"),
        ({"format_version": True}, "not a model of this library"),
        ({"format_version": 10**400}, r"format 10*\.\.\.0* is newer"),
        ({"extra": 1}, "damaged .the file has an unknown field 'extra'"),
    ],
)
def test_model_json_is_validated(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_network(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_missing_fields_of_model_json_are_reported(folder):
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    del content["arch"], content["mel"]
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="the file lacks arch, mel"):
        read_info(folder)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 100_000, b" " * (MAX_JSON + 1)], ids=["text", "deep", "large"]
)
def test_invalid_model_json_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json: damaged"):
        read_info(folder)


def test_names_from_a_hub_are_not_fetched(folder, monkeypatch):
    """A timm name can refer to a server; loading a folder contacts none."""
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *address: pytest.fail("connected"))
    change(folder, arch="hf-hub:stranger/model")
    with pytest.raises(ModelError, match="is not a torchvision or timm model"):
        load_network(folder)


def test_loading_unpickles_nothing(folder, monkeypatch):
    import pickle

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    identifier = LanguageIdentifier.load(folder)
    y = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert len(identifier((y, 8000))) == 3
