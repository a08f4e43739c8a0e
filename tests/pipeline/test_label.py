"""A run with another column as its class: all texts use the name of that column."""

import json
import re

import pytest
import yaml

import langid_fastai as lf
from langid_fastai.pipeline.run_folder import Run

MEL = {"sr": 8000, "clip_seconds": 1.0, "n_fft": 256, "hop_length": 128, "n_mels": 32}


@pytest.fixture(scope="module")
def trained_by_gender(tmp_path_factory, write_audio, tone):
    """Low and high tones in two languages: a run by gender, and the lines that it printed."""
    root = tmp_path_factory.mktemp("made") / "voices"
    rows = ["path,language,speaker,gender"]
    for n in range(16):
        gender, language = "fm"[n % 2], ("de", "es")[n // 8]
        write_audio(root / f"{n}.wav", tone(900 + n if n % 2 else 300 + n, 8000, 1.0), 8000)
        rows.append(f"{n}.wav,{language},s{n},{gender if n else ''}")
    (root / "index.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = []
    result = lf.train(
        root,
        label="gender",
        out=root.parent / "run",
        arch="spectrogram_cnn-w4-d2",
        weights="none",
        epochs=(1, 1, 1),
        settings=lf.TrainSettings(device="cpu", precision="fp32"),
        mel=MEL,
        n_jobs=1,
        tell=lines.append,
    )
    return result, lines


def test_the_model_names_the_values_of_the_column(trained_by_gender):
    result, lines = trained_by_gender
    assert result.metrics["test"]["confusion"]["labels"] == ["f", "m"]
    assert result.metrics["corpus"]["label"] == "gender"
    assert any(line.startswith("found      2 genders, 15 recordings") for line in lines)
    assert "           1 file left out: no gender (0.wav)" in lines
    run = Run(result.folder)
    assert run.read()["corpus"]["label"] == "gender"
    assert run.corpus().label == "gender"


def test_report_and_card_use_the_name_of_the_column(trained_by_gender):
    folder = trained_by_gender[0].folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>Gender of speech: f, m</h1>" in page
    assert "Which genders are confused" in page
    assert "rows are the true gender, columns the predicted gender" in page
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "identifies its gender, one of 2: f, m" in card
    facts = yaml.safe_load(card.split("---\n")[1])
    assert facts["language"] == []  # f and m are no language codes here
    assert facts["tags"][0] == "gender-of-speech"
    body = card.split("---\n", 2)[2]
    for text in (page.partition("How it was made")[0], body.partition("## How it was made")[0]):
        words = re.sub("<[^>]*>", "", text).replace("speech in 4 languages", "")  # of our tests
        assert "language" not in words, words[words.find("language") - 80 :][:160]


def test_the_label_is_part_of_the_run(trained_by_gender, tmp_path):
    result, _ = trained_by_gender
    remembered = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
    corpus = lf.CorpusSettings(remembered["corpus"]["source"])
    with pytest.raises(lf.LangidError, match="label was 'gender', now 'language'"):
        lf.train(corpus, out=result.folder, arch="spectrogram_cnn-w4-d2", weights="none", mel=MEL)
