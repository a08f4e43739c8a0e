"""Shared by the tests of readers: folders of empty files, and the result of a reader."""

import pytest

from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError

SPEAKER = "(?P<speaker>[^/_]+)_[^/]+$"


@pytest.fixture
def plant(tmp_path):
    """Return a function that creates empty files below a folder, and returns the folder."""

    def plant(*paths):
        for path in paths:
            file = tmp_path / "corpus" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "corpus"

    return plant


def column(corpus: Corpus, name: str) -> dict[str, str]:
    return dict(zip(corpus.index["path"], corpus.index[name], strict=True))


def refusal(source: object, **options: object) -> str:
    """Return the error of `read_corpus`."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(source, **options)
    return str(caught.value)
