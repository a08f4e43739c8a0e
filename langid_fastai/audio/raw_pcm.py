"""Read raw PCM audio without a header, as piped from recorders and converters.

Raw audio is read as 16-bit signed little-endian mono samples, as written by::

    ffmpeg -i SOURCE -f s16le -ac 1 -ar 22050 -
    arecord -t raw -f S16_LE -c 1 -r 22050

Contents: `stream_pcm` reads raw PCM as float32 blocks; `resampled` resamples blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import soxr

__all__ = ["resampled", "stream_pcm"]

SAMPLE_BYTES = 2
# Full scale of a 16-bit sample, scaled to 1.0.
FULL_SCALE = 32_768
# Duration of a block, and so the latency, s.
BLOCK_SECONDS = 0.25


def stream_pcm(stream: BinaryIO, *, sr: int) -> Iterator[np.ndarray]:
    """Read raw 16-bit mono samples until the stream ends.

    Parameters
    ----------
    stream : stream in binary mode, e.g. ``sys.stdin.buffer`` or the output of a process; it may
        return fewer bytes than requested
    sr : sampling rate, Hz

    Yields
    ------
    y : float32, (n_samples,), in [-1, 1), at most a quarter of a second; an odd byte at the end is
        dropped

    Examples
    --------
    >>> import io
    >>> [y.tolist() for y in stream_pcm(io.BytesIO(b"\\x00\\x40\\x00\\x80\\x01"), sr=16_000)]
    [[0.5, -1.0]]
    """
    n_bytes = max(1, int(BLOCK_SECONDS * sr)) * SAMPLE_BYTES
    odd = b""
    while data := stream.read(n_bytes):
        data = odd + data
        whole = len(data) - len(data) % SAMPLE_BYTES
        data, odd = data[:whole], data[whole:]
        if data:
            yield np.frombuffer(data, dtype="<i2").astype(np.float32) / FULL_SCALE


def resampled(blocks: Iterable[np.ndarray], sr_in: int, sr: int) -> Iterator[np.ndarray]:
    """Resample consecutive blocks with soxr, at its quality "HQ".

    Parameters
    ----------
    blocks : float32, each (n_samples,)
    sr_in, sr : input and output sampling rate, Hz

    Yields
    ------
    y : float32, (n_samples,); joined, they do not depend on the lengths of the input blocks
    """
    if sr_in == sr:
        yield from blocks
        return
    stream = soxr.ResampleStream(sr_in, sr, num_channels=1, dtype="float32", quality="HQ")
    for y in blocks:
        yield stream.resample_chunk(y)
    yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
