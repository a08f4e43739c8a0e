"""Recordings written by FFmpeg, as other programs write them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
AMR = "libopencore_amrnb"  # PyAV 19 no longer has an encoder, although it decodes AMR
BIT_RATES = {"wmav2": 64_000, AMR: 12_200}  # these encoders have no own


class Pipe:
    """A stream that cannot seek, as for a browser's recorder: the header has no length."""

    def __init__(self, file):
        self.file = file

    def write(self, content):
        with self.file.open("ab") as stream:
            return stream.write(content)


def glide(sr, seconds=3.0):
    """A tone that rises from 200 to 1800 Hz, so that its autocorrelation has a single peak."""
    t = np.arange(round(sr * seconds)) / sr
    return (0.4 * np.sin(2 * np.pi * (200 * t + 800 * t**2 / seconds))).astype(np.float32)


def encode(file, y, sr, muxer, codec, *, has_video=False, options=None):
    """Write a waveform, (n_samples,) or (n_channels, n_samples), with FFmpeg; return `file`."""
    if codec != AMR:
        return encode_anew(file, y, sr, muxer, codec, has_video=has_video, options=options)
    np.testing.assert_array_equal(y, glide(8_000))  # what is there
    content = (GOLDEN / f"glide.{muxer}").read_bytes()
    file.write(content) if isinstance(file, Pipe) else file.write_bytes(content)
    return file


def encode_anew(file, y, sr, muxer, codec, *, has_video=False, options=None):
    """Write a waveform with an encoder, which PyAV must have."""
    y = np.stack([y, y]) if codec == "vorbis" else np.atleast_2d(y)  # vorbis: stereo only
    layout = {1: "mono", 2: "stereo"}[len(y)]
    with av.open(file, "w", format=muxer, options=options or {}) as container:
        # All streams before the first packet. "vorbis" counts as experimental, hence "strict".
        stream = container.add_stream(codec, rate=sr, layout=layout, options={"strict": "-2"})
        if codec in BIT_RATES:
            stream.bit_rate = BIT_RATES[codec]
        if has_video:
            add_video(container, "libvpx" if muxer == "webm" else "mpeg4")
        stream.codec_context.open(strict=False)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = sr, Fraction(1, sr), 0
        cut = av.AudioResampler(stream.format, layout, sr, stream.codec_context.frame_size or 1024)
        for piece in [*cut.resample(frame), *cut.resample(None), None]:
            container.mux(stream.encode(piece))
    return file


def add_video(container, codec):
    """Encode three seconds of grey."""
    stream = container.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for i in range(75):
        image = np.full((48, 64, 3), i, dtype=np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode(None))
