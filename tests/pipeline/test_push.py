"""`langid push`: a stand-in for the Hugging Face Hub, the real library."""

import json
import shutil
from dataclasses import replace

import hub_server
import pytest
import torch

import langid_fastai as lf
from langid_fastai import cli
from langid_fastai.errors import ModelError
from langid_fastai.models.folder import file_hash, read_info, write_info, write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import mel_config_for
from langid_fastai.models.networks import build_network

hub = hub_server.hub
ARCH = "spectrogram_cnn-w4-d2"


@pytest.fixture
def logged_in(monkeypatch, hub):
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    return hub


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "run" / "model"
    torch.manual_seed(0)
    mel = mel_config_for(ARCH, {"sr": 8000, "clip_seconds": 1.0, "n_mels": 32})
    training = {"weights": "/home/me/secret-project/model", "heard": ["0f"]}
    write_model(
        folder, build_network(ARCH, 2).state_dict(), ModelInfo(ARCH, ("de", "es"), mel, training)
    )
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_a_pushed_model_is_loaded_from_the_hub(logged_in, langid, model, tmp_path):
    code, text, err = langid("push", model.parent, "me/lid", command=cli.main)
    assert code == 0, err
    repo = logged_in.repos["me/lid"]
    assert repo.private
    files = {"model.json", "model.safetensors", "README.md"}
    assert repo.files.keys() - {".gitattributes"} == files
    assert f"use it as  hf:me/lid@{repo.sha}" in text
    info = read_info(f"hf:me/lid@{repo.sha}")
    assert info.tensors == read_info(model).tensors
    assert info.training == {"weights": "model", "heard": ["0f"]}  # no path of this machine
    assert b"secret-project" not in repo.files["model.json"]
    assert "secret-project" in (model / "model.json").read_text()
    assert lf.LanguageIdentifier.load(f"hf:me/lid@{repo.sha}").info == info

    # Once more: the same repository, another commit.
    before = repo.sha
    (model / "README.md").write_text("---\nlicense: mit\n---\n# Another card\n")
    again = lf.push(model, "me/lid", tell=lambda _: None)
    assert again.name == f"hf:me/lid@{repo.sha}"
    assert repo.sha != before
    assert again.files.keys() == files


def test_dry_run_sends_nothing(hub, langid, model):
    code, text, err = langid("push", model, "me/lid", "--dry-run", command=cli.main)
    assert code == 0, err
    lines = text.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["would", "send", name] for name in ("model.json", "model.safetensors", "README.md")
    ]
    assert hub.asked == []


def test_public(logged_in, model):
    lf.push(model, "me/open", public=True)
    assert not logged_in.repos["me/open"].private
    with pytest.raises(ModelError, match="hf:me/open exists and is public; add --public"):
        lf.push(model, "me/open")
    lf.push(model, "me/closed")
    with pytest.raises(ModelError, match="me/closed exists and is private; leave out --public"):
        lf.push(model, "me/closed", public=True)


def test_onnx_is_sent_if_it_was_exported_from_this_model(logged_in, model, capsys):
    (model / "model.onnx").write_bytes(b"onnx")
    lf.push(model, "me/lid")
    assert "model.onnx" not in logged_in.repos["me/lid"].files
    assert "left out   model.onnx" in capsys.readouterr().out
    write_info(model, replace(read_info(model), onnx=file_hash(model / "model.onnx")))
    lf.push(model, "me/lid")
    assert logged_in.repos["me/lid"].files["model.onnx"] == b"onnx"


def test_without_a_card(logged_in, model, capsys):
    (model / "README.md").unlink()
    lf.push(model, "me/lid")
    assert "no card    README.md is missing" in capsys.readouterr().out


def test_a_repository_with_other_content_is_refused(logged_in, model):
    logged_in.repos["me/hubert"] = hub_server.Repo({"config.json": b"{}"}, private=True)
    with pytest.raises(ModelError, match=r"contains other files \(config\.json"):
        lf.push(model, "me/hubert")
    assert logged_in.repos["me/hubert"].files == {"config.json": b"{}"}


@pytest.mark.parametrize(
    ("token", "repository", "message"),
    [
        ("", "me/lid", r"the Hub refuses|no such model|Token"),
        ("hf_wrong", "me/lid", r"\(HTTP 401"),
        (hub_server.TOKEN, "you/lid", r"the Hub refuses \(HTTP 403.*token that permits this"),
        (hub_server.TOKEN, "lid", r"must be <owner>/<name>"),
        (hub_server.TOKEN, "me/lid@v1", r"must be <owner>/<name>"),
        (hub_server.TOKEN, "a b/c", r"must be hf:<owner>/<name>"),
    ],
)
def test_refusals(hub, model, monkeypatch, token, repository, message):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError, match=message):
        lf.push(model, repository)
    assert hub.repos == {}


def test_without_a_network(logged_in, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="hf:me/lid: the transfer broke off"):
        lf.push(model, "me/lid")


def test_a_damaged_model_is_not_sent(logged_in, model, tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        lf.push(tmp_path / "nowhere", "me/lid")
    content = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(content | {"tensors": "0" * 16}))
    with pytest.raises(ModelError, match="written with other tensors"):
        lf.push(model, "me/lid")
    shutil.rmtree(model)
    with pytest.raises(ModelError, match="already on the Hub"):
        lf.push("hf:me/lid", "me/lid")
    assert logged_in.asked == []
