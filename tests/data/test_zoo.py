"""A zoo of files: strange but legal ones give the sound that was put in, broken and hostile ones a sentence, each soon."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.data.audio import RecordingError, decode, open_recording, probe
from auscult.data.download import fetch
from auscult.data.manifest import build_manifest
from auscult.data.own.cutting import measure
from auscult.errors import AuscultError
from auscult.tracking.values import metric_name
from support.packed import tiny_profile

RATE, TONE, SECONDS, LEVEL = 16000, 500.0, 1.0, 0.5
MOST_SECONDS, MOST_BYTES = 5.0, 3e8


def tone(rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    return LEVEL * np.sin(2 * np.pi * TONE * np.arange(round(rate * seconds)) / rate)


@cache
def stored(form: str, subtype: str | None = None, rate: int = RATE, channels: int = 1, endian: str = "FILE") -> bytes:
    """The tone as a file; of several channels the first holds it, and the others hold it upside down, more softly."""
    out = io.BytesIO()
    sound = np.stack([tone(rate)] + [-0.25 * tone(rate)] * (channels - 1), axis=1)
    soundfile.write(out, sound, rate, format=form, subtype=subtype, endian=endian)
    return out.getvalue()


PCM = np.round(tone() * 32768).astype("<i2").tobytes()


def wav(riff: int | None = None, data: int | None = None, body: bytes = PCM, **more: bytes | int | str) -> bytes:
    """A WAV by hand: lengths as given, chunks `before` the format, `between` it and the sound, and `after` it."""
    order = ">" if more.get("magic") == b"RIFX" else "<"
    rate, kind, bits, channels = (more.get(key, value) for key, value in
                                  (("rate", RATE), ("kind", 1), ("bits", 16), ("channels", 1)))  # fmt: skip
    frame = int(channels) * int(bits) // 8
    form = struct.pack(order + "HHIIHH", kind, channels, rate, int(rate) * frame % 2**32, frame % 2**16, bits)
    before, between, after = (more.get(key, b"") for key in ("before", "between", "after"))
    chunks = before + b"fmt " + struct.pack(order + "I", 16) + form + between  # type: ignore[operator]
    chunks += b"data" + struct.pack(order + "I", len(body) if data is None else data) + body + after  # type: ignore[operator]
    riff = len(chunks) + 4 if riff is None else riff
    return more.get("magic", b"RIFF") + struct.pack(order + "I", riff) + b"WAVE" + chunks  # type: ignore[operator]


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


def patched(blob: bytes, at: int, new: bytes) -> bytes:
    return blob[:at] + new + blob[at + len(new) :]


def after(blob: bytes, name: bytes, skip: int, new: bytes) -> bytes:
    """`blob` with `new` written `skip` bytes behind the first `name`."""
    return patched(blob, blob.index(name) + len(name) + skip, new)


def flac_total(blob: bytes, total: int) -> bytes:
    info = int.from_bytes(blob[18:26], "big") >> 36 << 36 | total
    return patched(blob, 18, info.to_bytes(8, "big"))


FLAC, OGG, MP3 = stored("FLAC"), stored("OGG", "VORBIS"), stored("MP3")
BIG = np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
LOOSE, LOSSY, LOW = 0.01, 0.08, 0.2  # of the level: companded, coded, coded at few bits
"""Name, bytes, tolerance of a sample in parts of the level, and what is noted ("" = nothing)."""
LEGAL: list[tuple[str, Callable[[], bytes], float, str]] = [
    # containers and depths
    *[(f"{subtype}.wav", lambda s=subtype: stored("WAV", s), 0.02, "")
      for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")],
    *[(f"{form}.{suffix}", lambda f=form: stored(f), 1e-3, "")
      for form, suffix in (("RF64", "rf64"), ("W64", "w64"), ("AIFF", "aiff"), ("AU", "au"), ("CAF", "caf"),
                           ("WAVEX", "wav"), ("FLAC", "flac"))],
    ("rifx.wav", lambda: stored("WAV", "PCM_16", endian="BIG"), 1e-3, ""),
    ("little.au", lambda: stored("AU", "PCM_16", endian="LITTLE"), 1e-3, ""),
    ("sowt.aifc", lambda: stored("AIFF", "PCM_16", endian="LITTLE"), 1e-3, ""),
    ("float.aifc", lambda: stored("AIFF", "FLOAT"), 1e-3, ""),
    ("double.caf", lambda: stored("CAF", "DOUBLE"), 1e-3, ""),
    ("alac.caf", lambda: stored("CAF", "ALAC_16"), 1e-3, ""),
    ("s8.aiff", lambda: stored("AIFF", "PCM_S8"), 0.02, ""),
    ("24.flac", lambda: stored("FLAC", "PCM_24"), 1e-3, ""),
    # codecs
    *[(f"{subtype}.wav", lambda s=subtype: stored("WAV", s), tolerance, "")
      for subtype, tolerance in (("ULAW", 0.05), ("ALAW", 0.05), ("IMA_ADPCM", LOSSY), ("MS_ADPCM", LOSSY),
                                 ("GSM610", 0.5), ("G721_32", LOW), ("NMS_ADPCM_16", LOW))],
    ("ulaw.au", lambda: stored("AU", "ULAW"), 0.05, ""), ("alaw.caf", lambda: stored("CAF", "ALAW"), 0.05, ""),
    ("ulaw.aifc", lambda: stored("AIFF", "ULAW"), 0.05, ""), ("gsm.aifc", lambda: stored("AIFF", "GSM610"), 0.5, ""),
    ("ima.w64", lambda: stored("W64", "IMA_ADPCM"), LOSSY, ""),
    ("vorbis.ogg", lambda: OGG, LOSSY, ""), ("opus.ogg", lambda: stored("OGG", "OPUS"), LOSSY, ""),
    # rates and channels
    *[(f"{rate}.wav", lambda r=rate: stored("WAV", "PCM_16", r), 0.01, "")
      for rate in (4000, 8000, 8001, 11025, 22050, 44099, 44100, 47999, 48000, 96000, 97656, 192001)],
    *[(f"{count} channels.wav", lambda n=count: stored("WAV", "PCM_16", channels=n), 1e-3, "") for count in (2, 6, 64)],
    ("stereo 44099.flac", lambda: stored("FLAC", None, 44099, 2), 0.01, ""),
    # headers and bytes that disagree, the sound whole
    ("length of the whole file.wav", lambda: wav(riff=len(PCM) + 44), 1e-3, "states a file of"),
    ("data counts the header.wav", lambda: wav(data=len(PCM) + 44), 1e-3, "are read"),
    ("pad byte counted.wav", lambda: wav(data=len(PCM) + 1), 1e-3, "are read"),
    ("arecord.wav", lambda: wav(0x80000024, 0x80000000), 1e-3, "states no length"),
    ("sox pipe.wav", lambda: wav(0x7FFFF024, 0x7FFFF000), 1e-3, "states no length"),
    ("ffmpeg pipe.wav", lambda: wav(0xFFFFFFFF, 0xFFFFFFFF), 1e-3, "states no length"),
    ("largest int.wav", lambda: wav(0x7FFFFFFF, 0x7FFFFFFF - 36), 1e-3, "states no length"),
    ("never closed.wav", lambda: wav(36, 0), 1e-3, "states no length"),
    ("never closed, RIFF 0.wav", lambda: wav(0, 0), 1e-3, "states no length"),
    ("never closed, with room.wav", lambda: wav(4088, 0, before=chunk(b"FLLR", bytes(4000))), 1e-3, "states no length"),
    ("stopped updating.wav", lambda: wav(36 + 8000, 8000), 1e-3, "states 8000 bytes"),
    ("placeholder rifx.wav", lambda: wav(0xFFFFFFFF, 0xFFFFFFFF, BIG, magic=b"RIFX"), 1e-3, "states no length"),
    ("placeholder mu-law.wav", lambda: patched(stored("WAV", "ULAW"), stored("WAV", "ULAW").index(b"data") + 4,
                                               b"\xff\xff\xff\xff"), 0.05, "states no length"),
    ("placeholder ima.wav", lambda: after(stored("WAV", "IMA_ADPCM"), b"data", 0, bytes(4)), LOSSY, "states no length"),
    ("unknown.au", lambda: patched(stored("AU"), 8, b"\xff\xff\xff\xff"), 1e-3, "states no length"),
    ("too little.au", lambda: patched(stored("AU"), 8, struct.pack(">I", 6000)), 1e-3, "states 6000 bytes"),
    ("unknown.caf", lambda: after(stored("CAF"), b"data", 0, b"\xff" * 8), 1e-3, "states no length"),
    ("unknown.rf64", lambda: after(stored("RF64"), b"ds64", 4 + 8, bytes(8)), 1e-3, "states no length"),
    ("unknown.w64", lambda: after(stored("W64"), b"data", 12, struct.pack("<Q", 24)), 1e-3, "states no length"),
    ("sox pipe.aiff", lambda: after(after(stored("AIFF"), b"SSND", 0, struct.pack(">I", 0x7F000008)), b"COMM", 6,
                                    struct.pack(">I", 0x3F800000)), 1e-3, "states no length"),
    ("no frames.aiff", lambda: after(stored("AIFF"), b"COMM", 6, bytes(4)), 1e-3, "states no length"),
    ("unknown.flac", lambda: flac_total(FLAC, 0), 1e-3, "states no length"),
    ("too few.flac", lambda: flac_total(FLAC, 5000), 1e-3, "states 5000 samples"),
    # things around the sound
    ("list behind.wav", lambda: wav(after=chunk(b"LIST", b"INFOISFT" + bytes(20))), 1e-3, ""),
    ("list behind, cut.wav", lambda: wav(after=chunk(b"LIST", bytes(400)))[:-300], 1e-3, "states a file of"),
    ("unknown chunk behind.wav", lambda: wav(after=chunk(b"wxyz", b"\x01" * 400)), 1e-3, ""),
    ("zeros behind.wav", lambda: wav(riff=36 + len(PCM), after=bytes(5000)), 1e-3, ""),
    ("tag behind.wav", lambda: wav(riff=36 + len(PCM), after=b"TAG" + b"x" * 125), 1e-3, ""),
    ("chunks between.wav", lambda: wav(between=chunk(b"bext", bytes(602)) + chunk(b"JUNK", bytes(28))), 1e-3, ""),
    ("tag before.flac", lambda: b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + FLAC, 1e-3, ""),
    ("a flac called.wav", lambda: FLAC, 1e-3, ""),
    ("a wav called.flac", lambda: wav(), 1e-3, ""),
    # names
    ("quote ' and \" and $HOME.wav", lambda: wav(), 1e-3, ""), ("-rf *.wav", lambda: wav(), 1e-3, ""),
    ("Pümpe 泵 🔧.wav", lambda: wav(), 1e-3, ""), ("two\nlines.wav", lambda: wav(), 1e-3, ""),
    (os.fsdecode(b"p\xfcmpe.wav"), lambda: wav(), 1e-3, ""),
]  # fmt: skip


def bounded(work: Callable[[], object]) -> object:
    """What `work` gives; it must be soon, and in little memory."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        return work()
    finally:
        spent, most = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert spent < MOST_SECONDS, f"{spent:.1f} s"
        assert most < MOST_BYTES, f"{most / 1e6:.0f} MB"


def sound_of(path: Path) -> tuple[np.ndarray, list[str]]:
    with open_recording(path) as recording:
        return np.concatenate(list(recording.at_rate(RATE))), recording.notes


def test_strange_but_legal(tmp_path: Path) -> None:
    """Each gives the tone, by the detector's way and by the pipeline's, which agree; and notes what its header got wrong."""
    assert len(LEGAL) >= 40
    expected, wrong = tone(), []
    for name, make, tolerance, note in LEGAL:
        path = tmp_path / name
        path.write_bytes(make())
        try:
            sound, notes = bounded(lambda path=path: sound_of(path))  # type: ignore[misc]
            measured = measure(path)
            clip, valid = decode(path, RATE, RATE, 0)
        except (RecordingError, AssertionError) as error:
            wrong.append(f"{name!r}: {error}")
            continue
        inside = slice(1000, 14000)  # codecs fade in, and filters have ends
        for way, found in (("detector", sound), ("pipeline", clip / 32768)):
            error = np.abs(found[inside] - expected[inside]).max() / LEVEL
            if error > tolerance:
                wrong.append(f"{name!r}: {way}: off by {error:.3g} of the level")
        if abs(valid - RATE) > 0.03 * RATE or abs(measured.frames / measured.sample_rate - SECONDS) > 0.03:
            wrong.append(f"{name!r}: {valid} samples, {measured.frames} frames of {measured.sample_rate} Hz")
        if list(measured.notes) != notes or bool(note) != bool(notes) or (note and note not in notes[0]):
            wrong.append(f"{name!r}: notes {notes}, not {note!r}")
        probe(path)
    assert not wrong, "\n".join(wrong)


def test_mp3(tmp_path: Path) -> None:
    """Of an MP3 the tone is told by its spectrum: the coder moves it by part of a block."""
    path = tmp_path / "a.mp3"
    path.write_bytes(MP3)
    sound, notes = sound_of(path)
    assert np.abs(np.fft.rfft(sound[:RATE])).argmax() == TONE
    assert np.sqrt(2) * sound[2000:14000].std() == pytest.approx(LEVEL, rel=0.1)
    assert not notes


def test_levels(tmp_path: Path) -> None:
    """The reader neither clips nor rounds: pascals, and sound far below 16 bits, come as they are."""
    for level in (1e-6, 1.0, 40.0, 1e5):
        soundfile.write(tmp_path / "a.wav", level * tone(), RATE, subtype="DOUBLE")
        sound, _ = sound_of(tmp_path / "a.wav")
        np.testing.assert_allclose(sound, level * tone(), atol=1e-6 * level)
        assert probe(tmp_path / "a.wav").peak == pytest.approx(level * LEVEL, rel=1e-5)


def test_sound_over_4_gib(tmp_path: Path) -> None:
    """Lengths of 32 bits hold what is left modulo 2^32: the sound at the end is found, whatever is in between (a hole)."""
    frame, total = 256, 2**32 + 256 * RATE
    sound = np.repeat(tone().astype("<f4")[:, None], 64, axis=1).tobytes()
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        head = wav(36, total % 2**32, b"", kind=3, bits=32, channels=64)
        file.write(head)
        file.seek(len(head) + total - len(sound))
        file.write(sound)
    with open_recording(path) as recording:
        assert recording.frames == total // frame
        assert recording.claimed == RATE
        assert "states 4096000 bytes of sound; the 4299063296 bytes" in recording.notes[0]
        recording._file.seek(recording.frames - RATE)
        np.testing.assert_allclose(recording.read(RATE)[:, 63], tone(), atol=1e-6)


HALF = len(PCM) // 2
BROKEN: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty.wav", lambda: b"", "empty file"),
    ("text.wav", lambda: b"this is a text file, not sound\n" * 20, "not a readable recording"),
    ("html.wav", lambda: b"<!DOCTYPE html><html><body>404</body></html>" * 20, "not a readable recording"),
    ("zeros.wav", lambda: bytes(4000), "not a readable recording"),
    ("magic.wav", lambda: b"RIFF", "cut short: 4 of 12 bytes"),
    ("magic.aiff", lambda: b"FORM\0\0", "cut short: 6 of 12 bytes"),
    ("magic.au", lambda: b".snd\0\0\0\x18", "cut short: 8 of 24 bytes"),
    ("magic.caf", lambda: b"caff", "not a readable recording"),
    ("magic.flac", lambda: b"fLaC", "not a readable recording"),
    ("magic.ogg", lambda: b"OggS", "cut short"),
    ("half.wav", lambda: wav()[: 44 + HALF], f"cut short: {44 + HALF} of {44 + len(PCM)} bytes"),
    ("head.wav", lambda: wav()[:40], "cut short: 40 of"),
    ("most.wav", lambda: wav()[:-100], f"cut short: {len(PCM) - 56} of {len(PCM) + 44} bytes"),
    ("RIFF whole, data more.wav", lambda: wav(36 + HALF, 2 * HALF, PCM[:HALF]), f"cut short: {44 + HALF} of"),
    ("half rifx.wav", lambda: stored("WAV", "PCM_16", endian="BIG")[:HALF], f"cut short: {HALF} of {44 + len(PCM)}"),
    *[(f"half.{form.lower()}", lambda f=form: stored(f)[: len(stored(f)) // 2], f"cut short: {len(stored(form)) // 2} of")
      for form in ("RF64", "W64", "AIFF", "AU", "CAF", "WAVEX")],
    *[(f"half {subtype}.wav", lambda s=subtype: stored("WAV", s)[: len(stored("WAV", s)) // 2], "cut short")
      for subtype in ("PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")],
    ("half alac.caf", lambda: stored("CAF", "ALAC_16")[:9000], "cut short|not a readable"),
    ("half.flac", lambda: FLAC[: len(FLAC) // 2], r"cut short: \d+ of 16000 samples"),
    ("half, unknown.flac", lambda: flac_total(FLAC, 0)[: len(FLAC) // 2], r"cut short: .*knows no length"),
    ("claims more.flac", lambda: flac_total(FLAC, 20000), "cut short: 16000 of 20000 samples"),
    ("spoilt.flac", lambda: patched(FLAC, len(FLAC) // 2, b"\x55" * 300), "not a readable recording|cut short"),
    ("half.ogg", lambda: OGG[: len(OGG) // 2], "cut short"),
    ("no last page.ogg", lambda: OGG[: OGG.rindex(b"OggS")], "without the page that closes it"),
    ("last page cut.ogg", lambda: OGG[:-20], "20 bytes of it are missing"),
    ("half.opus", lambda: stored("OGG", "OPUS")[: len(stored("OGG", "OPUS")) // 2], "cut short"),
    ("half.mp3", lambda: MP3[: len(MP3) // 2], f"cut short: {len(MP3) // 2} of"),
    ("no samples.wav", lambda: wav(body=b""), "no samples"),
    ("no samples, closed.wav", lambda: wav(body=b"", after=chunk(b"LIST", b"INFO")), "no samples"),
    ("no samples.flac", lambda: flac_total(FLAC, 0)[:42], "no samples|not a readable"),
    ("nan.wav", lambda: after(stored("WAV", "FLOAT"), b"data", 404, b"\x00\x00\xc0\x7f"), "NaN or infinite"),
    ("infinite.wav", lambda: after(stored("WAV", "FLOAT"), b"data", 404, b"\x00\x00\x80\x7f"), "NaN or infinite"),
    ("0 Hz.wav", lambda: wav(rate=0), "not a readable recording|0 samples per second"),
    ("10 Hz.wav", lambda: wav(rate=10), "10 samples per second by its header"),
    ("4 GHz.wav", lambda: wav(rate=4_000_000_000), "samples per second|not a readable"),
    ("0 channels.wav", lambda: wav(channels=0), "not a readable recording"),
    ("65535 channels.wav", lambda: wav(channels=65535), "not a readable recording|no samples|cut short"),
    ("0 bits.wav", lambda: wav(bits=0), "not a readable recording|no samples"),
    ("unknown codec.wav", lambda: wav(kind=0x4444), "not a readable recording"),
    ("two billion chunks.wav", lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"abcd\0\0\0\0" * 200_000, "not a readable"),
    ("format of 4 GB.wav", lambda: b"RIFF\x24\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(100), "not a readable|cut short"),
    ("far.au", lambda: b".snd" + struct.pack(">5I", 2**32 - 1, 0, 3, RATE, 1) + bytes(100), "cut short"),
    ("phone.m4a", lambda: b"\0\0\0\x20ftypM4A " + bytes(500), "convert it to WAV or FLAC"),
    ("vibration.wav", lambda: b"time,x,y,z\n0.0,0.1,0.2,0.3\n" * 50, "not a readable recording"),
]  # fmt: skip


def refusal(work: Callable[[], object]) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        bounded(work)
    return caught.value


def test_broken_and_hostile(tmp_path: Path) -> None:
    """Each is refused in a sentence that names the file, by each of the ways of reading, and soon."""
    assert len(BROKEN) >= 40
    wrong = []
    for name, make, message in BROKEN:
        path = tmp_path / name
        path.write_bytes(make())
        for work in (sound_of, measure, probe):
            try:
                error = refusal(lambda work=work, path=path: work(path))  # type: ignore[misc]
            except (AssertionError, pytest.fail.Exception) as missing:
                wrong.append(f"{name}: {work.__name__}: {missing}")
                continue
            if not re.search(message, error.what) or error.where != str(path) or not error.fix:
                wrong.append(f"{name}: {work.__name__}: {error.what!r} ({error.where}), not {message!r}")
    assert not wrong, "\n".join(wrong)


def test_a_way_on_from_sound_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "phone.m4a").write_bytes(bytes(100))
    assert refusal(lambda: probe(tmp_path / "phone.m4a")).fix == "convert it: ffmpeg -i 'phone.m4a' 'phone.wav'"


def test_no_regular_file(tmp_path: Path) -> None:
    """Nothing waits for a FIFO, and nothing reads a device without an end."""
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "dead.wav").symlink_to("nowhere.wav")
    for name, message in (
        ("fifo.wav", "no regular file"), ("zero.wav", "no regular file"), ("folder.wav", "no regular file"),
        ("loop.wav", "Too many levels"), ("dead.wav", "No such file"), ("x" * 300 + ".wav", "File name too long"),
        ("nul\0.wav", "null"),
    ):  # fmt: skip
        for work in (sound_of, measure, probe):
            assert message in refusal(lambda work=work, name=name: work(tmp_path / name)).what  # type: ignore[misc]


def test_a_large_file_is_hashed_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "large.wav"
    path.write_bytes(wav(0xFFFFFFFF, 0xFFFFFFFF))
    os.truncate(path, 200_000_000)
    tracemalloc.start()
    header = probe(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert header.seconds == pytest.approx((2e8 - 44) / 2 / RATE)


def test_names_of_recordings_and_machines(tmp_path: Path) -> None:
    """Own recordings of any name are cut; where the name itself goes into tables, one that is not UTF-8 is named."""
    for folder in ("pump (north)", "pump+motor", "pump's", "Pümpe 泵"):
        for i in range(4):
            (tmp_path / "mine" / folder / "normal").mkdir(parents=True, exist_ok=True)
            name = os.fsdecode(b"p\xfcmpe %d.wav" % i)
            (tmp_path / "mine" / folder / "normal" / name).write_bytes(wav(body=PCM[2 * i :]))
    source = {"kind": "recordings", "path": str(tmp_path / "mine")}
    raw = tmp_path / "data" / "raw"
    fetch(tiny_profile(source=source, grammar="recordings", clip_seconds=1.0), raw)
    profile = tiny_profile(source=source, grammar="recordings", clip_seconds=1.0)
    clips, _ = build_manifest(profile, raw)
    assert sorted(set(clips["machine"])) == ["Pümpe 泵", "pump (north)", "pump's", "pump+motor"]
    names = [metric_name(machine) for machine in set(clips["machine"])]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[/\w.\- :]*", name) for name in names), "MLflow's rule"
    with pytest.raises(AuscultError, match=r"p\\udcfcmpe 0.wav: its name is not UTF-8"):
        build_manifest(tiny_profile(grammar="folder", clip_seconds=1.0), tmp_path / "mine")
    (tmp_path / "bad" / "a\\b" / "normal").mkdir(parents=True)
    (tmp_path / "bad" / "a\\b" / "normal" / "1.wav").write_bytes(wav())
    with pytest.raises(AuscultError, match="no backslash or control character"):
        build_manifest(tiny_profile(grammar="folder", clip_seconds=1.0), tmp_path / "bad")


@pytest.mark.parametrize("level", [40.0, 1e-4, 0.5])
def test_one_gain_per_machine_fits_the_level(tmp_path: Path, level: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Floats in pascals are not cut off, very quiet ones not crushed, and what fits 16 bits stays as it is."""
    for i in range(5):
        for folder, times in (("normal", 1.0), ("anomaly", 2.0)):
            (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
            sound = level * times * tone() * (1 - i / 100)
            soundfile.write(tmp_path / "mine" / folder / f"{i}.wav", sound, RATE, subtype="FLOAT")
    raw = tmp_path / "data" / "raw"
    source = {"kind": "recordings", "path": str(tmp_path / "mine")}
    fetch(tiny_profile(source=source, grammar="recordings", clip_seconds=1.0), raw)
    gain = json.loads((raw / "source.json").read_text()).get("gains", {"machine": 1.0})["machine"]
    assert gain == 1 if level == 0.5 else 0.06 < gain * level * LEVEL <= 0.25
    clip = soundfile.read(raw / "machine" / "00" / "anomaly" / "0__00000000.wav")[0]
    np.testing.assert_allclose(clip, gain * 2 * level * tone(), atol=1 / 32768)
    said = capsys.readouterr().out
    assert (f"machine: the sound is multiplied by {gain:g}" in said) == (gain != 1)
    assert "exceed full scale" not in said


def test_the_manifest_warns_of_levels_that_16_bits_cannot_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, level in (("normal", 0.5), ("anomaly", 4.0), ("test_normal", 0.001)):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", level * tone(), RATE, subtype="FLOAT")
    build_manifest(tiny_profile(grammar="folder", clip_seconds=1.0), tmp_path)
    said = capsys.readouterr().out
    assert "1 recording(s) exceed full scale: their peaks are cut off" in said
    assert "1 recording(s) have less than 8 of 16 bits left" in said
