"""FeatEx against the authors' model; its loss put together by hand, its identity without exchanges, what the branches hear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.losses.adacos import SubClusterAdaCos, mixed_cross_entropy
from auscult.losses.exchange import exchanged_shares
from auscult.methods.base import Batch, Shape
from auscult.methods.featex import FeatEx, FeatexSettings
from auscult.models.two_view import TwoViewNet, magnitudes, whole_spectrum
from support.draws import loss_of
from support.fill import absolute_error, fill, filled, golden, relative_error, v

SAMPLES = 24_000
LABELS = torch.tensor([0, 1, 2, 1, 0, 2])


def network(**settings: object) -> FeatEx:
    torch.manual_seed(0)
    return FeatEx(FeatexSettings.model_validate({"sub_clusters": 4, **settings}), Shape(3, 0, 0, SAMPLES))


def batch() -> Batch:
    return Batch(label=LABELS, wave=torch.from_numpy(v("wave", (6, SAMPLES))).float() * 0.1)


class Always(np.random.Generator):
    """Draws that are all the same."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, size: object, dtype: object = np.float64) -> np.ndarray:  # type: ignore[override]
        return np.full(size, self.value, dtype)  # type: ignore[call-overload]


def test_golden() -> None:
    """Embedding, probabilities and losses of the authors' Keras model with the same weights."""
    stored = golden("featex")
    net = FeatEx(FeatexSettings(sub_clusters=4), Shape(3, 0, 0, SAMPLES)).eval()
    fill(net.net, "featex/net.")
    for name, head in (("plain", net.plain), ("exchanged", net.exchanged)):
        head.weight.data = torch.from_numpy(filled(f"featex/{name}.weight", tuple(head.weight.shape), "w"))
        head.scale.fill_(5.0)
    wave = torch.from_numpy(0.1 * v("featex/wave", (3, SAMPLES))).float()
    shares = torch.eye(3)
    with torch.inference_mode():
        x, _ = net.embed(Batch(wave=wave))
        assert relative_error(x[:, :128], stored["embedding"][:, :128]) < 1e-5
        assert relative_error(x[:, 128:], stored["embedding"][:, 128:]) < 1e-5
        targets = torch.cat([shares, torch.zeros(3, 24)], 1)
        plain, exchanged = net.plain(x, shares), net.exchanged(x, targets)
        assert absolute_error(plain.exp(), stored["plain"]) < 1e-6
        assert absolute_error(exchanged.exp(), stored["exchanged"]) < 1e-6
        losses = torch.stack([mixed_cross_entropy(plain, shares), mixed_cross_entropy(exchanged, targets)])
        assert absolute_error(losses, stored["losses"]) < 1e-5


def test_parameters_are_those_of_the_authors_network() -> None:
    """Counted on their model at 18 s (Keras), the fixed and trained centres left out."""
    assert sum(p.numel() for p in TwoViewNet(288_000).parameters()) == 2_683_634


def test_without_exchanges_it_is_the_plain_loss_twice() -> None:
    """The trained centres then tell C classes apart, and those of exchanged clips belong to nobody."""
    net = network(mix=0.0, statex=0.0, featex=0.0, l2=0.0)
    net.eval()  # batch norms and scales as they are
    found = loss_of(net, batch())
    x, shares = net.embed(batch())[0], torch.eye(3)[LABELS]
    plain = mixed_cross_entropy(net.plain(x, shares), shares).mean()
    torch.testing.assert_close(found["plain"], plain)
    targets = torch.cat([shares, torch.zeros(6, 6)], 1)
    torch.testing.assert_close(found["exchanged"], mixed_cross_entropy(net.exchanged(x, targets), targets).mean())
    alone = SubClusterAdaCos(256, 3, 4).eval()
    assert alone.weight.shape == net.plain.weight.shape
    # Without the centres of nobody it is the plain loss, to the letter.
    with torch.no_grad():
        alone.weight.copy_(net.exchanged.weight[: 3 * 4])
        alone.scale.copy_(net.exchanged.scale)
    log_probability = net.exchanged(x, targets)[:, :3]
    torch.testing.assert_close(log_probability - log_probability.logsumexp(1, keepdim=True), alone(x, shares))


def test_everybody_exchanges_and_mixes_half() -> None:
    net = network(mix=1.0, statex=1.0, featex=1.0)
    net.eval()
    found = loss_of(net, batch(), Always(0.5))
    wave, shares = batch().wave, torch.eye(3)[LABELS]
    wave, mixed = (wave + wave.flip(0)) / 2, (shares + shares.flip(0)) / 2
    s = magnitudes(wave)
    s = (
        (s - s.mean(1, keepdim=True))
        / s.std(1, correction=0, keepdim=True)
        * s.flip(0).std(1, correction=0, keepdim=True)
    )
    s = s + magnitudes(wave).flip(0).mean(1, keepdim=True)
    first, second = net.net.of_spectrum(whole_spectrum(wave)), net.net.of_spectrogram(s)
    everybody = torch.ones(6, dtype=torch.bool)
    targets = exchanged_shares(exchanged_shares(mixed, everybody), everybody)
    assert targets.shape == (6, 27)
    plain = mixed_cross_entropy(net.plain(torch.cat([first, second], 1), mixed), mixed).mean()
    swapped = mixed_cross_entropy(net.exchanged(torch.cat([first, second.flip(0)], 1), targets), targets).mean()
    torch.testing.assert_close(found["plain"], plain)
    torch.testing.assert_close(found["exchanged"], swapped)
    penalty = found["loss"] - found["plain"] - found["exchanged"]
    kernels = [
        p for name, p in net.net.named_parameters() if p.dim() > 1 and "squeeze" not in name and "excite" not in name
    ]
    assert penalty.item() == pytest.approx(1e-5 * sum(float(p.detach().square().sum()) for p in kernels), rel=1e-3)


def test_the_plain_centres_are_fixed_and_the_others_trained() -> None:
    net = network()
    loss_of(net, batch())["loss"].backward()
    assert net.plain.weight.grad is None
    assert net.exchanged.weight.grad is not None
    # A gate has two units behind a ReLU at the least, and may be deaf to begin with.
    assert all(p.grad is not None and p.grad.any() for name, p in net.net.named_parameters() if "gate" not in name)


def test_what_the_branches_hear() -> None:
    wave = v("wave", (2, 5_000))
    np.testing.assert_allclose(whole_spectrum(torch.from_numpy(wave)), np.abs(np.fft.fft(wave))[:, :2500], rtol=1e-9)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([np.abs(np.fft.rfft(wave[:, 512 * t : 512 * t + 1024] * hann)) for t in range(8)], axis=2)
    np.testing.assert_allclose(magnitudes(torch.from_numpy(wave)), frames, rtol=1e-6, atol=1e-9)
