"""Exchanged clips and their shares, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.losses.exchange import exchanged_features, exchanged_shares, exchanged_statistics
from support.fill import golden, v

EXCHANGE = torch.tensor([True, False, True, False, True])


def test_golden() -> None:
    """The authors' two layers, on draws that are stored with what they gave."""
    stored = {name: torch.from_numpy(array) for name, array in golden("featex").items()}
    statistics, features = stored["exchange_statistics"], stored["exchange_features"]
    shares = exchanged_shares(stored["shares"], statistics)
    assert torch.equal(shares, stored["shares_of_statistics"])
    assert torch.equal(exchanged_shares(shares, features), stored["shares_of_both"])
    assert torch.equal(exchanged_features(stored["features"], features), stored["features_exchanged"])
    found = exchanged_statistics(stored["spectrogram"], statistics)
    torch.testing.assert_close(found, stored["spectrogram_exchanged"], rtol=0, atol=1e-6)
    assert statistics.any()
    assert features.any()


def test_shares_say_whose_parts_a_clip_has() -> None:
    shares = torch.from_numpy(v("shares", (5, 4))).softmax(1)
    found = exchanged_shares(shares, EXCHANGE)
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))
    for clip in range(5):
        alone, kept, put_in = found[clip].view(3, 4)
        own = shares[clip]
        if EXCHANGE[clip]:
            assert not alone.any()
            torch.testing.assert_close((kept, put_in), (own / 2, shares[4 - clip] / 2))
        else:
            torch.testing.assert_close(alone, own)
            assert not kept.any()
            assert not put_in.any()


def test_without_an_exchange_nothing_changes() -> None:
    nobody = torch.zeros(5, dtype=torch.bool)
    shares = torch.from_numpy(v("shares", (5, 4))).softmax(1)
    x, spectrogram = torch.from_numpy(v("x", (5, 3))), torch.from_numpy(v("s", (5, 6, 7)))
    assert torch.equal(exchanged_shares(shares, nobody), torch.cat([shares, torch.zeros(5, 8)], 1))
    assert torch.equal(exchanged_features(x, nobody), x)
    assert torch.equal(exchanged_statistics(spectrogram, nobody), spectrogram)


def test_features_are_the_partners() -> None:
    x = torch.arange(5.0)[:, None]
    assert exchanged_features(x, EXCHANGE)[:, 0].tolist() == [4, 1, 2, 3, 0]


def test_frames_take_the_mean_and_deviation_of_the_partners_frames() -> None:
    x = np.abs(v("s", (5, 6, 7)))
    found = exchanged_statistics(torch.from_numpy(x), EXCHANGE).numpy()
    for clip, frame in np.ndindex(5, 7):
        own, other = x[clip, :, frame], x[4 - clip, :, frame]
        expected = (own - own.mean()) / own.std() * other.std() + other.mean() if EXCHANGE[clip] else own
        np.testing.assert_allclose(found[clip, :, frame], expected, rtol=1e-12)


@pytest.mark.parametrize("silent", [0, 4])
def test_silence_stays_finite(silent: int) -> None:
    x = torch.from_numpy(np.abs(v("s", (5, 6, 7)))).float()
    x[silent] = 0
    found = exchanged_statistics(x, EXCHANGE)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0].mean(0), x[4].mean(0))
