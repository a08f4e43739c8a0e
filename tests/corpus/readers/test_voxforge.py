"""The VoxForge reader, on a small corpus."""

from planted import refusal
from releases import voxforge

from langid_fastai.corpus.readers.recognise import read_corpus


def test_languages_speakers_and_genders(tmp_path):
    corpus = read_corpus(voxforge(tmp_path))
    assert corpus.layout == "VoxForge"
    rows = corpus.index.set_index("path")
    anna = rows.loc["de/anna-20090101-abc/wav/de1-001.wav"]
    assert anna[["language", "speaker", "group", "gender"]].to_list() == ["de", "anna", "anna", "f"]
    anonymous = rows.loc["ru/anonymous-20080425-jkl/wav/ru1-001.wav"]
    assert anonymous[["speaker", "group"]].to_list() == ["", "anonymous-20080425-jkl"]
    assert set(corpus.index["split"]) == {""}


def test_submissions_without_language_folders(tmp_path):
    assert "outside any language folder" in refusal(voxforge(tmp_path) / "de")
