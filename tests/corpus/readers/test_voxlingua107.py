"""The VoxLingua107 reader, on names as in the set."""

import planted
import pytest
from planted import SPEAKER, column, refusal

from langid_fastai.corpus.readers.recognise import read_corpus

plant = planted.plant

VIDEO = "-7hqy7xahkM__U__S{segment}---0752.680-0761.950.flac"  # a name as in VoxLingua107


def test_voxlingua107(plant):
    corpus = read_corpus(
        plant(
            *(
                f"{language}/{VIDEO.format(segment=i)}"
                for language in ("de", "es")
                for i in range(2)
            ),
            "de/aB_c-9__U__S1---0001.000-0004.250.wav",
        )
    )
    assert corpus.layout == "VoxLingua107 (language/video)"
    # A video in two languages is one group: it may have one speaker.
    assert dict(corpus.index["group"].value_counts()) == {"-7hqy7xahkM": 4, "aB_c-9": 1}
    assert sorted(corpus.index["language"]) == ["de", "de", "de", "es", "es"]
    assert (corpus.index["speaker"] == "").all()  # a segment label is not a speaker
    assert (corpus.index["split"] == "").all()
    assert corpus.notes == ("the video is the group; speakers are unknown",)


def test_voxlingua107_maps_withdrawn_codes(plant):
    corpus = read_corpus(
        plant(*(f"{code}/{VIDEO.format(segment=1)}" for code in ("iw", "jw", "he", "yi")))
    )
    assert sorted(corpus.index["language"]) == ["he", "he", "jv", "yi"]
    assert "language code iw read as he" in corpus.notes
    assert "language code jw read as jv" in corpus.notes


@pytest.mark.parametrize(
    ("folder", "split"),
    [("dev", "test"), ("train", "train"), ("valid", "valid"), ("val", "valid"), ("test", "test")],
)
def test_voxlingua107_dev_is_the_test_split(plant, folder, split):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"{folder}/de/{name}", f"{folder}/es/{name}", f"fr/{name}"))
    assert dict(zip(corpus.index["language"], corpus.index["split"], strict=True)) == {
        "de": split,
        "es": split,
        "fr": "",
    }


def test_voxlingua107_leaves_out_other_names(plant):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"de/{name}", f"es/{name}", "de/other.flac", f"{name}", "notes.txt"))
    assert len(corpus.index) == 2
    other = "the name does not have the VoxLingua107 form"
    assert f"2 files left out: {other} ({name}, de/other.flac)" in corpus.notes
    assert set(corpus.left_out) == {"de/other.flac", name, "notes.txt"}


def test_voxlingua107_one_level_too_deep(plant):
    message = refusal(plant(*(VIDEO.format(segment=i) for i in range(3))))
    assert "3 files of VoxLingua107" in message
    assert "pass the folder that contains one folder per language" in message


def test_layout_needs_a_majority_of_names(plant):
    name = VIDEO.format(segment=1)
    corpus = read_corpus(plant(f"de/{name}", "es/1.flac"))  # half is not a majority
    assert corpus.layout == "a folder per language"
    assert column(corpus, "language") == {f"de/{name}": "de", "es/1.flac": "es"}


def test_speaker_option_with_a_known_layout_is_refused(plant):
    name = VIDEO.format(segment=1)
    message = refusal(plant(f"de/{name}", f"es/{name}"), speaker=SPEAKER)
    assert "--speaker is for a folder per language" in message
    assert "VoxLingua107" in message
