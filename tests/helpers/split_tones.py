"""The corpus of tones, measured and split."""

import pytest

from langid_fastai.corpus.measure import measure_audio
from langid_fastai.corpus.readers.recognise import read_corpus
from langid_fastai.corpus.split import split_corpus


@pytest.fixture(scope="module")
def split(corpus):
    return split_corpus(measure_audio(read_corpus(corpus)), valid=0.25, test=0.25, seed=0)
