"""One decode: bit for bit where nothing has to change, and checked against SciPy where something has."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from auscult.data.audio import decode, probe
from auscult.errors import AuscultError
from support.trees import RATE, noise, write

RNG = np.random.default_rng(11)
AUDIO = noise(RNG, 0.5)


def test_16_bit_is_copied_bit_by_bit(tmp_path: Path) -> None:
    extremes = np.arange(-32768, 32768, dtype=np.int16)
    for suffix in (".wav", ".flac"):
        path = write(tmp_path / f"a{suffix}", extremes)
        audio, valid = decode(path, RATE, len(extremes), 0)
        assert audio.dtype == np.int16
        assert valid == len(extremes)
        assert np.array_equal(audio, extremes)


def test_16_bit_of_one_of_several_channels_too(tmp_path: Path) -> None:
    """This way goes through float32, which holds 16 bits exactly."""
    extremes = np.arange(-32768, 32768, dtype=np.int16)
    path = write(tmp_path / "a.wav", np.stack([extremes, extremes[::-1]], axis=1))
    assert np.array_equal(decode(path, RATE, 65536, 0)[0], extremes)
    assert np.array_equal(decode(path, RATE, 65536, 1)[0], extremes[::-1])


def test_longer_clips_keep_their_first_part_and_shorter_ones_are_padded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", AUDIO)
    for samples in (1000, len(AUDIO), len(AUDIO) + 500):
        audio, valid = decode(path, RATE, samples, 0)
        kept = min(samples, len(AUDIO))
        assert audio.shape == (samples,)
        assert valid == kept
        assert np.array_equal(audio[:kept], AUDIO[:kept])
        assert not audio[kept:].any()


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_24", 24), ("PCM_32", 32), ("FLOAT", 25), ("DOUBLE", 53)])
def test_finer_samples_are_rounded_to_16_bit(tmp_path: Path, subtype: str, bits: int) -> None:
    fine = RNG.uniform(-0.99, 0.99, 4000)
    path = write(tmp_path / "a.wav", fine, subtype=subtype)
    stored = soundfile.read(path, dtype="float64")[0]
    audio, valid = decode(path, RATE, 4000, 0)
    assert valid == 4000
    error = np.abs(audio / 32768 - stored)
    assert error.max() <= 0.5 / 32768 + 2.0**-24  # float32 on the way
    assert np.count_nonzero(error > 0.49 / 32768) > 0  # it is rounding that was measured


def test_float_beyond_full_scale_is_clipped_not_wrapped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.array([1.0, 1.5, 100.0, -1.0, -1.5, 0.5]), subtype="FLOAT")
    assert decode(path, RATE, 6, 0)[0].tolist() == [32767, 32767, 32767, -32768, -32768, 16384]


def test_channel_rule(tmp_path: Path) -> None:
    channels = np.stack([noise(RNG, 0.2), noise(RNG, 0.2), noise(RNG, 0.2)], axis=1)
    path = write(tmp_path / "a.wav", channels)
    for channel in (0, 1, 2):
        assert np.array_equal(decode(path, RATE, len(channels), channel)[0], channels[:, channel])
    mean, _ = decode(path, RATE, len(channels), "mean")
    assert np.abs(mean - channels.astype(float).mean(axis=1)).max() <= 0.51
    assert np.array_equal(decode(write(tmp_path / "m.wav", AUDIO), RATE, len(AUDIO), "mean")[0], AUDIO)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_a_channel_that_is_not_there(tmp_path: Path, channels: int, rate: int) -> None:
    path = write(tmp_path / "a.wav", np.stack([AUDIO] * channels, axis=1), rate)
    with pytest.raises(AuscultError, match=rf"has {channels} channel\(s\), so no channel {channels}"):
        decode(path, RATE, 100, channels)


def tones(rate: int, seconds: float) -> np.ndarray:
    """Three sines below 3 kHz: band-limited at every rate tested."""
    time = np.arange(round(rate * seconds)) / rate
    sines = [0.2 * np.sin(2 * np.pi * pitch * time + phase) for pitch, phase in ((440, 0.1), (1000, 1.0), (2900, 2.0))]
    return np.stack(sines).sum(axis=0)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_resampling_agrees_with_scipy_and_with_the_tones_themselves(tmp_path: Path, rate: int, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", tones(rate, 2.0), rate, "PCM_24")
    audio, valid = decode(path, RATE, RATE, 0)  # 1 s of 2 s
    assert valid == RATE
    divisor = np.gcd(RATE, rate)
    reference = scipy.signal.resample_poly(tones(rate, 2.0), RATE // divisor, rate // divisor, window=("kaiser", 12.0))[
        :RATE
    ]
    tolerance = 2e-3 if rate < RATE else 5e-4  # of 0.6: the filter of the smaller rate has its edge nearer to the tones
    inside = slice(200, None)  # the start of a recording has an edge; its end here has not, for decoding reads beyond
    assert np.abs(audio / 32768 - reference)[inside].max() < tolerance
    assert np.abs(audio / 32768 - tones(RATE, 1.0))[inside].max() < tolerance


def test_resampled_length_of_a_short_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tones(8000, 0.25), 8000)
    audio, valid = decode(path, RATE, RATE, 0)
    assert valid == RATE // 4
    assert not audio[valid:].any()


def test_stereo_of_another_rate(tmp_path: Path) -> None:
    left, right = tones(44100, 0.5), tones(44100, 0.5)[::-1]
    both = write(tmp_path / "both.wav", np.stack([left, right], axis=1), 44100, "FLOAT")
    one = write(tmp_path / "one.wav", np.ascontiguousarray(right), 44100, "FLOAT")
    assert np.array_equal(decode(both, RATE, 8000, 1)[0], decode(one, RATE, 8000, 0)[0])


# ------------------------------------------------------------------------------------------------------------------ probe
def test_probe_reads_the_header_and_hashes_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((12000, 2), np.int16), 48000)
    header = probe(path)
    assert (header.seconds, header.sample_rate, header.channels) == (0.25, 48000, 2)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=8).digest()
    assert header.content == int.from_bytes(digest, "little") // 2
    assert 0 <= header.content < 2**63


def cut(path: Path, keep: float) -> Path:
    blob = path.read_bytes()
    path.write_bytes(blob[: round(len(blob) * keep)])
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("keep", [0.003, 0.5, 0.99])
def test_a_truncated_wav(tmp_path: Path, subtype: str, keep: float) -> None:
    path = cut(write(tmp_path / "a.wav", AUDIO / 32768, subtype=subtype), keep)
    with pytest.raises(AuscultError, match=r"cut short: \d+ of \d+ bytes"):
        probe(path)


@pytest.mark.parametrize("keep", [0.2, 0.7, 0.99])
def test_a_truncated_flac(tmp_path: Path, keep: float) -> None:
    """The header promises all of it, so only decoding can tell."""
    path = cut(write(tmp_path / "a.flac", noise(RNG, 3.0)), keep)
    assert soundfile.info(path).frames == 3 * RATE
    with pytest.raises(AuscultError, match=r"cut short|not a readable recording"):
        probe(path)
    with pytest.raises(AuscultError, match=r"cut short|not a readable recording"):
        decode(path, RATE, 3 * RATE, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"RIFF", "cut short: 4 of"),
        (b"this is a text file, not a recording at all\n" * 10, "not a readable recording"),
        (bytes(1000), "not a readable recording"),
    ],
)
def test_files_that_are_no_recordings(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AuscultError, match=message):
        probe(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_zero_length(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", np.zeros(0, np.int16))
    with pytest.raises(AuscultError, match=r"no samples|empty file"):
        probe(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_not_finite(tmp_path: Path, value: float, everywhere: bool) -> None:
    audio = AUDIO / 32768
    audio[slice(None) if everywhere else 77] = value
    path = write(tmp_path / "a.wav", audio, subtype="FLOAT")
    for refused in (lambda: probe(path), lambda: decode(path, RATE, RATE, 0)):
        with pytest.raises(AuscultError, match="NaN or infinite"):
            refused()


def test_missing_and_unreadable(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "dead.wav").symlink_to("nowhere.wav")
    for name in ("loop.wav", "dead.wav", "none.wav"):
        with pytest.raises(AuscultError, match="cannot be read"):
            probe(tmp_path / name)
        with pytest.raises(AuscultError, match="cannot be read"):
            decode(tmp_path / name, RATE, RATE, 0)


def test_streamed_wav_without_a_size_is_read(tmp_path: Path) -> None:
    """Programs that write to a pipe cannot go back and fill the sizes in."""
    path = write(tmp_path / "a.wav", AUDIO)
    blob = bytearray(path.read_bytes())
    assert blob[36:40] == b"data"
    blob[4:8] = blob[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(blob)
    assert probe(path).seconds == 0.5
    assert np.array_equal(decode(path, RATE, len(AUDIO), 0)[0], AUDIO)
