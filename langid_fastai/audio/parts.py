"""Find the start and end of each recording in a file, even if a header contains a wrong size.

Some servers and archives concatenate files, and decoders stop at the end of the first one.
Interrupted recorders leave a data size that is 0 or too small, and decoders stop there too. This
module reads only headers, signatures and frame headers; the decoders read the parts that it finds.

A part starts with the signature of its format. It is expected at the end of the previous part in
formats with a size (wav, rf64, aiff, au, w64, caf, sph, mp4), and searched for in the others (flac,
ogg, amr, wma). For mp3, see `langid_fastai.audio.mpeg`. Matroska, webm, aac and ac3 need no parts,
since FFmpeg reads the whole file.

Sources: RIFF (Microsoft, 1991), EBU Tech 3306 (RF64), Apple's specifications of AIFF-C and CAF,
Sony's of Wave64, RFC 3533 (Ogg), RFC 9639 (FLAC), ISO 14496-12 (mp4).
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from langid_fastai.audio.mpeg import id3_size, mpeg_runs

__all__ = ["Part", "Section", "find_parts"]

# Fewer bytes after the stated end are padding or a tag, not sound: an eighth of a second or less.
TAIL = 1024
# Data sizes of at least this, in fields of 4 and 8 bytes, mean "unknown", as written to a pipe.
UNKNOWN = {4: 0x7FFF_0000, 8: 1 << 62}

ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# The first page of an Ogg stream: version 0, flag 2, position 0.
OGG = b"OggS\x00\x02" + bytes(8)
# Formats whose next part is found by a search for their signature.
FLAC = b"fLaC"
WINDOW = 1 << 20  # bytes searched at once, ten times as fast as searching a memory map
SEARCHED = (FLAC, OGG, b"#!AMR", ASF)
FOR_FFMPEG = (b"#!AMR", ASF)
EBML = b"\x1aE\xdf\xa3"  # Matroska and webm (RFC 8794, 11.2.1)
SIGNATURE = re.compile(
    rb"RI(?:FF|FX)....WAVE|(?:RF|BW)64....WAVE|FORM....AIF[FC]|\.snd\x00|caff\x00\x01|NIST_1A\n"
    rb"|....ftyp|fLaC[\x00\x80]\x00\x00\x22|#!AMR|ID3[\x02-\x04]|"
    + b"|".join(map(re.escape, (W64, OGG, ASF))),
    re.DOTALL,
)


NOT_ZERO = re.compile(rb"[^\0]")


@dataclass(frozen=True)
class Chunks:
    """Layout of the chunks in a format: an identifier, a size and the content."""

    first: int  # offset of the first chunk
    n_id: int  # bytes of an identifier
    size: str  # of the field, for `struct`
    data: bytes  # identifier of the chunk with the samples
    before: int = 0  # bytes in that chunk before the samples
    own: int = 0  # bytes of identifier and size, where the size includes them
    align: int = 2


CHUNKS = {
    b"RIFF": Chunks(12, 4, "<I", b"data"),
    b"RIFX": Chunks(12, 4, ">I", b"data"),
    b"RF64": Chunks(12, 4, "<I", b"data"),
    b"BW64": Chunks(12, 4, "<I", b"data"),
    b"FORM": Chunks(12, 4, ">I", b"SSND", before=8),
    b"caff": Chunks(8, 4, ">Q", b"data", before=4, align=1),
    W64: Chunks(
        40, 16, "<Q", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a", own=24, align=8
    ),
}


@dataclass(frozen=True)
class Part:
    """One recording in a file.

    Parameters
    ----------
    start, end : position in the file, bytes
    head : bytes to prepend: a header with the correct size, or the first frame of an mp3 with the
        correct number of frames
    samples : position of the samples, bytes, if the header has no usable size; they end at `end`
    promised : ratio of the size stated in the header to the actual size
    for_ffmpeg : whether to use FFmpeg without trying libsndfile, which accepts any content in files
        with some suffixes (mp3, au, snd)
    is_flac : whether the format is FLAC: its decoder stops at the length in the header, so any
        remaining bytes must be reported
    """

    start: int
    end: int
    head: bytes = b""
    samples: int | None = None
    promised: float = 1.0
    for_ffmpeg: bool = False
    is_flac: bool = False


class Section(io.RawIOBase):
    """A read-only file object for part of a file, optionally with other bytes prepended.

    Parameters
    ----------
    stream : seekable stream of the whole file
    start, end : start and end of the part, bytes
    head : bytes to prepend
    """

    def __init__(self, stream: BinaryIO, start: int, end: int, head: bytes = b"") -> None:
        self._stream, self._start, self._head = stream, start - len(head), head
        self._size = end - self._start
        self._at = 0

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: the file supports random access."""
        return True

    def tell(self) -> int:
        """Return the position, bytes from the start of the part."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position, and return it, bytes from the start of the part."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise OSError(22, "Invalid argument")
        self._at = at
        return at

    def readinto(self, buffer: object) -> int:
        """Read bytes into a buffer, and return their number."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # Buffer is in typing from 3.12
        if self._at < len(self._head):
            content = self._head[self._at : self._at + len(view)]
        else:
            self._stream.seek(self._start + self._at)
            content = self._stream.read(max(0, min(len(view), self._size - self._at)))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


def find_parts(stream: BinaryIO) -> list[Part]:
    """Find the recordings in a file.

    Parameters
    ----------
    stream : a regular file, opened in binary mode

    Returns
    -------
    parts : in order; a single part, the whole file, if its format is not recognised

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     _ = file.write(2 * (b"RIFF\\x2a\\0\\0\\0WAVEdata\\x08\\0\\0\\0" + bytes(8)))
    ...     [(part.start, part.end) for part in find_parts(file)]
    [(0, 28), (28, 56)]
    """
    size = stream.seek(0, io.SEEK_END)
    if size == 0:
        return [Part(0, 0)]
    parts: list[Part] = []
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (start := parts[-1].end if parts else 0) < size:
            parts += _parts_at(content, start)
            if parts[-1].end <= start:  # a damaged header
                parts[-1] = Part(start, size)
    return parts


def _parts_at(content: mmap.mmap, start: int) -> list[Part]:
    """Return the part that starts at `start`; for mp3, all parts up to the end of the file."""
    head = content[start : start + 16]
    for signature, chunks in CHUNKS.items():
        if head.startswith(signature):
            return [_in_chunks(content, start, chunks)]
    if head.startswith(b".snd"):
        offset, stated = struct.unpack(">II", head[4:12].ljust(8, b"\0"))
        return [_ended(content, start, start + offset, stated, 4)]
    if head.startswith(b"NIST_1A"):
        return [_sphere(content, start)]
    if head[4:8] == b"ftyp":
        return [Part(start, _end_of_boxes(content, start), for_ffmpeg=True)]
    audio = start + id3_size(content[start : start + 10])
    for signature in SEARCHED:
        if content[audio : audio + len(signature)] == signature:
            end = _next(content, audio, signature)
            is_flac = signature == FLAC
            return [Part(start, end, for_ffmpeg=signature in FOR_FFMPEG, is_flac=is_flac)]
    if head.startswith(EBML) or _is_adts(head):
        return [Part(start, len(content), for_ffmpeg=True)]
    runs = mpeg_runs(content, start)
    return [Part(run.start, run.end, run.head) for run in runs] or [Part(start, len(content))]


def _is_adts(head: bytes) -> bool:
    """Return whether a header is of aac in ADTS: 12 ones and layer 0, unlike mp3 (ISO 13818-7)."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _in_chunks(content: mmap.mmap, start: int, form: Chunks) -> Part:
    """Return the part that starts at `start`, in a format that consists of chunks."""
    n, at, long_size = struct.calcsize(form.size), start + form.first, None
    while at + form.n_id + n <= len(content):
        name = content[at : at + form.n_id]
        [stated] = struct.unpack_from(form.size, content, at + form.n_id)
        inside = at + form.n_id + n
        size = form.size
        if name == b"ds64" and inside + 16 <= len(content):
            [long_size] = struct.unpack_from("<Q", content, inside + 8)
        if name == form.data:
            if long_size is not None and stated == 0xFFFF_FFFF:
                stated, n, size = long_size, 8, "<Q"
            samples = inside + form.before
            if stated >= UNKNOWN[8]:  # libsndfile refuses some of these, so state what is there
                known = struct.pack(size, len(content) - samples + form.before + form.own)
                head = content[start:samples].replace(struct.pack(size, stated), known)
                return Part(samples, len(content), head)
            return _ended(content, start, samples, stated - form.own - form.before, n, form)
        at = inside + _padded(max(0, stated - form.own), form)
    return Part(start, len(content))


def _ended(
    content: mmap.mmap, start: int, samples: int, stated: int, n: int, form: Chunks | None = None
) -> Part:
    """Find the end of a part whose header states the size of its samples, right or wrong."""
    present = max(0, len(content) - samples)
    if stated >= min(present, UNKNOWN[n]):
        is_truncated = present < stated < UNKNOWN[n]
        return Part(start, len(content), promised=stated / max(1, present) if is_truncated else 1.0)
    ends = {samples + max(0, stated)}  # some writers do not pad
    if form and stated > 0:
        ends = {
            _end_of_chunks(content, at, form) for at in (*ends, samples + _padded(stated, form))
        }
    end = max(ends)
    end += id3_size(content[end : end + 10])
    if SIGNATURE.match(content[end : end + 16]):
        return Part(start, end)
    if end >= len(content) - TAIL or (stated > 0 and not NOT_ZERO.search(content, end)):
        return Part(start, len(content))
    return Part(start, len(content), samples=samples)


def _end_of_chunks(content: mmap.mmap, at: int, form: Chunks) -> int:
    """Return the end of the chunks after the samples; `at` if no chunk is there."""
    n = struct.calcsize(form.size)
    while at + form.n_id + n <= len(content):
        [stated] = struct.unpack_from(form.size, content, at + form.n_id)
        end = at + form.n_id + n + _padded(max(0, stated - form.own), form)
        is_chunk = content[at : at + 4].isascii() and content[at : at + 4].decode().isprintable()
        if SIGNATURE.match(content[at : at + 16]) or not is_chunk or end > len(content) + 1:
            break
        at = end
    return min(at, len(content))


def _padded(size: int, form: Chunks) -> int:
    return -(-size // form.align) * form.align


def _sphere(content: mmap.mmap, start: int) -> Part:
    """Return a NIST SPHERE part, which libsndfile reads to its end, regardless of its header."""
    header = content[start : start + 1024]
    counts = {
        name: int(value)
        for name, value in re.findall(
            rb"(sample_count|channel_count|sample_n_bytes) -i (\d{1,18})\b", header
        )
    }
    if len(counts) < 3:
        return Part(start, len(content))
    stated = counts[b"sample_count"] * counts[b"channel_count"] * counts[b"sample_n_bytes"]
    first = header[8:16].strip()
    part = _ended(content, start, start + (int(first) if first.isdigit() else 1024), stated, 8)
    return Part(start, part.end, promised=part.promised)


def _end_of_boxes(content: mmap.mmap, start: int) -> int:
    """Return the end of an mp4: the next box ``ftyp``, or the end of the file."""
    at = start
    while at + 16 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        if name == b"ftyp" and at > start:
            return at
        if size == 1:
            [size] = struct.unpack_from(">Q", content, at + 8)
        if size < 8:  # 0: to the end of the file
            break
        at += size
    return len(content)


def _next(content: mmap.mmap, start: int, signature: bytes) -> int:
    """Return the start of the next part, or the end of the file."""
    at = start + 1
    while (
        signature == OGG and content[at - 1 : at - 1 + len(OGG)] == OGG and at + 26 < len(content)
    ):
        # Streams that are multiplexed begin with one such page each.
        n_segments = content[at + 25]
        at += 27 + n_segments + sum(content[at + 26 : at + 26 + n_segments])
    while at < len(content):
        window = content[at : at + WINDOW]
        found = window.find(signature)
        if found < 0:
            at += max(1, len(window) - len(signature) + 1)
        elif SIGNATURE.match(content[at + found : at + found + 16]):
            return at + found
        else:
            at += found + 1
    return len(content)
