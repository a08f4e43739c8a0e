"""Byte-identical files are found, and little is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai.corpus import duplicates
from langid_fastai.corpus.duplicates import HEAD_BYTES, digest_copies

# Four kinds of contents: short, equal size, equal beginning, identical.
contents = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"])), max_size=8
)


@given(contents)
def test_equal_digests_are_equal_bytes(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("files")
    files = [folder / str(i) for i in range(len(pairs))]
    for file, (beginning, end) in zip(files, pairs, strict=True):
        file.write_bytes(beginning.encode() * HEAD_BYTES + end.encode())
    bytes_of = [file.read_bytes() for file in files]
    digests = digest_copies(files)
    for content, digest in zip(bytes_of, digests, strict=True):
        has_copy = bytes_of.count(content) > 1 and content != b""
        assert has_copy <= (digest != "")
        if digest:
            assert [d == digest for d in digests] == [other == content for other in bytes_of]


def test_files_with_different_beginnings_are_not_read_further(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{i}.wav" for i in range(20)]
    for file in files:
        file.write_bytes(rng.bytes(10 * HEAD_BYTES))
    monkeypatch.setattr(duplicates, "BLOCK_BYTES", "no number")  # to read a block would raise
    assert digest_copies(files) == [""] * 20
    with pytest.raises(TypeError):
        digest_copies([files[0], files[0]])


def test_no_files():
    assert digest_copies([]) == []
