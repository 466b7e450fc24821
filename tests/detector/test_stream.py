"""Windows of a recording of any length, rate, format and number of channels, against the whole file in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.transforms import Resample

from auscult.data import resampling
from auscult.data.audio import open_recording
from auscult.detector import stream
from auscult.errors import AuscultError
from support.trees import noise, write

RNG = np.random.default_rng(0)


def whole(
    path: Path, window: int, hop: int, batch: int = 3, rate: int = 16000, **more: Any
) -> tuple[np.ndarray, np.ndarray]:
    with open_recording(path) as recording:
        parts = list(stream.cut(stream.rounded(recording, rate, **more), window, hop, batch, str(path)))
    assert all(len(part) <= batch for part, _ in parts)
    return np.concatenate([part[0] for part in parts]) / rate, np.concatenate([part[1] for part in parts])


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(1, 30) | st.integers(100, 200),
    st.integers(1, 40),
    st.integers(1, 5),
)
def test_cutting_is_that_of_the_whole_sound(lengths: list[int], window: int, hop: int, batch: int) -> None:
    sound = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    blocks = np.split(sound, np.cumsum(lengths)[:-1])
    if len(sound) < 0.98 * window:
        with pytest.raises(AuscultError, match="of a window"):
            list(stream.cut(blocks, window, hop, batch))
        return
    starts = np.concatenate([part for part, _ in stream.cut(blocks, window, hop, batch)]).tolist()
    parts = np.concatenate([part for _, part in stream.cut(blocks, window, hop, batch)])
    if len(sound) < window:
        assert starts == [0]
        np.testing.assert_array_equal(parts[0], sound)
        return
    wanted = list(range(0, len(sound) - window + 1, hop))
    if wanted[-1] + window < len(sound):
        wanted.append(len(sound) - window)
    assert starts == wanted
    np.testing.assert_array_equal(parts, np.stack([sound[start : start + window] for start in wanted]))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 51200])
def test_resampling_has_no_seams(rate: int) -> None:
    """Blocks of any size give what torchaudio gives for the whole: the last sample included."""
    sound = (0.3 * RNG.standard_normal(7 * rate + 12345)).astype(np.float32)
    places = np.sort(RNG.integers(0, len(sound), 40))
    got = np.concatenate(list(resampling.resampled(np.split(sound, places), rate, 16000)))
    width, rolloff = resampling.SINC_WIDTH, resampling.SINC_ROLLOFF
    filtered = Resample(rate, 16000, lowpass_filter_width=width, rolloff=rolloff, dtype=torch.float64)
    np.testing.assert_allclose(got, filtered(torch.from_numpy(sound).double()).numpy(), atol=2e-7)


def test_another_rate_keeps_what_can_be_heard() -> None:
    """A tone at 7.9 kHz of 44.1 kHz arrives at 16 kHz as loud as it was; one at 8.1 kHz is gone."""
    time = np.arange(3 * 44100) / 44100
    for tone, level in ((1000.0, 1.0), (7900.0, 1.0), (8100.0, 0.0)):
        got = np.concatenate(
            list(resampling.resampled([np.sin(2 * np.pi * tone * time).astype(np.float32)], 44100, 16000))
        )
        assert np.sqrt(2) * got[4000:-4000].std() == pytest.approx(level, abs=0.03)


def test_sixteen_bits_at_the_right_rate_are_copied(tmp_path: Path) -> None:
    sound = noise(RNG, 2.5)
    starts, parts = whole(write(tmp_path / "a.wav", sound), 16000, 8000)
    np.testing.assert_allclose(starts, [0, 0.5, 1, 1.5])
    for start, part in zip((0, 8000, 16000, 24000), parts, strict=True):
        np.testing.assert_array_equal(part * 32768, sound[start : start + 16000])


def test_one_window_long_is_one_window(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(RNG, 1.0))
    assert whole(path, 16000, 8000)[1].shape == (1, 16000)
    stereo = np.stack([noise(RNG, 1.0, rate=44100)] * 2, axis=1)
    assert whole(write(tmp_path / "b.flac", stereo, 44100), 16000, 8000)[1].shape == (1, 16000)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "mp3"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    sound = noise(RNG, 2.0, tone=500).astype(np.float64) / 32768
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, sound, 16000)
    _, parts = whole(path, 16000, 16000)
    spectrum = np.abs(np.fft.rfft(parts[0]))
    assert spectrum.argmax() == 500


def test_channels(tmp_path: Path) -> None:
    sound = np.stack([noise(RNG, 1.0), noise(RNG, 1.0)], axis=1)
    path = write(tmp_path / "a.wav", sound)
    for channel in (0, 1):
        np.testing.assert_array_equal(whole(path, 16000, 8000, channel=channel)[1][0] * 32768, sound[:, channel])
    mean = whole(path, 16000, 8000, channel="mean")[1][0]
    np.testing.assert_allclose(mean * 32768, sound.mean(axis=1), atol=0.6)
    with pytest.raises(AuscultError, match="2 channel"):
        whole(path, 16000, 8000, channel=2)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
            for _ in range(seconds // 10):
                file.write(np.zeros(160000, np.int16))
        tracemalloc.start()
        with open_recording(path) as recording:
            for _ in stream.cut(stream.rounded(recording, 16000), 16000, 8000, 16):
                pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(600) < 1.1 * peak(60)


def wrong(path: Path, sound: bytes) -> Path:
    path.write_bytes(sound)
    return path


def test_what_is_no_recording(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", noise(RNG, 1.0)).read_bytes()
    flac = write(tmp_path / "good.flac", noise(RNG, 1.0)).read_bytes()
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    for path, words in (
        (tmp_path / "absent.wav", "No such file"),
        (wrong(tmp_path / "empty.wav", b""), "empty file"),
        (wrong(tmp_path / "text.wav", b"not sound at all, but long enough"), "not a readable recording"),
        (wrong(tmp_path / "short.wav", good[:9000]), "cut short: 9000 of 32044 bytes"),
        (wrong(tmp_path / "short.flac", flac[: len(flac) // 2]), "cut short|not a readable"),
        (wrong(tmp_path / "bare.wav", write(tmp_path / "n.wav", noise(RNG, 0.0)).read_bytes()), "no samples"),
        (nan, "NaN or infinite"),
        (write(tmp_path / "brief.wav", noise(RNG, 0.3)), "0.3 of a window"),
    ):
        with pytest.raises(AuscultError, match=words) as caught:
            whole(path, 16000, 8000)
        assert caught.value.fix, path
        assert path.name in caught.value.where


def test_an_unusual_rate_takes_no_memory(tmp_path: Path) -> None:
    """47999 and 16000 Hz have no common divisor: torchaudio's table would take 3 GB."""
    time = np.arange(3 * 47999) / 47999
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 1000 * time), 47999)
    tracemalloc.start()
    parts = whole(path, 16000, 16000)[1]
    assert tracemalloc.get_traced_memory()[1] < 3e8
    tracemalloc.stop()
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000, 32000) / 16000)
    np.testing.assert_allclose(parts[1], expected, atol=1e-3)


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.wav", "a.flac", "b/1.WAV", ".hidden/3.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in stream.recordings([tmp_path])]
    assert found == ["a.flac", "b/1.WAV", "b/2.wav"]
    assert stream.recordings([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"], "named, so tried"
    (tmp_path / "none").mkdir()
    with pytest.raises(AuscultError, match="no recordings below"):
        stream.recordings([tmp_path / "none"])
