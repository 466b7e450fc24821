"""TASTgram: its three image channels written out, and its three losses against golden vectors and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from auscult.methods.base import Batch, Shape
from auscult.methods.tastgram import METHOD, Tastgram, TastgramSettings
from auscult.settings.sections import ArcFaceSettings, MixupSettings
from support.draws import Drawn, loss_of
from support.fill import absolute_error, fill, golden, tensor, v

SMALL = Shape(classes=5, mels=16, frames=32, samples=16_000)


def network(mode: str = "noisy_arcmix", margin: float = 0.7) -> Tastgram:
    settings = TastgramSettings.model_validate(
        {"embedding": 16, "mixup": MixupSettings(mode=mode), "arcface": ArcFaceSettings(margin=margin)}
    )
    return fill(Tastgram(settings, SMALL), "small/").eval()


def clips(level: float) -> Batch:
    """Six clips whose frames lie about `level` dB, some so far above that their weight is near one, others near zero."""
    rise = 8 * v("small/rise", (6, 1, SMALL.frames))
    mel = tensor(level + rise + 2 * v("small/mel", (6, SMALL.mels, SMALL.frames)))
    return Batch(label=torch.tensor([0, 1, 2, 3, 4, 0]), wave=tensor(0.1 * v("small/wav", (6, SMALL.samples))), mel=mel)


def image_seen(net: Tastgram, run: str, batch: Batch, rng: np.random.Generator) -> Tensor:
    """What MobileFaceNet is given in `features` or `loss`."""
    seen: list[Tensor] = []
    hook = net.mfn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.features(batch) if run == "features" else loss_of(net, batch, rng)
    hook.remove()
    return seen[0]


def attended(mel: np.ndarray) -> np.ndarray:
    """Log-mel x sigmoid(max over mels + mean over mels), one frame at a time."""
    out = np.empty_like(mel)
    for clip in range(len(mel)):
        for frame in range(mel.shape[2]):
            column = [float(value) for value in mel[clip, :, frame]]
            weight = 1 / (1 + math.exp(-(max(column) + sum(column) / len(column))))
            out[clip, :, frame] = [value * weight for value in column]
    return out


def test_channels_are_tgram_logmel_and_attended_logmel() -> None:
    net, batch = network(), clips(level=0.0)
    mel = batch.mel.double().numpy()
    with torch.no_grad():
        expected = np.stack([net.tgram(batch.wave[:, None]).double().numpy(), mel, attended(mel)], axis=1)
    image = image_seen(net, "features", batch, np.random.default_rng(0))
    assert absolute_error(image, expected) < 1e-5
    assert np.abs(expected[:, 2]).max() > 1


def test_the_attended_channel_reaches_the_embedding() -> None:
    """The golden network cannot tell: its log-mel lies so far below 0 dB that the channel is zero."""
    net, batch = network(), clips(level=0.0)
    image = image_seen(net, "features", batch, np.random.default_rng(0))
    without, swapped = image.clone(), image[:, [0, 2, 1]]
    without[:, 2] = 0
    with torch.no_grad():
        embedding = net.features(batch)
        torch.testing.assert_close(net.mfn(image), embedding)
        for other in (without, swapped):
            assert (net.mfn(other) - embedding).norm() > 0.05 * embedding.norm()


def test_attention_is_of_the_mixed_clip() -> None:
    net, batch = network(), clips(level=0.0)
    perm = np.array([1, 2, 3, 4, 5, 0])
    mixed = 0.3 * batch.mel.double().numpy() + 0.7 * batch.mel.double().numpy()[perm]
    image = image_seen(net, "loss", batch, Drawn(0.3, perm))
    assert absolute_error(image[:, 1], mixed) < 1e-5
    assert absolute_error(image[:, 2], attended(mixed)) < 1e-5
    unmixed = image_seen(network("none"), "loss", batch, Drawn(0.3, perm))
    assert torch.equal(unmixed[:, 1], batch.mel)


@pytest.mark.parametrize("lam", ["0.0", "0.25", "0.6", "1.0"])
@pytest.mark.parametrize("mode", ["noisy_arcmix", "arcmix", "none"])
def test_golden_losses(mode: str, lam: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = golden("noisy_arcmix")
    net = network(mode, float(stored["m"]))
    with torch.no_grad():
        net.arcface.weight.copy_(tensor(stored["W"]))
    monkeypatch.setattr(net, "features", lambda batch: tensor(stored["x"]))  # given after mixing
    batch = Batch(label=torch.from_numpy(stored["y_a"]))
    loss = loss_of(net, batch, Drawn(float(lam), stored["perm"]))["loss"]
    expected = stored["ce_a"].mean() if mode == "none" else stored[f"{mode}_lam{lam}"]
    assert loss.item() == pytest.approx(expected, abs=1.5e-5)


def loss(mode: str, lam: float, margin: float) -> float:
    with torch.no_grad():
        return loss_of(network(mode, margin), clips(level=0.0), Drawn(lam, np.array([1, 2, 3, 4, 5, 0])))["loss"].item()


def test_without_margin_arcmix_and_noisy_arcmix_are_one() -> None:
    assert loss("arcmix", 0.4, margin=0.0) == pytest.approx(loss("noisy_arcmix", 0.4, margin=0.0), rel=1e-6)
    assert loss("arcmix", 0.4, margin=0.7) > loss("noisy_arcmix", 0.4, margin=0.7) + 1e-3


def test_a_clip_mixed_with_nothing_has_the_plain_loss() -> None:
    plain = loss("none", 0.4, margin=0.7)
    for mode in ("arcmix", "noisy_arcmix"):
        assert loss(mode, 1.0, margin=0.7) == pytest.approx(plain, rel=1e-6)


def test_validation_and_score_ignore_mixing() -> None:
    batch = clips(level=0.0)
    own = Batch(label=batch.label, candidates=functional.one_hot(batch.label, 5).bool(), wave=batch.wave, mel=batch.mel)
    with torch.no_grad():
        plain = network("none").valid_loss(own)
        for mode in ("noisy_arcmix", "arcmix"):
            torch.testing.assert_close(network(mode).valid_loss(own), plain)
        score = network().embed(own)[1]["native"]
    torch.testing.assert_close(score, plain)


def test_one_unit_cannot_be_told_apart() -> None:
    settings = TastgramSettings()
    assert METHOD.untrainable(settings, {"fan 00": 10})
    assert not METHOD.untrainable(settings, {"fan 00": 10, "fan 02": 10})
