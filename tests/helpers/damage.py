"""Damaged recordings, as from a broken disk, a bad cable or an attacker."""

import io
import struct

import numpy as np
import soundfile as sf
from encoding import encode_anew

SR = 8_000
WHOLE = (  # suffix, subtype; or with FFmpeg's muxer and the rate
    ("wav", "PCM_16"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
    ("ogg", "VORBIS"),
    ("ogg", "OPUS"),
    ("mp3", "MPEG_LAYER_III"),
    ("aiff", "PCM_16"),
    ("au", "PCM_16"),
    ("m4a", "aac", "ipod", SR),
    ("aac", "aac", "adts", SR),
    ("webm", "libopus", "webm", 48_000),
    ("mkv", "flac", "matroska", SR),
    ("wma", "wmav2", "asf", 44_100),
)
RATES = (0, 1, 999, 10**9, 2**32 - 1)
CHANNELS = (0, 255, 1_000, 65_535)
LENGTHS = (0, 2**31 - 1, 2**32 - 1)


def whole(rng, suffix, subtype, muxer=None, sr=SR):
    """A recording of two seconds, as bytes."""
    y = (0.3 * rng.standard_normal((2 * sr, rng.integers(1, 3)))).clip(-1, 1)
    stream = io.BytesIO()
    if muxer:
        encode_anew(stream, y.T.astype(np.float32), sr, muxer, subtype)
    else:
        sf.write(stream, y, sr, format=suffix.upper(), subtype=subtype)
    return stream.getvalue()


def damaged(rng):
    """Return suffix and bytes of a recording that was valid before."""
    kind = WHOLE[rng.integers(len(WHOLE))]
    way = WAYS[rng.integers(len(WAYS))]
    return kind[0], bytes(way(bytearray(whole(rng, *kind)), rng))


def flipped(data, rng):
    """Change up to 64 bytes anywhere."""
    for at in rng.integers(len(data), size=rng.integers(1, 65)):
        data[at] = rng.integers(256)
    return data


def flipped_head(data, rng):
    """Change up to 8 of the first 64 bytes, where most formats have their header."""
    for at in rng.integers(min(64, len(data)), size=rng.integers(1, 9)):
        data[at] = rng.integers(256)
    return data


def cut(data, rng):
    """Cut off the end."""
    return data[: rng.integers(len(data))]


def holed(data, rng):
    """Remove or duplicate a piece."""
    start, end = sorted(rng.integers(len(data), size=2))
    return data[:start] + data[end:] if rng.random() < 0.5 else data[:end] + data[start:]


def joined(data, rng):
    """Join two halves of different formats."""
    other = whole(rng, *WHOLE[rng.integers(len(WHOLE))])
    return data[: len(data) // 2] + other[len(other) // 2 :]


def promised(data, rng):
    """Make a WAV header with an impossible rate, number of channels or length."""
    rate = int(rng.choice([SR, *RATES]))
    channels = int(rng.choice([1, *CHANNELS]))
    length = int(rng.choice([len(data), *LENGTHS]))
    form = struct.pack(
        "<IHHIIHH", 16, 1, channels, rate, rate * channels * 2 % 2**32, channels * 2 % 2**16, 16
    )
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + form + b"data" + struct.pack("<I", length) + data


def no_numbers(data, rng):
    """Make floating-point samples that are NaN, infinite or huge."""
    y = (0.3 * rng.standard_normal(2 * SR)).astype(np.float32)
    y[rng.integers(len(y), size=9)] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
    stream = io.BytesIO()
    sf.write(stream, y, SR, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def silence(data, rng):
    """Make a very long recording in few bytes."""
    stream = io.BytesIO()
    sf.write(stream, np.zeros(SR * 600, dtype=np.int16), SR, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def rubbish(data, rng):
    """Return bytes that are not a recording."""
    return rng.bytes(rng.integers(0, 4096))


WAYS = (
    *(flipped, flipped, flipped_head, flipped_head, cut, holed, joined),
    *(promised, no_numbers, silence, rubbish),
)
