"""Recordings that hold the same sound are found in any form, and recordings of one machine are not taken for one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auscult.detector.copies import Place, copies, find_shared_sound

RATE = 16000
CLIPS = Path(__file__).parents[3] / "shared" / "real" / "dcase2023_valve" / "valve" / "train"


def pcm(signal: np.ndarray) -> np.ndarray:
    return np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)


def hum(seed: int, seconds: float = 2.0) -> np.ndarray:
    """A machine on the mains: harmonics of exactly 50 Hz, and noise 10 dB below."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * 50 * h * time + rng.uniform(0, 6.3)) / h for h in range(1, 12))
    return 0.05 * (tones + 0.3 * rng.standard_normal(len(time)))


def strokes(seed: int) -> np.ndarray:
    """A piston: the same decaying ring at exactly 20 Hz, at any phase, and noise 35 dB below its peak."""
    rng = np.random.default_rng(seed)
    ring = np.exp(-np.arange(400) / 60) * np.sin(0.9 * np.arange(400))
    pulses = np.zeros(2 * RATE)
    pulses[rng.integers(0, 800) :: 800] = 1
    return 0.3 * np.convolve(pulses, ring)[: len(pulses)] + 0.005 * rng.standard_normal(len(pulses))


def coded(signal: np.ndarray, kind: str, subtype: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, signal, RATE, format=kind, subtype=subtype)
    file.seek(0)
    return soundfile.read(file)[0]


@pytest.mark.parametrize("machine", [hum, strokes])
def test_recordings_of_one_machine_are_not_the_same_sound(machine: object) -> None:
    sounds = [pcm(machine(seed)) for seed in range(20)]  # type: ignore[operator]
    assert [place.group for place in find_shared_sound(sounds, RATE)] == list(range(20))


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this checkout")
def test_recordings_of_a_real_valve_are_not_the_same_sound() -> None:
    sounds = [soundfile.read(path, dtype="int16")[0] for path in sorted(CLIPS.glob("*.wav"))]
    assert len({place.group for place in find_shared_sound(sounds, RATE)}) == len(sounds) == 60


@pytest.mark.parametrize("machine", [hum, strokes])
@pytest.mark.parametrize(
    ("form", "lag_within"),
    [
        (lambda x: x, 0),
        (lambda x: 0.7 * x, 0),
        (lambda x: -x, 0),
        (lambda x: coded(x, "WAV", "PCM_U8"), 1),
        (lambda x: coded(x, "OGG", "VORBIS"), 1),
        (lambda x: coded(x, "MP3", "MPEG_LAYER_III"), 1),
        (lambda x: x + 0.1 * x.std() * np.random.default_rng(9).standard_normal(len(x)), 0),
    ],
    ids=["same", "softer", "inverted", "8 bit", "ogg", "mp3", "noise at -20 dB"],
)
def test_the_same_sound_in_another_form(machine: object, form: object, lag_within: int) -> None:
    sounds = [pcm(machine(seed)) for seed in range(6)]  # type: ignore[operator]
    place = find_shared_sound([*sounds, pcm(form(sounds[3] / 32768))], RATE)[6]  # type: ignore[operator]
    assert place.group == 3
    assert abs(place.start) <= lag_within


def test_cuts_that_overlap_lie_on_one_axis() -> None:
    """Chains too: the first and the last share nothing but their neighbours."""
    whole, others = pcm(hum(0, 6.0)), [pcm(hum(seed)) for seed in (1, 2)]
    cuts = [whole[start : start + 2 * RATE] for start in (0, 20011, 40007, 60003)]
    places = find_shared_sound([others[0], *cuts, others[1]], RATE)
    assert [place.group for place in places] == [0, 1, 1, 1, 1, 5]
    assert [place.start for place in places[1:5]] == [0, 20011, 40007, 60003]
    assert copies(places, [2 * RATE] * 6) == {}


def test_what_another_one_holds_is_a_copy() -> None:
    places = [Place(0), Place(0, 100), Place(0, 900), Place(0, 100, -6.0), Place(4), Place(4), Place(0, 0, 0.0, 0.5)]
    assert copies(places, [1000, 500, 500, 500, 700, 700, 500]) == {1: 0, 5: 4}


def test_the_same_noise_under_another_sound_is_no_copy() -> None:
    """A mixture with the same background is left out together with it, and used."""
    tone = 0.5 * np.sin(2 * np.pi * 700 * np.arange(2 * RATE) / RATE)
    places = find_shared_sound([pcm(hum(0)), pcm(hum(1)), pcm(hum(0) + tone)], RATE)
    assert [place.group for place in places] == [0, 1, 0]
    assert places[2].alike < 0.5
    assert copies(places, [2 * RATE] * 3) == {}


def test_too_short_for_a_fingerprint() -> None:
    brief = [pcm(hum(seed, 0.05)) for seed in range(3)]
    assert [place.group for place in find_shared_sound([*brief, brief[1]], RATE)] == [0, 1, 2, 1]
    assert find_shared_sound([], RATE) == []
