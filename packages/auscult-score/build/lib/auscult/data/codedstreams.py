"""How much sound a FLAC, OGG or MP3 file holds, and how much it claims, told by its first and last blocks without decoding.

libsndfile passes a cut OGG as a shorter one, believes the length in a FLAC's header whatever follows, and reads none of a
FLAC that states no length, as recorders write that never stop.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from auscult.data.containers import FEW, cut_short

_TAIL = 2**20
"""Bytes at the end of a file in which its last block is looked for."""


@dataclass(frozen=True)
class Stream:
    """Frames that are there and frames claimed, None = not known; and a right header in place of the file's first bytes."""

    frames: int | None
    claimed: int | None
    header: bytes = b""


def find_stream(stream: io.FileIO, size: int) -> Stream | None:
    """What a FLAC, OGG or MP3 file of `size` bytes holds; None for any other.

    Raises:
        ValueError: cut short: fewer samples or bytes than claimed, or a last block that is not whole.
    """
    start = _after_id3(stream)
    stream.seek(start)
    head = stream.read(4096)
    if head[:4] == b"fLaC":
        return _flac(stream, size, start, head)
    if head[:4] == b"OggS":
        return _ogg(stream, size)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mp3(size, start, head)
    return None


def _after_id3(stream: io.FileIO) -> int:
    stream.seek(0)
    head = stream.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    length = 0
    for byte in head[6:10]:
        length = length << 7 | byte & 0x7F
    return 10 + length


def _tail(stream: io.FileIO, size: int, length: int = _TAIL) -> bytes:
    stream.seek(max(0, size - length))
    tail = stream.read(length)
    stream.seek(max(0, size - 128))
    return tail[:-128] if stream.read(3) == b"TAG" else tail  # an ID3v1 tag follows the sound


# ------------------------------------------------------------------------------------------------------------------- FLAC
_FIXED_BLOCKS = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{c: 256 << (c - 8) for c in range(8, 16)},
}


def _flac(stream: io.FileIO, size: int, start: int, head: bytes) -> Stream | None:
    if len(head) < 42 or head[4] & 0x7F:
        return None
    info = int.from_bytes(head[18:26], "big")
    claimed = info & (1 << 36) - 1
    block, largest = int.from_bytes(head[10:12], "big"), int.from_bytes(head[15:18], "big")
    tail = _tail(stream, size, max(2**17, 4 * largest))
    there, whole = _flac_end(tail, block)
    if there is None:
        return Stream(None, claimed or None)  # no block at all, or one too long to be found: decoding will tell
    if claimed and there < claimed:
        raise cut_short(there, claimed, "samples")
    if not whole and not claimed:
        raise ValueError(
            f"cut short: its last block is not whole, {there} samples before it, and its header knows no length"
        )
    if not whole or there == claimed:
        return Stream(there, claimed or None)
    fixed = head[:18] + (info - claimed + there).to_bytes(8, "big") + bytes(16)  # and no checksum of the samples
    stream.seek(0)
    return Stream(there, claimed or None, stream.read(start) + fixed)


def _flac_end(tail: bytes, block: int) -> tuple[int | None, bool]:
    """Samples up to the end of the last block in `tail`, and whether it is whole."""
    at, last = len(tail), None
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if (found := _flac_frame(tail, at, block)) is None:
            continue
        first, samples = found
        if _crc(tail[at:], 16, 0x8005) == 0:
            return first + samples, True
        # A block whose own end is not at the file's: only what lies before it is whole.
        last = first if last is None else last
    return last, False


def _flac_frame(tail: bytes, at: int, block: int) -> tuple[int, int] | None:
    """(first sample, samples) of the FLAC frame that begins at `at`, if its header is one and its checksum right."""
    head = tail[at : at + 16]
    if len(head) < 7 or head[1] & 0xFC != 0xF8 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
        return None
    extra = 0
    while head[4] << extra & 0x80:
        extra += 1
    extra = max(0, extra - 1)
    number = head[4] & (0x7F >> (extra + 1 if extra else 0))
    for byte in head[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    code, end = head[2] >> 4, 5 + extra
    samples = _FIXED_BLOCKS.get(code, 0)
    if code in (6, 7):
        samples = int.from_bytes(head[end : end + code - 5], "big") + 1
        end += code - 5
    end += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if end >= len(head) or _crc(head[: end + 1], 8, 0x07):
        return None
    return (number if head[1] & 1 else number * block), samples


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Cyclic redundancy check, most significant bit first, from 0: of data with its own check value it is 0."""
    table = _table(bits, polynomial)
    value, mask, shift = 0, (1 << bits) - 1, bits - 8
    for byte in data:
        value = (value << 8 & mask) ^ table[(value >> shift) ^ byte]
    return value


_TABLES: dict[tuple[int, int], list[int]] = {}


def _table(bits: int, polynomial: int) -> list[int]:
    if (bits, polynomial) not in _TABLES:
        table, top, mask = [], 1 << (bits - 1), (1 << bits) - 1
        for byte in range(256):
            value = byte << (bits - 8)
            for _ in range(8):
                value = (value << 1 ^ (polynomial if value & top else 0)) & mask
            table.append(value)
        _TABLES[bits, polynomial] = table
    return _TABLES[bits, polynomial]


# ------------------------------------------------------------------------------------------------------------ OGG and MP3
def _ogg(stream: io.FileIO, size: int) -> Stream:
    """Every OGG stream says which of its pages is the last."""
    tail = _tail(stream, size, 2**17)
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        page = tail[at : at + 27]
        table = tail[at + 27 : at + 27 + page[26]] if len(page) == 27 else b""
        end = at + 27 + len(table) + sum(table)
        if len(page) < 27 or len(table) < page[26] or end > len(tail):
            raise ValueError(
                f"cut short: its last page is not whole, {max(1, end - len(tail))} bytes of it are missing"
            )
        if page[5] & 4:
            return Stream(None, None)
        position = int.from_bytes(page[6:14], "little", signed=True)
        raise ValueError(f"cut short: it ends after sample {position} without the page that closes it")
    raise ValueError(f"cut short: {size} bytes without the page that closes it")


def _mp3(size: int, start: int, head: bytes) -> Stream:
    """An MP3 mostly holds in its first block how many bytes and blocks follow."""
    for name in (b"Xing", b"Info"):
        at = head.find(name, 4, 4 + 32 + 16)
        if at < 0:
            continue
        flags = int.from_bytes(head[at + 4 : at + 8], "big")
        place = at + 8 + (4 if flags & 1 else 0)
        promised = int.from_bytes(head[place : place + 4], "big") if flags & 2 else 0
        there = size - start
        if there < promised - FEW - 128:  # a tag at the end may have been counted, and taken away
            raise cut_short(there, promised)
    return Stream(None, None)
