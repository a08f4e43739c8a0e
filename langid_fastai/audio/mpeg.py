"""Find the runs of frames in an MPEG audio stream (mp3, mp2), without decoding them.

libsndfile reads the duration of an mp3 from the Xing frame at its beginning, or estimates it from
the bit rate of the first frame. If the file was concatenated, cut or streamed, both are wrong, and
libsndfile stops too early. Unless the Xing frame states the actual size of the file, this module
reads all frame headers, which takes a few percent of the decoding time.

Sources: ISO 11172-3 and 13818-3 (frames); G. Bouvigne, "MP3 Info Tag revision 1 specification" (the
frame with the length, marked ``Xing`` or ``Info``); id3.org (ID3v2).
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Run", "id3_size", "mpeg_runs"]

# kbit/s by the index in a header: MPEG-1, layers I, II and III; MPEG-2 and 2.5, I, and II or III.
RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SRS = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; half of it in MPEG-2, a quarter in MPEG-2.5
# Bits of version, layer and sampling rate, which are equal in all frames of a stream.
SAME = 0xFFFE_0C00
LAYER_3 = 3
MARKS, VBRI = (b"Xing", b"Info"), b"VBRI"
ID3V1 = 128  # bytes of a tag at the end
# Number of consecutive frame headers that are no coincidence.
SURE = 3
# Maximum number of other bytes before the first frame.
NEAR = 1 << 14
# Where frames or a tag may begin.
BEGINNING = re.compile(rb"\xff[\xe0-\xff]|ID3")
# mpg123, the decoder in libsndfile, skips damage of fewer bytes, but not tags.
RESYNC, TAGS = 1024, (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")


class Frame(NamedTuple):
    """Contents of an MPEG frame header; lengths are in bytes, the bit rate is in kbit/s."""

    length: int
    layer: int
    kind: int  # bits that are equal in all frames of a stream, and whether it is mono
    rate: int
    side: int  # bytes of side information


@dataclass(frozen=True)
class Run:
    """Consecutive frames of one kind, as a decoder should read them.

    Parameters
    ----------
    start, end : position in the file, bytes
    head : frame to prepend, which states the number of frames
    """

    start: int
    end: int
    head: bytes = b""


def mpeg_runs(content: mmap.mmap, start: int) -> list[Run]:
    """Find the runs of consecutive frames after `start`; none if no MPEG audio begins there.

    A run ends before a tag or other bytes, before a frame that states a new length, and where the
    sampling rate or the number of channels changes.
    """
    runs: list[Run] = []
    at = _next_frame(content, start, longest=NEAR)
    while at is not None:
        counted = _count(content, at)
        following = _next_frame(content, counted.end)
        if following is None:
            counted = counted._replace(end=len(content))
        runs.append(_run(content, at, counted))
        at = following
    is_plain = len(runs) == 1 and not runs[0].head
    return [Run(start, len(content))] if is_plain else runs  # decoders find its beginning


def id3_size(head: bytes) -> int:
    """Return the length of an ID3v2 tag, bytes, given its first ten bytes; 0 if it is not a tag."""
    if len(head) < 10 or not head.startswith(b"ID3") or max(head[6:10]) > 127:
        return 0
    size = sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:10]))
    return 10 + size + (10 if head[5] & 0x10 else 0)


class Counted(NamedTuple):
    """Summary of the consecutive frames of one kind that start at a given position."""

    first: Frame
    end: int  # bytes
    n: int
    stated: int | None  # number in the first frame; None if that contains audio
    is_constant: bool  # whether the bit rate is constant


def _count(content: mmap.mmap, start: int) -> Counted:
    """Read the headers of frames of one kind, up to other bytes or a frame that states a length."""
    first = _frame(content[start : start + 4])
    if first is None:
        raise ValueError(f"no frame at byte {start}")
    stated = _stated(content, start, first)
    if stated and _is_as_stated(content, start, first, stated):
        return Counted(first, len(content), stated, stated, is_constant=True)
    at = start if stated is None else start + first.length
    n, rates = 0, set()
    while at < len(content):
        frame = _frame(content[at : at + 4])
        if frame is None:
            again = _resumed(content, at, first)
            if again is None:
                break
            at = again
            continue
        if frame.kind != first.kind or (n and _stated(content, at, frame) is not None):
            break
        n, at = n + 1, at + frame.length
        rates.add(frame.rate)
    return Counted(first, min(at, len(content)), n, stated, len(rates) == 1)


def _resumed(content: mmap.mmap, at: int, first: Frame) -> int | None:
    """Return the position of the next frame after damage short enough to be skipped, or None."""
    if content[at : at + 8].startswith(TAGS):
        return None
    while (at := content.find(b"\xff", at + 1, at + RESYNC)) >= 0:
        frame = _frame(content[at : at + 4])
        if frame and frame.kind == first.kind and _is_sure(content, at):
            return at
    return None


def _run(content: mmap.mmap, start: int, counted: Counted) -> Run:
    """Make a run; prepend the number of frames if a decoder would use a wrong one."""
    first, n, stated = counted.first, counted.n, counted.stated
    is_truncated = stated is not None and stated > n and counted.end == len(content)
    is_right = stated in (n, n + 1) or is_truncated
    if is_right or (stated is None and (counted.is_constant or first.layer != LAYER_3)):
        return Run(start, counted.end)
    header = content[start : start + 4]
    if stated is None:
        return Run(start, counted.end, _new_head(header, first, n))
    head = content[start : start + first.length]
    mark = 4 + first.side
    if head[mark + 7] & 1 and head[mark : mark + 4] in MARKS:
        head = head[: mark + 8] + n.to_bytes(4, "big") + head[mark + 12 :]
    else:
        head = _new_head(header, first, n)
    return Run(start + first.length, counted.end, head)


@lru_cache(maxsize=4096)
def _frame(header: bytes) -> Frame | None:
    """Read a frame header of four bytes."""
    bits = int.from_bytes(header, "big")
    version, layer = bits >> 19 & 3, 4 - (bits >> 17 & 3)
    rate, sr = bits >> 12 & 15, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer == 4:
        return None
    if not 0 < rate < 15 or sr == 3:
        return None
    is_first = version == 3
    kbits = RATES[(1, layer) if is_first else (2, min(layer, 2))][rate - 1]
    hz = SRS[sr] // (1, 2, 4)[(3, 2, 0).index(version)]
    padding = bits >> 9 & 1
    if layer == 1:
        length = 4 * (12_000 * kbits // hz + padding)
    else:
        samples = 576 if layer == LAYER_3 and not is_first else 1152
        length = samples // 8 * 1000 * kbits // hz + padding
    is_mono = bits >> 6 & 3 == 3
    side = ((17 if is_mono else 32) if is_first else (9 if is_mono else 17)) if layer == 3 else 0
    return Frame(length, layer, bits & SAME | is_mono, kbits, side)


def _stated(content: mmap.mmap, at: int, frame: Frame) -> int | None:
    """Return the number of frames that a Xing frame states, 0 if unknown; None for other frames."""
    if frame.layer != LAYER_3:
        return None
    mark = at + 4 + frame.side
    if content[mark : mark + 4] in MARKS:
        return int.from_bytes(content[mark + 8 : mark + 12], "big") * (content[mark + 7] & 1)
    if content[at + 36 : at + 40] == VBRI:
        return int.from_bytes(content[at + 50 : at + 54], "big")
    return None


def _is_as_stated(content: mmap.mmap, at: int, first: Frame, stated: int) -> bool:
    """Return whether the bit rate is constant, and the size and number of frames are as stated."""
    mark = at + 4 + first.side
    if content[mark : mark + 4] != b"Info" or content[mark + 7] & 3 != 3:
        return False
    size = int.from_bytes(content[mark + 12 : mark + 16], "big")
    n_padded = size - (stated + 1) * first.length  # a frame may have one byte more than others
    is_consistent = -first.length <= n_padded <= stated + first.length
    return is_consistent and len(content) - at - size in (0, ID3V1)


def _new_head(header: bytes, first: Frame, n: int) -> bytes:
    """Make a Xing frame that states `n` frames, as encoders do."""
    bits = int.from_bytes(header, "big") | 1 << 16  # no checksum
    bits = bits & ~(15 << 12) | 14 << 12  # the highest bit rate, for a frame that is long enough
    start = bits.to_bytes(4, "big")
    frame = _frame(start) or first
    mark = MARKS[0] + (1).to_bytes(4, "big") + n.to_bytes(4, "big")
    return (start + bytes(first.side) + mark).ljust(frame.length, b"\0")


def _next_frame(content: mmap.mmap, at: int, longest: int | None = None) -> int | None:
    """Return the position of the next frame, after tags and at most `longest` other bytes."""
    at += id3_size(content[at : at + 10])
    last = len(content) if longest is None else at + longest
    while 0 <= at < min(last, len(content)):
        if _is_sure(content, at):
            return at
        tag = id3_size(content[at : at + 10])
        found = None if tag else BEGINNING.search(content, at + 1)
        if not tag and not found:
            break
        at = found.start() if found else at + tag
    return None


def _is_sure(content: mmap.mmap, at: int) -> bool:
    """Return whether `SURE` frames of one kind follow, or fewer up to the end of the file."""
    kinds = set()
    for _ in range(SURE):
        frame = _frame(content[at : at + 4])
        if frame is None:
            return False
        kinds.add(frame.kind)
        at += frame.length
        if at >= len(content):
            break
    return len(kinds) == 1
