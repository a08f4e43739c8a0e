"""Write greyscale images as PNG files, quickly and atomically.

Pillow takes three times as long (a fifth of the export time), since it tries every filter on every
row. Here, all rows use the same filter, and only runs are compressed. Images of speech become
larger by less than a tenth.

References: *Portable Network Graphics*, 3rd edition, W3C Recommendation, 2025; chapters 5 (chunks)
and 9 (filters).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from langid_fastai.errors import AudioError
from langid_fastai.utils.files import write_whole

__all__ = ["write_png", "encode_png"]

AVERAGE = 3  # the filter that subtracts from each pixel the mean of those to the left and above


def write_png(image: np.ndarray, path: str | Path) -> None:
    """Write a greyscale image to a PNG file atomically.

    Parameters
    ----------
    image : uint8, (height, width)
    path : path of the file
    """
    write_whole(encode_png(image), Path(path))


def encode_png(image: np.ndarray) -> bytes:
    """Encode a greyscale image as the bytes of a PNG file.

    Parameters
    ----------
    image : uint8, (height, width)

    Returns
    -------
    png : content of the file, with 8 bits per pixel, not interlaced

    Raises
    ------
    AudioError : `image` is not uint8, or not two-dimensional

    Examples
    --------
    >>> encode_png(np.zeros((128, 431), dtype=np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise AudioError(
            f"an image of shape {image.shape} and {image.dtype} must be (height, width) and uint8, "
            "as `db_to_image` makes it"
        )
    height, width = image.shape
    padded = np.zeros((1 + height, 1 + width), dtype=np.uint16)
    padded[1:, 1:] = image
    mean = (padded[1:, :-1] + padded[:-1, 1:]) // 2
    rows = np.full((height, 1 + width), AVERAGE, dtype=np.uint8)  # column 0: filter
    rows[:, 1:] = image - mean.astype(np.uint8)  # modulo 256, as the standard requires
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)),
            _chunk(b"IDAT", deflate.compress(rows.tobytes()) + deflate.flush()),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk: length, type, content and checksum."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
