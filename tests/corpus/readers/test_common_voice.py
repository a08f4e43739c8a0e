"""The Common Voice reader, on small releases."""

import pytest
from planted import column
from releases import common_voice

from langid_fastai.corpus.readers.recognise import read_corpus

LEFT = "only in validated.tsv, and its speaker is in dev.tsv or test.tsv"


def test_speakers_splits_and_locales(tmp_path):
    corpus = read_corpus(common_voice(tmp_path))
    assert corpus.layout == "Common Voice"
    assert column(corpus, "language") == {
        **{f"{c}/clips/{c}_{n}.mp3": c for c in ("de", "sv-SE") for n in ("train", "dev", "test")},
        **{f"{c}/clips/{c}_new.mp3": c for c in ("de", "sv-SE")},
        "eo/clips/eo_1.mp3": "eo",  # listed without its suffix
    }
    rows = corpus.index.set_index("path")
    split = {"train": "train", "dev": "valid", "test": "test", "new": ""}
    for name, wanted in split.items():
        row = rows.loc[f"de/clips/de_{name}.mp3"]
        assert (row["speaker"], row["group"], row["split"]) == (f"de-{name}", f"de-{name}", wanted)
    assert rows.loc["de/clips/de_train.mp3", ["gender", "age"]].to_list() == ["m", "twenties"]
    assert rows.loc["de/clips/de_dev.mp3", "gender"] == "f"


def test_what_is_left_out_has_a_reason(tmp_path):
    left_out = read_corpus(common_voice(tmp_path)).left_out
    assert left_out["de/clips/de_2.mp3"] == LEFT  # no speaker is in training and in the test
    assert left_out["de/clips/de_bad.mp3"] == "not in the tables of the corpus"
    assert left_out["eo/validated.tsv, line 3"] == "its audio file is missing"
    assert left_out["de/validated.tsv"] == "read as a table of the corpus"


@pytest.mark.parametrize("language", ["de", "eo"])
def test_a_single_release(tmp_path, language):
    corpus = read_corpus(common_voice(tmp_path) / language, one_language=True)
    assert corpus.layout == "Common Voice"
    assert set(corpus.index["language"]) == {language}


def test_converted_clips(tmp_path):
    root = common_voice(tmp_path)
    for clip in root.glob("*/clips/*.mp3"):
        clip.rename(clip.with_suffix(".wav"))
    assert set(read_corpus(root).index["path"].str[-4:]) == {".wav"}
    assert len(read_corpus(root).index) == 9
