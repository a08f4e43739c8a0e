"""`langid-train --arch hf:FOLDER` and what follows, with a tiny encoder of each kind."""

import json
import shutil

import hub_server
import numpy as np
import pandas as pd
import pytest
from hub_models import save_encoder

from langid_fastai import cli
from langid_fastai.models.folder import read_info
from langid_fastai.prediction import LanguageIdentifier

hub = hub_server.hub
QUICK = "--clip-seconds 1 --batch-size 8 --jobs 1 --precision fp32 --epochs 1,1,1".split()


@pytest.fixture(scope="module")
def recording(corpus):
    return min(corpus.rglob("*.wav"))


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "whisper", "ast"])
def test_train_and_predict(langid, corpus, recording, tmp_path, kind):
    encoder, run = save_encoder(tmp_path / "encoder", kind), tmp_path / "run"
    code, text, err = langid(corpus, "--arch", f"hf:{encoder}", "--out", run, *QUICK)
    assert code == 0, err
    assert "network    hf:encoder weights of the Hugging Face Hub" in text
    history = (run / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history[1:]] == ["head", "all", "refreeze"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["run"]["arch"] == "hf:encoder"
    assert str(tmp_path) not in (run / "model" / "model.json").read_text()
    shutil.rmtree(encoder)  # the model folder is complete
    code, text, err = langid("predict", run, recording, "--json", command=cli.main)
    assert code == 0, err
    assert {answer["label"] for answer in json.loads(text)["answers"]} == {"de", "es"}


def test_a_run_is_resumed_and_tested_again(langid, corpus, tmp_path):
    """Cached features; the same command resumes; `evaluate` finds what was tested before."""
    encoder, run = save_encoder(tmp_path / "encoder"), tmp_path / "run"
    command = (corpus, "--arch", f"hf:{encoder}", "--out", run, *QUICK, "--cache-frozen")
    assert langid(*command)[0] == 0
    before = json.loads((run / "metrics.json").read_text())["test"]
    weights = (run / "model" / "model.safetensors").read_bytes()
    for again in (command, ("evaluate", run, "--jobs", 1)):
        code, _, err = langid(
            *again, command=cli.main if again[0] == "evaluate" else cli.train_main
        )
        assert code == 0, err
        assert json.loads((run / "metrics.json").read_text())["test"] == before
        assert (run / "model" / "model.safetensors").read_bytes() == weights
    other = save_encoder(tmp_path / "other", "wav2vec2")
    code, _, err = langid(corpus, "--arch", f"hf:{other}", "--out", run, *QUICK, "--cache-frozen")
    assert code == 1
    assert "belongs to another run (arch was" in err


def test_a_trained_body_for_other_languages(langid, corpus, tmp_path):
    encoder, run = save_encoder(tmp_path / "encoder"), tmp_path / "run"
    command = (corpus, "--arch", f"hf:{encoder}", *QUICK)
    assert langid(*command, "--out", run)[0] == 0
    code, _, err = langid(
        *command, "--weights", f"hf:{run}", "--out", tmp_path / "more", "--allow-leaks"
    )
    assert code == 0, err
    assert read_info(tmp_path / "more").training["weights"] == f"hf:{run}"


def test_answers_are_those_of_the_test(langid, corpus, recording, tmp_path):
    """Prediction prepares sound as training does, but for the rounding of stored clips."""
    encoder, run = save_encoder(tmp_path / "encoder", "whisper"), tmp_path / "run"
    assert langid(corpus, "--arch", f"hf:{encoder}", "--out", run, *QUICK)[0] == 0
    rows = pd.read_csv(run / "predictions.csv").set_index("path")
    identifier = LanguageIdentifier.load(run)
    for path, row in rows.iterrows():
        scores = {a["label"]: a["score"] for a in identifier(corpus / path)}
        np.testing.assert_allclose(scores["de"], row["p_de"], atol=0.02)


def test_a_run_keeps_its_commit(hub, langid, corpus, tmp_path):
    """A run that is resumed after the branch has moved still uses the first commit."""
    repo = hub.add("you/hubert", save_encoder(tmp_path / "encoder"))
    began_with, run = repo.sha, tmp_path / "run"
    command = (corpus, "--arch", "hf:you/hubert", "--out", run, *QUICK)
    assert langid(*command)[0] == 0
    repo.files["README.md"] = b"moved"
    assert repo.sha != began_with
    (run / "model" / "model.json").unlink()
    code, _, err = langid(*command)
    assert code == 0, err
    assert read_info(run).encoder.revision == began_with
    assert read_info(run).arch == "hf:you/hubert"
