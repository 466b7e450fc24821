"""Noise at the level asked for, a low-pass that is one, and clips that do not know of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.functional import lowpass_biquad

from auscult.data.condition import Condition, add_noise, lowpass, mixed, noise_bank
from auscult.errors import AuscultError

RATE, SAMPLES = 16000, 16000
CUTOFFS = [150.0, 1000.0, 4000.0, 7900.0]


@pytest.fixture(scope="module")
def bank() -> Tensor:
    return torch.from_numpy(noise_bank(SAMPLES, RATE))


@pytest.fixture(scope="module")
def clips() -> tuple[Tensor, Tensor]:
    """Noise clips over 60 dB of levels, and ids as the manifest makes them."""
    rng = np.random.default_rng(0)
    wave = rng.standard_normal((12, SAMPLES)) * np.logspace(-4, -1, 12)[:, None]
    return torch.from_numpy(wave.astype(np.float32)), torch.from_numpy(rng.integers(0, 2**63 - 1, 12))


def decibel(power_ratio: Any) -> Any:
    return 10 * np.log10(power_ratio)


def sine(hz: float) -> Tensor:
    return torch.sin(2 * torch.pi * hz * torch.arange(SAMPLES, dtype=torch.float64) / RATE).float()[None]


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 6.0, 30.0])
def test_the_ratio_is_the_one_asked_for(clips: tuple[Tensor, Tensor], bank: Tensor, snr_db: float) -> None:
    wave, ids = clips
    noisy = Condition(snr_db=snr_db).apply(wave, RATE, ids, bank)
    assert noisy.dtype == torch.float32
    noise = noisy.double() - wave.double()
    ratio = decibel((wave.double().square().mean(1) / noise.square().mean(1)).numpy())
    np.testing.assert_allclose(ratio, snr_db, atol=1e-3)


def test_noise_is_not_clipped(clips: tuple[Tensor, Tensor], bank: Tensor) -> None:
    wave, ids = clips
    loud = wave / wave.abs().amax(1, keepdim=True)
    assert (Condition(snr_db=-20).apply(loud, RATE, ids, bank).abs().amax(1) > 5).all()


@pytest.mark.parametrize("condition", [Condition(snr_db=0), Condition(lowpass_hz=500), Condition(-10, 3000)])
def test_silence_stays_silence(bank: Tensor, condition: Condition) -> None:
    silence = torch.zeros(3, SAMPLES)
    assert torch.equal(condition.apply(silence, RATE, torch.arange(3), bank), silence)


@pytest.fixture
def threads() -> Iterator[None]:
    torch.set_num_threads(2)  # where sums of one long row are split, and those of several rows are not
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("condition", [Condition(snr_db=3), Condition(lowpass_hz=2000), Condition(3, 2000)])
def test_a_clip_does_not_depend_on_its_batch(clips: tuple[Tensor, Tensor], bank: Tensor, condition: Condition) -> None:
    wave, ids = clips
    before = wave.clone()
    whole = condition.apply(wave, RATE, ids, bank)
    for rows in ([0], [11], [3, 2], [11, 10, 5, 5, 0, 1, 2]):
        assert torch.equal(condition.apply(wave[rows], RATE, ids[rows], bank), whole[rows])
    assert torch.equal(wave, before)


def test_each_clip_has_a_noise_of_its_own(bank: Tensor) -> None:
    """By id and seed alone: equal clips of different ids hear different noise, and another seed is another study."""
    wave = torch.full((40, SAMPLES), 0.1)
    ids = torch.arange(40)
    noise = add_noise(wave, ids, bank, 0.0) - wave
    close = torch.corrcoef(noise).fill_diagonal_(0)
    assert close.abs().max() < 0.5
    assert not torch.equal(add_noise(wave, ids, bank, 0.0, seed=1) - wave, noise)


def test_noises_and_cuts_are_evenly_used() -> None:
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 2**63 - 1, 64_000))
    for some in (ids, torch.arange(64_000)):  # hashes, and numbers in a row
        draw = mixed(some, 0)
        assert (draw >= 0).all()
        counts = torch.bincount(draw % 64, minlength=64)
        # 63 degrees of freedom: beyond 120 once in 10^5 times
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 120
        starts = ((draw // 64) % (SAMPLES + 1)).double()
        assert float(starts.mean()) == pytest.approx(SAMPLES / 2, rel=0.01)


def test_the_draw_is_splitmix64() -> None:
    """Against the generator in plain integers, whose n-th output it is for a state of id + n increments."""

    def plain(state: int) -> int:
        word = (1 << 64) - 1
        z = (state + 0x9E3779B97F4A7C15) & word
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        return z ^ (z >> 31)

    assert plain(0) == 0xE220A8397B1DCDAF  # published first output of seed 0
    ids = [0, 1, 2**62 + 12345, 2**63 - 1]
    assert mixed(torch.tensor(ids), 0).tolist() == [plain(i) >> 1 for i in ids]


def test_the_bank_is_factory_noise_and_the_same_each_time(bank: Tensor) -> None:
    again = noise_bank(SAMPLES, RATE, count=3)
    assert np.array_equal(again, bank[:3].numpy())
    assert not np.array_equal(noise_bank(SAMPLES, RATE, seed=1, count=1)[0], again[0])
    assert bank.shape == (64, 2 * SAMPLES)
    np.testing.assert_allclose(bank.double().square().mean(1).numpy(), 1, rtol=1e-6)
    spectrum = torch.fft.rfft(bank).abs().square().mean(0)
    low, high = spectrum[200:400].mean(), spectrum[8000:16000].mean()  # 100-200 Hz, 4-8 kHz: about 5 octaves apart
    assert 10 < decibel(float(low / high)) < 40


def response(cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and dB of the filter, from what it makes of an impulse in the middle of a clip."""
    impulse = torch.zeros(1, SAMPLES)
    impulse[0, SAMPLES // 2] = 1
    out = lowpass(impulse, RATE, cutoff)[0].double().numpy()
    assert np.allclose(out[1:], out[:0:-1], atol=1e-7)  # even around the impulse: linear phase, no delay
    level = np.abs(np.fft.rfft(out, 16 * SAMPLES))
    return np.fft.rfftfreq(16 * SAMPLES, 1 / RATE), 2 * decibel(np.maximum(level, 1e-12))


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_pass_band_and_stop_band(cutoff: float) -> None:
    hz, level = response(cutoff)
    assert np.abs(level[hz <= 0.975 * cutoff]).max() < 0.1
    assert level[np.argmin(np.abs(hz - cutoff))] == pytest.approx(-6.02, abs=0.05)
    above = level[hz >= 1.025 * cutoff]
    assert not len(above) or above.max() < -60  # 7.9 kHz leaves no stop band below 8 kHz


def test_a_biquad_would_not_do() -> None:
    """Why there is a filter of our own: an octave above the cut-off the usual one is at -12 dB."""
    impulse = torch.zeros(1, 4096, dtype=torch.float64)
    impulse[0, 0] = 1
    tail = lowpass_biquad(impulse, RATE, 1000.0)[0]
    level = 2 * decibel(np.abs(np.fft.rfft(tail.numpy()))[round(2000 * 4096 / RATE)])
    assert -20 < level < -10


@pytest.mark.parametrize("cutoff", [1000.0, 4000.0])
def test_energy_of_tones_below_and_above(cutoff: float) -> None:
    inside = slice(SAMPLES // 4, -SAMPLES // 4)
    below, above = sine(0.9 * cutoff), sine(1.1 * cutoff)
    both = lowpass(below + above, RATE, cutoff)[:, inside]
    assert decibel(float((both - below[:, inside]).square().mean() / 0.5)) < -60  # the low tone, where it was
    gone = lowpass(above, RATE, cutoff)[:, inside]
    assert decibel(float(gone.square().mean() / 0.5)) < -60


def test_ends_do_not_wrap_around() -> None:
    """A click at the end must not ring at the beginning, as it would in an FFT as long as the clip."""
    click = torch.zeros(1, SAMPLES)
    click[0, -1] = 1
    out = lowpass(click, RATE, 1000.0)[0]
    assert out[-20:].abs().max() > 0.05
    assert out[: SAMPLES // 2].abs().max() < 1e-6


def test_float64_is_kept(clips: tuple[Tensor, Tensor], bank: Tensor) -> None:
    wave, ids = clips
    double = Condition(10, 2000).apply(wave.double(), RATE, ids, bank)
    assert double.dtype == torch.float64
    single = Condition(10, 2000).apply(wave, RATE, ids, bank)
    np.testing.assert_allclose(single.double(), double, atol=2e-7)


def test_noise_comes_before_the_lowpass(clips: tuple[Tensor, Tensor], bank: Tensor) -> None:
    wave, ids = clips
    both = Condition(0, 500).apply(wave, RATE, ids, bank)
    assert torch.equal(both, lowpass(add_noise(wave, ids, bank, 0.0), RATE, 500))


def test_nothing_asked_nothing_done(clips: tuple[Tensor, Tensor]) -> None:
    wave, ids = clips
    clean = Condition()
    assert not clean.changes
    assert clean.bank(SAMPLES, RATE, torch.device("cpu")) is None
    assert clean.apply(wave, RATE, ids, None) is wave


@pytest.mark.parametrize(
    "wrong",
    [{"snr_db": float("nan")}, {"snr_db": float("inf")}, {"lowpass_hz": -1.0}, {"lowpass_hz": 5.0},
     {"lowpass_hz": float("nan")}, {"lowpass_hz": float("inf")}],
)  # fmt: skip
def test_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AuscultError, match=next(iter(wrong))):
        Condition(**wrong)


@pytest.mark.parametrize("cutoff", [8000.0, 12000.0])
def test_a_cut_off_of_half_the_sampling_rate_or_more(clips: tuple[Tensor, Tensor], cutoff: float) -> None:
    wave, ids = clips
    Condition(lowpass_hz=7999).check(RATE)
    with pytest.raises(AuscultError, match="16000 Hz"):
        Condition(lowpass_hz=cutoff).apply(wave, RATE, ids, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("condition", [Condition(snr_db=3), Condition(lowpass_hz=2000)])
def test_a_gpu_agrees(clips: tuple[Tensor, Tensor], bank: Tensor, condition: Condition) -> None:
    wave, ids = clips
    there = condition.apply(wave.cuda(), RATE, ids.cuda(), bank.cuda())
    one = condition.apply(wave[4:5].cuda(), RATE, ids[4:5].cuda(), bank.cuda())
    torch.testing.assert_close(there.cpu(), condition.apply(wave, RATE, ids, bank), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one, there[4:5], atol=1e-6, rtol=1e-5)
