"""Raw samples from a pipe, whatever the size of its pieces."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from langid_fastai.audio.raw_pcm import resampled, stream_pcm

SR = 16_000


class Pipe(io.BytesIO):
    """A stream that returns fewer bytes than requested, like a pipe."""

    def __init__(self, content, sizes):
        super().__init__(content)
        self.sizes = iter(sizes)

    def read(self, size=-1):
        return super().read(min(size, next(self.sizes, size)))


@given(
    samples=st.lists(st.integers(-32_768, 32_767), max_size=200),
    sizes=st.lists(st.integers(1, 50), max_size=50),
)
def test_samples_are_not_split(samples, sizes):
    content = np.array(samples, dtype="<i2").tobytes()
    blocks = list(stream_pcm(Pipe(content, sizes), sr=SR))
    y = np.concatenate([np.empty(0, dtype=np.float32), *blocks])
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y * 32_768, samples)


def test_half_a_sample_at_the_end_is_dropped():
    assert [y.tolist() for y in stream_pcm(io.BytesIO(b"\0\x40\0"), sr=SR)] == [[0.5]]
    assert list(stream_pcm(io.BytesIO(b"\0"), sr=SR)) == []


def test_blocks_are_a_quarter_of_a_second():
    blocks = list(stream_pcm(io.BytesIO(bytes(2 * SR)), sr=SR))
    assert [len(y) for y in blocks] == [SR // 4] * 4


@given(size=st.integers(100, 9000))
def test_resampling_does_not_depend_on_the_blocks(size):
    y = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    whole = np.concatenate(list(resampled([y], 8000, 22_050)))
    blocks = [y[i : i + size] for i in range(0, len(y), size)]
    np.testing.assert_allclose(np.concatenate(list(resampled(blocks, 8000, 22_050))), whole)
    assert len(whole) == 22_050
