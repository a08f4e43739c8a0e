"""What the tests of readers share: folders of empty files, and what a reader makes of them."""

import pytest

from langid_fastai.corpus.index import Corpus
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.errors import CorpusError

SPEAKER = "(?P<speaker>[^/_]+)_[^/]+$"


@pytest.fixture
def plant(tmp_path):
    """A function that makes empty files below one folder, and returns the folder."""

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
    """What `read_corpus` says no with."""
    with pytest.raises(CorpusError) as caught:
        read_corpus(source, **options)
    return str(caught.value)
