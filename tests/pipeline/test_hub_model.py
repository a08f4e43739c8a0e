"""Models of the Hugging Face Hub compared with a run: tiny ones, made here, without a network."""

import json
import os
import shutil
import subprocess
import sys

import hub_server
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hub_models import HUB_SR, save_wav2vec2
from safetensors.torch import load_file, save_file
from tones import make_tones

from langid_fastai import cli
from langid_fastai.audio.files import load_audio
from langid_fastai.errors import ModelError
from langid_fastai.mel_config import MelConfig
from langid_fastai.pipeline.hub_model import load_hub

stand_in = hub_server.hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A model of four labels, two of them Spanish, with German under another code."""
    folder = tmp_path_factory.mktemp("hub") / "wav2vec2"
    return save_wav2vec2(folder, ["fra", "spa", "deu", "es-MX"])


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def evaluate(langid, run, against):
    return langid("evaluate", run, "--against", against, "--jobs", 1, command=cli.main)


def by_hand(hub, run, corpus):
    """Accuracy on the test, with `transformers` alone; each recording has clips at 0, 1 and end."""
    model = transformers.AutoModelForAudioClassification.from_pretrained(hub)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(hub)
    index = pd.read_csv(run / "index.csv")
    hits = {}
    for row in index[index["split"] == "test"].itertuples():
        y = load_audio(corpus / row.path, sr=HUB_SR)
        clips = [y[:HUB_SR], y[HUB_SR : 2 * HUB_SR]]
        inputs = extractor(clips, sampling_rate=HUB_SR, return_tensors="pt")
        with torch.no_grad():
            probs = torch.softmax(model(**inputs).logits, dim=-1).double().numpy()
        german, spanish = probs[:, 2], probs[:, 1] + probs[:, 3]
        margin = np.log(german / (german + spanish)) - np.log(spanish / (german + spanish))
        hits[row.path] = (margin.mean() > 0) == (row.language == "de")
    return hits


def test_a_hub_model_is_compared_with_the_run(run, hub, corpus, langid):
    code, text, err = evaluate(langid, run, f"hf:{hub}")
    assert code == 0, err
    metrics = json.loads((run / "metrics.json").read_text())
    [block] = metrics["hub"]
    hits = by_hand(hub, run, corpus)
    assert block["there"]["accuracy"] == pytest.approx(np.mean(list(hits.values())))
    assert block["run"]["accuracy"] == metrics["test"]["recordings"]["accuracy"]
    assert block["run"]["log_loss"] == pytest.approx(metrics["test"]["recordings"]["log_loss"])
    difference = block["run"]["accuracy"] - block["there"]["accuracy"]
    assert block["difference"]["accuracy"] == pytest.approx(difference)
    assert block["difference"]["n"] == block["n_recordings"] == len(hits)
    assert block["labels"] == {"de": ["deu"], "es": ["spa", "es-MX"]}
    assert (block["left_out"], block["n_labels_unused"]) == ([], 1)
    assert block["n_clips"] == metrics["test"]["n_clips"]
    assert f"{hub}: accuracy {block['there']['accuracy']:.4f}" in text
    assert "both were given the run's clips of 1 s, the other model at 16000 Hz" in text
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="hub"' in page
    assert "spa, es-MX" in page

    # Measured again, it gives the same, once.
    assert evaluate(langid, run, f"hf:{hub}")[0] == 0
    assert json.loads((run / "metrics.json").read_text())["hub"] == metrics["hub"]


def test_languages_that_one_model_lacks_are_left_out(langid, tmp_path, hub):
    from command_line import QUICK

    folder = make_tones(tmp_path / "tones", {"de": 300, "es": 1200, "it": 2000})
    code, _, err = langid(folder, "--out", tmp_path / "run", "--epochs", "0,1,0", *QUICK)
    assert code == 0, err
    assert evaluate(langid, tmp_path / "run", f"hf:{hub}")[0] == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    [block] = metrics["hub"]
    assert block["left_out"] == ["it"]
    assert block["n_recordings"] == metrics["test"]["n_recordings"] * 2 // 3
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    shared = predictions[predictions["language"] != "it"]
    hits = (shared["p_de"] > shared["p_es"]) == (shared["language"] == "de")
    assert block["run"]["accuracy"] == pytest.approx(hits.mean())
    assert "left out" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_spectrogram_transformer_too(tmp_path, tone):
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_mel_bins=16, max_length=64, id2label={0: "de", 1: "es"}, label2id={"de": 0, "es": 1},
    )  # fmt: skip
    folder = tmp_path / "ast"
    transformers.ASTForAudioClassification(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder)
    model = load_hub(str(folder))
    assert (model.labels, model.sr) == (("de", "es"), HUB_SR)
    log_probs = model.log_probs([tone(440, HUB_SR, 0.7), tone(880, HUB_SR, 0.7)])
    assert log_probs.shape == (2, 2)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision(hub, tmp_path, tone, dtype):
    """Newer versions of `transformers` load them as they are stored; sound is float32."""
    folder = shutil.copytree(hub, tmp_path / "half")
    model = transformers.AutoModelForAudioClassification.from_pretrained(hub)
    model.to(dtype).save_pretrained(folder)
    clips = [tone(440, HUB_SR, 0.7)]
    expected = load_hub(str(hub)).log_probs(clips)
    found = load_hub(str(folder)).log_probs(clips)
    np.testing.assert_allclose(found, expected, atol=1.0)  # to the rounding of the weights


def test_a_short_recording_is_repeated_and_a_lost_one_missed(hub, tmp_path, write_audio, tone):
    from langid_fastai.pipeline.hub_model import _sounds

    write_audio(tmp_path / "a.wav", tone(440, 8000, 1.4), 8000)
    clips = pd.DataFrame({"path": ["a.wav"], "offset": [0.0]})
    [(row, y)] = _sounds(tmp_path, clips, HUB_SR, MelConfig(clip_seconds=3.0))
    assert (row, len(y)) == (0, 3 * HUB_SR)
    np.testing.assert_array_equal(y[: round(1.4 * HUB_SR)], y[round(1.4 * HUB_SR) :][:22_400])
    from langid_fastai.errors import AudioError

    with pytest.raises(AudioError, match="shorter than it was"):
        list(_sounds(tmp_path, clips.assign(offset=2.0), HUB_SR, MelConfig(clip_seconds=3.0)))


def test_labels_that_match_no_language_are_reported(run, langid, tmp_path):
    folder = save_wav2vec2(tmp_path / "other", ["LABEL_0", "LABEL_1", "deu"])
    code, _, err = evaluate(langid, run, f"hf:{folder}")
    assert code == 1
    assert "only 1 of its labels (LABEL_0, LABEL_1, deu) match those of the run (de, es)" in err


def test_models_that_cannot_be_loaded_are_refused(hub, tmp_path, run, langid):
    body = save_wav2vec2(tmp_path / "body", ["de", "es"], head=False)
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias"):
        load_hub(str(body))
    pickled = shutil.copytree(hub, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="whose weights are safetensors"):
        load_hub(str(pickled))
    damaged = shutil.copytree(hub, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_hub(str(damaged))
    with pytest.raises(ModelError, match="is there no such folder"):
        load_hub(str(tmp_path / "nowhere"))
    code, text, err = evaluate(langid, run, "facebook/mms-lid-126")
    assert code == 1
    assert "must be hf:<model>" in err
    assert text == ""  # before the test is done again


def test_code_in_a_model_is_not_run(hub, tmp_path):
    folder = shutil.copytree(hub, tmp_path / "strange")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "strange.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "strange.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_hub(str(folder))


def test_weights_that_do_not_fit_are_refused(hub, tmp_path):
    folder = shutil.copytree(hub, tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = tensors["classifier.weight"][:2].contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_hub(str(folder))


def test_without_the_extra(run, langid, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, err = evaluate(langid, run, "hf:owner/name")
    assert code == 1
    assert "pip install 'langid_fastai[hub]'" in err


def test_without_a_network(tmp_path):
    """In a process of its own: the address of the Hub is read when the library is imported."""
    code = (
        "from langid_fastai.pipeline.hub_model import load_hub\n"
        "from langid_fastai.errors import ModelError\n"
        "try:\n    load_hub('owner/name')\nexcept ModelError as error:\n    print(error)"
    )
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | nowhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "hf:owner/name: the Hub cannot be reached" in done.stdout


def test_from_the_hub(hub, stand_in):
    """The commit is recorded, and nothing but JSON and safetensors is downloaded."""
    (hub / "modeling.py").write_text("raise SystemExit")
    repo = stand_in.add("you/lid", hub, revisions=("main", "v1"))
    assert load_hub("you/lid@v1").revision == repo.sha
    assert "modeling.py" not in stand_in.files_asked()
