"""The LibriSpeech reader, on a corpus with its layout."""

import shutil

import pytest
from typer.testing import CliRunner

from langid_fastai.cli import group
from langid_fastai.corpus.make.mix import mix_corpus, read_voices
from langid_fastai.corpus.make.settings import MixConfig
from langid_fastai.corpus.readers.librispeech import LIBRISPEECH_NAME, read_speakers
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError

SPEAKERS = """\
;
; Some pipe(|) separated metadata about all participating speakers
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
26   | M | train-clean-100  | 25.08 | Denny Sayers
84   | F | dev-clean        |  8.02 | Christie Nowak
61   | M | test-clean       |  8.08 | Paul-Gabriel Wiener
"""


@pytest.fixture
def librispeech(tmp_path, write_audio, tone):
    """Two training speakers, one in each other split, two chapters of two utterances each."""
    root = tmp_path / "data" / "LibriSpeech"
    subsets = {"19": "train-clean-100", "26": "train-clean-100", "84": "dev-clean"}
    for speaker, subset in (subsets | {"61": "test-clean"}).items():
        for chapter in ("198", "227"):
            for n in range(2):
                name = f"{speaker}-{chapter}-{n:04}.flac"
                file = root / subset / speaker / chapter / name
                write_audio(file, tone(100 + int(speaker), 16_000, 1.0), 16_000)
            words = file.with_name(f"{speaker}-{chapter}.trans.txt")
            words.write_text(f"{file.stem} CHAPTER ONE\n")
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    return root


@pytest.mark.parametrize("above", [False, True])
def test_speaker_gender_chapter_and_split(librispeech, above):
    corpus = read_corpus(librispeech.parent if above else librispeech, one_language=True)
    assert corpus.layout == "LibriSpeech (speaker/chapter/utterance)"
    assert len(corpus.index) == 16
    rows = corpus.index.drop_duplicates("speaker").set_index("speaker")
    assert rows["gender"].to_dict() == {"19": "f", "26": "m", "84": "f", "61": "m"}
    assert rows["split"].to_dict() == {"19": "train", "26": "train", "84": "valid", "61": "test"}
    assert (corpus.index["group"] == corpus.index["speaker"]).all()
    assert set(corpus.index["chapter"]) == {"198", "227"}
    assert set(corpus.index["language"]) == {"en"}
    assert (corpus.root / corpus.index["path"].iloc[0]).exists()


@pytest.mark.parametrize("above", [False, True])
def test_single_subset_is_not_a_split_and_finds_the_table_next_to_it(librispeech, above):
    for other in ("train-clean-100", "test-clean"):
        shutil.rmtree(librispeech / other)
    corpus = read_corpus(librispeech if above else librispeech / "dev-clean", one_language=True)
    assert set(corpus.index["split"]) == {""}
    assert set(corpus.index["gender"]) == {"f"}
    assert any(
        "all subsets are valid subsets: the corpus has no split" in note for note in corpus.notes
    )


def test_mixtures_of_one_subset(librispeech, tmp_path, write_audio, tone):
    """The smallest download is enough: its speakers are split here."""
    for number in range(100, 112):
        path = f"{number}/198/{number}-198-0000.flac"
        write_audio(librispeech / "dev-clean" / path, tone(number, 16_000, 1.5), 16_000)
    config = MixConfig(n=30, speakers=2, seconds=1.0, valid=0.3, test=0.3)
    voices = read_voices(librispeech / "dev-clean", valid=0.3, test=0.3)
    mixed = mix_corpus(voices, tmp_path / "mix", config, n_jobs=1)
    assert len(mixed.index) == 30


def test_without_the_table_gender_is_unknown_with_a_note(librispeech):
    (librispeech / "SPEAKERS.TXT").unlink()
    corpus = read_corpus(librispeech, one_language=True)
    assert set(corpus.index["gender"]) == {""}
    assert any("no SPEAKERS.TXT" in note for note in corpus.notes)


def test_speakers_that_the_table_lacks_are_named(librispeech):
    file = librispeech / "SPEAKERS.TXT"
    file.write_text("\n".join(line for line in SPEAKERS.splitlines() if "Denny" not in line))
    notes = read_corpus(librispeech, one_language=True).notes
    assert any("does not list the speakers 26" in note for note in notes)


def test_other_files_are_left_out_and_counted(librispeech, write_audio, tone):
    write_audio(librispeech / "intro.wav", tone(440, 16_000), 16_000)
    corpus = read_corpus(librispeech, one_language=True)
    assert len(corpus.index) == 16
    assert any("1 file left out: the name is not" in note for note in corpus.notes)


@pytest.mark.parametrize("line", ["84 ; F ; dev-clean", "x84 | F | dev-clean", "84 | Q | dev"])
def test_invalid_table_is_refused(tmp_path, line):
    file = tmp_path / "SPEAKERS.TXT"
    file.write_text(f"; comment\n\n{line}\n")
    with pytest.raises(CorpusError, match=r"SPEAKERS\.TXT: line 3 must begin"):
        read_speakers(file)


def test_cannot_train_language_identification(librispeech):
    with pytest.raises(CorpusError, match=r"contains one language \('en'\)"):
        read_corpus(librispeech)


@pytest.mark.parametrize("name", ["84-121123-0000.flac", "6930-75918-0012.wav"])
def test_names(name):
    assert LIBRISPEECH_NAME.match(name)


@pytest.mark.parametrize(
    "name", ["84_121550_000007_000000.wav", "84-121123.trans.txt", "a-1-0.wav"]
)
def test_other_names(name):
    assert not LIBRISPEECH_NAME.match(name)


def test_mixtures_of_it_through_the_command_line(librispeech, tmp_path):
    """Two speakers per split are too few here: the error says what to do."""
    argv = ["corpus", "mix", str(librispeech), "--out", str(tmp_path / "mix"), "--speakers", "2"]
    result = CliRunner().invoke(group.app, argv)
    assert isinstance(result.exception, CorpusError)
    assert "1 known speaker for valid, but mixtures of 2 speakers need" in str(result.exception)
