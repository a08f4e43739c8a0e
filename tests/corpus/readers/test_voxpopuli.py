"""The VoxPopuli reader, on a small release."""

import pytest
from releases import voxpopuli

from langid_fastai.corpus.readers.recognise import read_corpus


@pytest.mark.parametrize("moved", [False, True])
def test_languages_speakers_and_splits(tmp_path, moved):
    root = voxpopuli(tmp_path)
    if moved:  # other folders, as on the Hub
        for file in (root / "transcribed_data").glob("*/2009/*.ogg"):
            (file.parents[1] / "audio").mkdir(exist_ok=True)
            file.rename(file.parents[1] / "audio" / f"{file.stem}.wav")
    corpus = read_corpus(root)
    assert corpus.layout == "VoxPopuli"
    rows = corpus.index.sort_values(["language", "split"])
    assert rows[["language", "speaker", "split", "gender"]].to_numpy().tolist() == [
        [code, speaker, split, "f"]
        for code in ("de", "hr")
        for speaker, split in ((f"test{code}", "test"), (f"train{code}", "train"), ("", "valid"))
    ]
