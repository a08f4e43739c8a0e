"""Download from the Hugging Face Hub: the real library, a stand-in server, an empty cache."""

import json
import shutil
from contextlib import suppress

import hub_server
import numpy as np
import pytest
import torch
from hub_models import save_encoder

from langid_fastai.errors import ModelError
from langid_fastai.learner import load_learner  # noqa: F401  # imported once, not in a test
from langid_fastai.models.encoder_info import read_encoder
from langid_fastai.models.folder import read_info, write_model
from langid_fastai.models.hub import fetch_model, hub_name, is_hub_name
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import mel_config_for
from langid_fastai.models.networks import build_network, load_network
from langid_fastai.prediction import LanguageIdentifier

hub = hub_server.hub
ARCH = "spectrogram_cnn-w4-d2"


@pytest.fixture
def model(tmp_path):
    """A model folder, which also contains files that do not belong to a model."""
    folder = tmp_path / "model"
    torch.manual_seed(0)
    mel = mel_config_for(ARCH, {"sr": 8000, "clip_seconds": 1.0, "n_mels": 32})
    write_model(folder, build_network(ARCH, 2).state_dict(), ModelInfo(ARCH, ("de", "es"), mel))
    (folder / "README.md").write_text("a card")
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def offline(hub):
    """Stop the server, and clear the caches of this process."""
    hub.close()
    fetch_model.cache_clear()
    read_encoder.cache_clear()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:owner/name", ("owner/name", None)),
        ("hf:owner/name@refs/pr/1", ("owner/name", "refs/pr/1")),
        ("hf:gpt2", ("gpt2", None)),
    ],
)
def test_names(name, expected):
    assert is_hub_name(name)
    assert hub_name(name) == expected


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:../x", "hf:/etc", "hf:a b", "owner/name"])
def test_invalid_names(name):
    with pytest.raises(ModelError, match="must be hf:<owner>/<name>"):
        hub_name(name)


def test_a_model_is_loaded_from_the_hub(hub, model, tone):
    repo = hub.add("me/lid", model, revisions=("main", "v1"))
    identifier = LanguageIdentifier.load("hf:me/lid")
    y = (tone(440, 8000, 1.0), 8000)
    np.testing.assert_array_equal(
        identifier.log_probs(y), LanguageIdentifier.load(model).log_probs(y)
    )
    assert hub.files_asked() == {"model.json", "model.safetensors", "README.md"}
    for name in ("hf:me/lid@v1", f"hf:me/lid@{repo.sha}"):
        assert LanguageIdentifier.load(name).info == identifier.info
    offline(hub)
    assert LanguageIdentifier.load("hf:me/lid").info == identifier.info


def test_wherever_a_model_folder_is_accepted(hub, model):
    """One function resolves all of them, so these are examples."""
    hub.add("me/lid", model)
    assert load_network("hf:me/lid")[1].vocab == ("de", "es")
    assert build_network(ARCH, 3, weights="hf:me/lid")[1][-1].out_features == 3
    from langid_fastai.inference.onnx_export import export_onnx

    with pytest.raises(ModelError, match="hf download me/lid --local-dir FOLDER"):
        export_onnx("hf:me/lid")


def test_the_command_line(hub, model, langid, write_audio, tone, tmp_path):
    from langid_fastai import cli

    hub.add("me/lid", model, revisions=("main", "v1"))
    call = write_audio(tmp_path / "call.wav", tone(440, 8000, 1.0), 8000)
    code, text, err = langid("predict", "hf:me/lid@v1", call, "--json", command=cli.main)
    assert code == 0, err
    assert {answer["label"] for answer in json.loads(text)["answers"]} == {"de", "es"}
    code, _, err = langid("predict", "hf:me/no", call, command=cli.main)
    assert code == 1
    assert err.startswith("error: hf:me/no: the Hub has no such model, or it is private (HTTP 401)")


@pytest.mark.parametrize(
    ("options", "name", "token", "message"),
    [
        ({}, "hf:me/other", "", r"no such model, or it is private \(HTTP 401\).*hf auth login"),
        ({}, "hf:me/other", hub_server.TOKEN, r"no such model, or it is private \(HTTP 404\)"),
        ({"private": True}, "hf:me/lid", "", r"it is private \(HTTP 401\)"),
        ({}, "hf:me/lid", "hf_wrong", r"the Hub refuses \(HTTP 401|cannot be reached"),
        ({"gated": True}, "hf:me/lid", "", "requires you to accept conditions"),
        ({}, "hf:me/lid@v9", "", "has no revision 'v9'"),
    ],
)
def test_refusals_of_the_hub(hub, model, monkeypatch, options, name, token, message):
    hub.add("me/lid", model, **options)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError, match=message):
        LanguageIdentifier.load(name)


def test_a_private_model_with_a_token(hub, model, monkeypatch):
    hub.add("me/lid", model, private=True)
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    assert read_info("hf:me/lid").vocab == ("de", "es")


def test_without_a_network(hub, model):
    hub.add("me/lid", model)
    offline(hub)
    with pytest.raises(ModelError, match="cannot be reached, and this model has not been down"):
        LanguageIdentifier.load("hf:me/lid")


def test_an_interrupted_download_is_resumed(hub, model):
    """A partial download is resumed by huggingface_hub or the next command, and never used."""
    hub.add("me/lid", model)
    hub.tear = 100
    with pytest.raises(ModelError, match=r"broke off|cannot be reached"):
        LanguageIdentifier.load("hf:me/lid")
    hub.tear = 1
    with suppress(ModelError):  # of older versions
        LanguageIdentifier.load("hf:me/lid")
    assert LanguageIdentifier.load("hf:me/lid").info.vocab == ("de", "es")


def test_changed_content_is_detected(hub, model):
    hub.add("me/lid", model)
    hub.corrupt = True
    with pytest.raises(ModelError, match=r"it differs from model\.safetensors on the Hub"):
        LanguageIdentifier.load("hf:me/lid")


def test_a_damaged_cache_is_detected(hub, model):
    hub.add("me/lid", model)
    file = fetch_model("hf:me/lid") / "model.json"
    file.resolve().write_text(file.read_text().replace("de", "fr"))
    fetch_model.cache_clear()
    with pytest.raises(
        ModelError, match=r"it differs from model\.json on the Hub; remove this file"
    ):
        fetch_model("hf:me/lid")


def test_a_repository_of_another_kind(hub, model, tmp_path):
    hub.add("me/lid", model)
    hub.add("me/hubert", save_encoder(tmp_path / "encoder"))
    with pytest.raises(ModelError, match=r"no model\.json.*--arch hf:me/hubert"):
        LanguageIdentifier.load("hf:me/hubert")
    with pytest.raises(ModelError, match=r"no config\.json.*--weights hf:me/lid"):
        read_encoder("hf:me/lid")
    hub.repos["me/text"] = hub_server.Repo({"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(ModelError, match="model_type is 'bert'"):
        read_encoder("hf:me/text")
    hub.repos["me/empty"] = hub_server.Repo({"data.csv": b""})
    with pytest.raises(ModelError, match=r"no model\.json"):
        LanguageIdentifier.load("hf:me/empty")


def test_an_encoder_is_pinned(hub, tmp_path):
    """The commit is recorded; only JSON and safetensors are downloaded; then no network."""
    folder = save_encoder(tmp_path / "encoder")
    for name in ("pytorch_model.bin", "modeling.py", "model.fp32-00001-of-00002.safetensors"):
        (folder / name).write_bytes(b"x")
    repo = hub.add("you/hubert", folder)
    network = build_network("hf:you/hubert", 2, weights="pretrained")
    assert network[0].info.revision == repo.sha
    assert network[0].info.name == "you/hubert"
    wanted = {"config.json", "preprocessor_config.json", "model.safetensors"}
    assert hub.files_asked() == wanted
    offline(hub)
    again = build_network("hf:you/hubert", 2, weights="pretrained")
    for ours, theirs in zip(again[0].parameters(), network[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_pickles_on_the_hub(hub, tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    repo = hub.add("you/hubert", folder)
    with pytest.raises(ModelError, match="look for a revision with safetensors, given as hf:you/h"):
        build_network("hf:you/hubert", 2, weights="pretrained")
    repo.converted = 7
    with pytest.raises(ModelError, match="has converted it: hf:you/hubert@refs/pr/7"):
        build_network("hf:you/hubert", 2, weights="pretrained")
    assert "pytorch_model.bin" not in hub.files_asked()


def test_weights_that_were_not_downloaded_before(hub, tmp_path, monkeypatch):
    hub.add("you/hubert", save_encoder(tmp_path / "encoder"))
    read_encoder("hf:you/hubert")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # without retries
    offline(hub)
    with pytest.raises(ModelError, match=r"cannot be reached|no model\.safetensors"):
        build_network("hf:you/hubert", 2, weights="pretrained")
