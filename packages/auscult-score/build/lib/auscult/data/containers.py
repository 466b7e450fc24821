"""How much sound a file holds, and how much its header claims: one walk over the chunks of each container.

Headers are wrong in both directions. A program that writes to a pipe, or is stopped, leaves a placeholder where the length
belongs; 32 bits wrap at 4 GiB; a copy that broke off claims more than there is. libsndfile shortens the last without a word
and believes most of the others, so the bytes are counted here, and where the header is wrong libsndfile gets a right one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

FEW = 64
"""Bytes that may be missing: a header counted with the sound, a pad byte that was never written."""
_PLACEHOLDERS = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
"""Lengths written before the length is known: SoX (AIFF, WAV), many, arecord, ffmpeg; CAF, W64 and RF64 in 64 bits."""
_MOST_CHUNKS = 10_000
_TRAILING = {b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"iXML", b"axml", b"fact", b"PEAK", b"afsp", b"DISP"}
"""Chunks that may follow the sound, and may themselves be cut."""
Order = Literal["little", "big"]


@dataclass(frozen=True)
class Sound:
    """Where the sound of a file lies.

    Attributes:
        start, length: bytes of sound that are there.
        claimed: bytes by the header; None = it does not know.
        frame: bytes of one sample of all channels, or of one block of a codec.
        linear: whether every sample takes the same room, so that `length // frame` samples are there.
        header: a right header to put in place of the first `start` bytes.
        whole: bytes of the file by the header, where it has fewer though its sound is there; 0 = right.
    """

    start: int
    length: int
    claimed: int | None
    frame: int
    linear: bool
    header: bytes
    whole: int = 0

    @property
    def faithful(self) -> bool:
        """Whether the header is right."""
        return self.claimed == self.length


class Rewrapped(io.RawIOBase):
    """A file that shows `header` and then `length` bytes of `stream` from `start` on."""

    def __init__(self, stream: io.FileIO, header: bytes, start: int, length: int) -> None:
        super().__init__()
        self._stream, self._header, self._start = stream, header, start
        self._size, self._at = len(header) + length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._size - self._at))
        if self._at < len(self._header):
            part = self._header[self._at : self._at + wanted]
        else:
            self._stream.seek(self._start + self._at - len(self._header))
            part = self._stream.read(wanted)
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def find_sound(stream: io.FileIO, size: int) -> Sound | None:
    """The sound in a WAV (RIFF, RIFX, RF64, W64), AIFF, AU, CAF or FLAC file of `size` bytes; None for any other.

    Raises:
        ValueError: cut short: the header claims more bytes than there are, by more than `FEW`.
    """
    head = _at(stream, 0, 40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and (head[8:12] == b"WAVE" or size < 12):
        return _wave(stream, size, head)
    if head[:16] == _W64 + _W64_TAIL:
        return _w64(stream, size)
    if head[:4] == b"FORM" and (head[8:12] in (b"AIFF", b"AIFC") or size < 12):
        return _aiff(stream, size, head)
    if head[:4] in (b".snd", b"dns."):
        return _au(stream, size, head)
    if head[:4] == b"caff":
        return _caf(stream, size)
    return None


def cut_short(there: int, promised: int, unit: str = "bytes") -> ValueError:
    return ValueError(f"cut short: {there} of {promised} {unit}")


# ---------------------------------------------------------------------------------------------------------------- lengths
def _is_placeholder(claimed: int, frame: int) -> bool:
    """Whether a length was written before it was known, perhaps rounded down to whole frames or less a header."""
    return claimed == 0 or any(0 <= value - claimed < FEW + frame for value in _PLACEHOLDERS)


def _length(stream: io.FileIO, size: int, start: int, claimed: int, frame: int, wraps: bool = False) -> int:
    """Bytes of sound from `start` on: the claim where it fits, to the file's end where it cannot be right.

    Args:
        wraps: the claim is of 32 bits, and the sound of files over 4 GiB is claimed modulo 2^32.
    """
    rest = size - start
    if wraps and rest > 2**32 and claimed < 2**32:
        claimed += (rest + FEW - claimed) // 2**32 * 2**32
    if claimed > rest:
        if claimed - rest > max(FEW, frame - 1) and not _is_placeholder(claimed, frame):
            raise cut_short(size, start + claimed)
        return rest
    if rest - claimed <= FEW or _is_no_sound(stream, start + claimed, size):
        return claimed
    return rest


def _is_no_sound(stream: io.FileIO, at: int, size: int) -> bool:
    """Whether what follows the claimed sound is chunks, a tag, or nothing but zeros, and not more sound."""
    first = _at(stream, at, 4096)
    if first[:4] in _TRAILING or first[1:5] in _TRAILING or first[:3] in (b"TAG", b"ID3") or not any(first):
        return True
    return any(_walks(stream, at + pad, size) for pad in (0, 1))


def _walks(stream: io.FileIO, at: int, size: int) -> bool:
    """Whether whole chunks with printable names lead from `at` to the end of the file."""
    for _ in range(_MOST_CHUNKS):
        if size - at < 8:
            return True
        head = _at(stream, at, 8)
        lengths = {int.from_bytes(head[4:], "little"), int.from_bytes(head[4:], "big")}
        fitting = [length for length in lengths if length <= size - at - 8]
        if not all(0x20 <= letter < 0x7F for letter in head[:4]) or not fitting:
            return False
        length = min(fitting)
        at += 8 + length + length % 2
    return False


def _without_sound(size: int, promised: int) -> None:
    """Refuse a file that ends before its sound begins, where the length of the whole can be believed."""
    if size < 12 or (size < promised and not _is_placeholder(promised - 8, 1)):
        raise cut_short(size, max(promised, 12))


def _at(stream: io.FileIO, place: int, count: int) -> bytes:
    stream.seek(place)
    return stream.read(count)


def _chunks(
    stream: io.FileIO, at: int, size: int, order: Order, width: int = 4, align: int = 2
) -> Iterator[tuple[bytes, int, int]]:
    """(name, start of the content, claimed length) of each chunk; the caller stops at the one with the sound."""
    for _ in range(_MOST_CHUNKS):
        head = _at(stream, at, 4 + width)
        if len(head) < 4 + width:
            return
        length = int.from_bytes(head[4:], order)
        yield head[:4], at + 4 + width, length
        at += 4 + width + length + -length % align
        if at > size:
            return


# ------------------------------------------------------------------------------------------------------------------- WAVE
_LINEAR_WAVE = {1, 3, 6, 7}  # PCM, float, A-law, mu-law
_EXTENSIBLE = 0xFFFE


def _wave(stream: io.FileIO, size: int, head: bytes) -> Sound | None:
    order: Order = "big" if head[:4] == b"RIFX" else "little"
    form, long_length = b"", None
    for name, at, length in _chunks(stream, 12, size, order):
        if name == b"ds64":
            long_length = int.from_bytes(_at(stream, at + 8, 8), order)
        elif name == b"fmt " and not form:
            form = _at(stream, at, min(length, 4096))
        elif name == b"data":
            if head[:4] in (b"RF64", b"BW64") and length == 0xFFFFFFFF and long_length is not None:
                length = long_length
            found = _wave_sound(stream, size, at, length, form, order, wraps=long_length is None)
            promised = int.from_bytes(head[4:8], order) + 8
            if found and found.faithful and size < promised and not _is_placeholder(promised - 8, 1):
                return replace(found, whole=promised)
            return found
    _without_sound(size, int.from_bytes(head[4:8], order) + 8)
    return None


def _wave_sound(
    stream: io.FileIO, size: int, at: int, claimed: int, form: bytes, order: Order, wraps: bool
) -> Sound | None:
    if len(form) < 16:
        return None
    frame = max(1, int.from_bytes(form[12:14], order))
    kind = int.from_bytes(form[:2], order)
    if kind == _EXTENSIBLE and len(form) >= 26:
        kind = int.from_bytes(form[24:26], order)
    length = _length(stream, size, at, claimed, frame, wraps)
    known = None if _is_placeholder(claimed, frame) and length else claimed
    return Sound(at, length, known, frame, kind in _LINEAR_WAVE, _wave_header(form, length, order))


def _wave_header(form: bytes, length: int, order: Order) -> bytes:
    chunk = b"fmt " + len(form).to_bytes(4, order) + form + bytes(len(form) % 2)
    if len(chunk) + length + 12 < 0xFFFFFFFF:
        riff = b"RIFF" if order == "little" else b"RIFX"
        total = (4 + len(chunk) + 8 + length).to_bytes(4, order)
        return riff + total + b"WAVE" + chunk + b"data" + length.to_bytes(4, order)
    lengths = (4 + 36 + len(chunk) + 8 + length).to_bytes(8, "little") + length.to_bytes(8, "little") + bytes(12)
    unknown = b"\xff\xff\xff\xff"
    return b"RF64" + unknown + b"WAVEds64" + len(lengths).to_bytes(4, "little") + lengths + chunk + b"data" + unknown


_W64 = b"riff\x2e\x91\xcf\x11"
_W64_TAIL = b"\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


def _w64(stream: io.FileIO, size: int) -> Sound | None:
    """Sony's WAVE in 64 bits: names of 16 bytes, lengths of 8 that count the chunk's head, everything on multiples of 8."""
    at, form = 40, b""
    for _ in range(_MOST_CHUNKS):
        head = _at(stream, at, 24)
        if len(head) < 24:
            break
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"fmt ":
            form = _at(stream, at + 24, min(max(length - 24, 0), 4096))
        if head[:4] == b"data":
            claimed = length if length >= 2**63 - 64 else max(0, length - 24)
            return _wave_sound(stream, size, at + 24, claimed, form, "little", wraps=False)
        if length < 24:
            return None
        at += length + -length % 8
    _without_sound(size, int.from_bytes(_at(stream, 16, 8), "little"))
    return None


# ------------------------------------------------------------------------------------------------------- AIFF, AU and CAF
_LINEAR_AIFF = {b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"fl32", b"FL32", b"fl64", b"FL64"}
_BYTE_AIFF = {b"ulaw", b"ULAW", b"alaw", b"ALAW"}


def _aiff(stream: io.FileIO, size: int, head: bytes) -> Sound | None:
    common = b""
    for name, at, length in _chunks(stream, 12, size, "big"):
        if name == b"COMM":
            common = _at(stream, at, min(length, 4096))
        elif name == b"SSND" and len(common) >= 18:
            channels, bits = int.from_bytes(common[:2], "big"), int.from_bytes(common[6:8], "big")
            codec = common[18:22] if head[8:12] == b"AIFC" else b"NONE"
            frame = max(1, channels * (1 if codec in _BYTE_AIFF else (bits + 7) // 8))
            claimed = max(0, length - 8)
            there = _length(stream, size, at + 8, claimed, frame)
            linear = codec in _LINEAR_AIFF | _BYTE_AIFF
            frames = int.from_bytes(common[2:6], "big")
            if linear and abs(frames * frame - there) > FEW:
                claimed = frames * frame
            known = None if _is_placeholder(claimed, frame) and there else claimed
            if linear:
                common = common[:2] + (there // frame % 2**32).to_bytes(4, "big") + common[6:]
            chunks = b"COMM" + len(common).to_bytes(4, "big") + common + bytes(len(common) % 2)
            chunks += b"SSND" + ((there + 8) % 2**32).to_bytes(4, "big") + bytes(8)
            form = b"FORM" + ((4 + len(chunks) + there) % 2**32).to_bytes(4, "big") + head[8:12]
            return Sound(at + 8, there, known, frame, linear, form + chunks)
    _without_sound(size, int.from_bytes(head[4:8], "big") + 8)
    return None


_AU_BYTES = {1: 1, 27: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8}  # mu-law, A-law, PCM of 8 to 32 bits, float, double


def _au(stream: io.FileIO, size: int, head: bytes) -> Sound | None:
    order: Order = "big" if head[:4] == b".snd" else "little"
    start, claimed, codec, _, channels = (int.from_bytes(head[i : i + 4], order) for i in range(4, 24, 4))
    if len(head) < 24 or start > size:
        raise cut_short(size, max(start, 24))
    frame = max(1, _AU_BYTES.get(codec, 1) * channels)
    length = _length(stream, size, start, claimed, frame)
    known = None if _is_placeholder(claimed, frame) and length else claimed
    stated = length if length < 2**32 else 0xFFFFFFFF
    header = head[:4] + (24).to_bytes(4, order) + stated.to_bytes(4, order) + head[12:24]
    return Sound(start, length, known, frame, codec in _AU_BYTES, header)


def _caf(stream: io.FileIO, size: int) -> Sound | None:
    description, packets = b"", False
    for name, at, length in _chunks(stream, 8, size, "big", width=8, align=1):
        if name == b"desc":
            description = _at(stream, at, 32)
        packets = packets or name == b"pakt"
        if name == b"data" and len(description) == 32:
            frame = max(1, int.from_bytes(description[16:20], "big"))
            claimed = length if length >= 2**63 - 1 else max(0, length - 4)
            there = _length(stream, size, at + 4, claimed, frame)
            linear = description[8:12] in (b"lpcm", b"ulaw", b"alaw")
            known = None if _is_placeholder(claimed, frame) and there else claimed
            if not linear:
                known = there  # the tables of a codec lie around the sound: nothing can be mended
            header = _at(stream, 0, 8) + b"desc" + (32).to_bytes(8, "big") + description
            header += b"data" + (there + 4).to_bytes(8, "big") + bytes(4)
            return Sound(at + 4, there, known, frame, linear, header)
        if length > size:
            raise cut_short(size, at + length)
    return None
