"""One clip has the same answer in Python, at the command line, by ONNX and on the page."""

import json

import numpy as np
import pytest

from langid_fastai import cli
from langid_fastai.app.result import identify_file
from langid_fastai.inference.onnx_export import export_onnx
from langid_fastai.models.folder import write_model
from langid_fastai.models.model_info import ModelInfo
from langid_fastai.models.names import mel_config_for
from langid_fastai.models.networks import build_network
from langid_fastai.prediction import LanguageIdentifier

BOUND = 1e-3  # of scores


@pytest.mark.slow
def test_a_model_of_speech_embedding_answers_the_same_everywhere(
    langid, tmp_path, write_audio, rng
):
    import torch

    torch.manual_seed(0)
    arch, vocab = "speech_embedding", ("ca", "de", "es")
    model = tmp_path / "model"
    state = build_network(arch, len(vocab), weights="none").state_dict()
    write_model(model, state, ModelInfo(arch, vocab, mel_config_for(arch)))
    y = 0.1 * rng.standard_normal(8 * 16_000) * np.linspace(0.1, 1.0, 8 * 16_000)
    clip = write_audio(tmp_path / "clip.flac", y, 16_000)

    answers = {"python": LanguageIdentifier.load(model)(clip)}
    export_onnx(model)
    by_onnx = LanguageIdentifier.load(model)
    assert by_onnx.engine.name == "onnx"
    answers["onnx"] = by_onnx(clip)
    [many] = by_onnx.predict_many([clip], jobs=1, device="cpu")
    answers["many"] = many.answers
    code, out, err = langid("predict", model, clip, "--json", command=cli.main)
    assert (code, err) == (0, "")
    answers["command line"] = json.loads(out)["answers"]
    answers["page"] = identify_file(by_onnx, clip).answers

    expected = answers["python"]
    for way, found in answers.items():
        assert [a["label"] for a in found] == [a["label"] for a in expected], way
        ours, theirs = [[a["score"] for a in x] for x in (found, expected)]
        np.testing.assert_allclose(ours, theirs, atol=BOUND, rtol=0, err_msg=way)
