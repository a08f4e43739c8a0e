"""Every file of a folder, and every row of a table, is a recording or is counted with a reason."""

import os
import re

import pytest
import releases

from langid_fastai.corpus.readers.recognise import read_corpus

TEXT = {"notes.txt": "x", "cover.jpg": "", "no_suffix": "", "de/list.pdf": ""}
HIDDEN = {".DS_Store": "", "de/.a.wav": "", ".git/config": "", "__MACOSX/de/._a.wav": ""}
AWKWARD = {"de/a\nb.wav": "", "loose.wav": "", "x/y/z/.hidden/a.wav": ""}
ODD = TEXT | HIDDEN | AWKWARD


def folders(root):
    """Return a folder per language, with splits, speakers and loose files."""
    names = [f"{s}/{x}/{s}{n}/1.wav" for s in ("train", "test") for x in ("de", "es") for n in "12"]
    return releases.write(root, dict.fromkeys([*names, "train/loose.wav"], ""))


def by_index(root):
    """Return a folder whose index lists some of its files, and has unusable rows."""
    lines = ["path,language,speaker", "de/1.wav,de,a", "de/2.wav,es,b", "./de/2.wav,es,b", ",,", ""]
    return releases.write(root, {"index.csv": "\n".join(lines), "de/1.wav": "", "de/2.wav": ""})


def kaggle(root):
    names = [f"train/{x}_f_{x[0] * 32}.fragment{n}.flac" for x in ("de", "es") for n in range(4)]
    return releases.write(root, dict.fromkeys(names, ""))


def voxlingua107(root):
    names = [f"{x}/v{n}__U__S1---0001.000-0004.250.wav" for x in ("de", "es") for n in range(4)]
    return releases.write(root, dict.fromkeys(names, ""))


def librispeech(root):
    names = [f"dev-clean/84/1/84-1-000{n}.flac" for n in range(4)]
    table = {"SPEAKERS.TXT": "84   | F | dev-clean        |  8.02 | Christie Nowak\n"}
    return releases.write(root, dict.fromkeys(names, "") | table)


CORPORA = [folders, by_index, kaggle, voxlingua107, librispeech]
CORPORA += [releases.common_voice, releases.fleurs, releases.voxpopuli, releases.common_language]
CORPORA += [releases.mls, releases.voxforge, releases.audiofolder, releases.kaldi]


def files_below(root):
    """Return all files, with names as they are reported."""
    found = [
        f"{os.path.relpath(folder, root)}/{name}".replace(os.sep, "/").removeprefix("./")
        for folder, _, names in os.walk(root)
        for name in names
    ]
    assert len(found) == len(set(found))
    return {name if name.isprintable() else ascii(name) for name in found}


@pytest.mark.parametrize("make", CORPORA, ids=lambda make: make.__name__)
def test_files_are_recordings_or_reported(make, tmp_path):
    root = releases.write(make(tmp_path / "corpus"), ODD)
    (root / "de" / os.fsdecode(b"latin-\xfc.wav")).touch()
    (root / "again").symlink_to(root / "de")  # the same files under another name
    corpus = read_corpus(root, one_language=True)
    files, rows = files_below(root), {n for n in corpus.left_out if ", line " in n}
    recordings, reported = set(corpus.index["path"]), set(corpus.left_out) - rows
    assert len(recordings) == len(corpus.index) > 1
    assert recordings | reported == files
    assert not recordings & reported
    assert all(corpus.left_out.values())


@pytest.mark.parametrize("make", CORPORA, ids=lambda make: make.__name__)
def test_the_notes_count_what_is_left_out(make, tmp_path):
    corpus = read_corpus(releases.write(make(tmp_path / "corpus"), ODD), one_language=True)
    counts = [re.match(r"(\d+) (?:file|row)s? left out: ", note) for note in corpus.notes]
    n_tables = sum(reason == "read as a table of the corpus" for reason in corpus.left_out.values())
    assert sum(int(m[1]) for m in counts if m) + n_tables == len(corpus.left_out)


def test_rows_are_recordings_or_reported(tmp_path):
    root = by_index(tmp_path / "index")
    corpus = read_corpus(root / "index.csv")
    n_rows = len((root / "index.csv").read_text().splitlines()) - 1
    assert len(corpus.index) + len(corpus.left_out) == n_rows == 4
    root = releases.common_voice(tmp_path / "common_voice")
    corpus = read_corpus(root)
    listed = {
        row.split("\t")[1]
        for table in root.glob("*/[!i]*.tsv")
        for row in table.read_text().splitlines()[1:]
    }
    found = {path.rpartition("/")[2] for path in [*corpus.index["path"], *corpus.left_out]}
    assert {name for name in listed if name not in found} == {"eo_1", "gone.mp3"}
    assert "eo/validated.tsv, line 3" in corpus.left_out  # gone.mp3; eo_1 is eo_1.mp3
