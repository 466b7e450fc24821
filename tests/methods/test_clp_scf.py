"""CLP-SCF: both phases written out in NumPy on the golden encoder, and what one phase hands to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.methods.base import Batch, Network, Shape
from auscult.methods.clp_scf import METHOD, ClpScf, ClpScfSettings, ContrastivePretraining
from auscult.methods.stgram_mfn import StgramMfn, StgramMfnSettings
from support.fill import fill, golden, relative_error, tensor, v

SHAPE = Shape(classes=41, mels=128, frames=313, samples=160_000)
SMALL = Shape(classes=3, mels=16, frames=32, samples=16_000)
SETTINGS = ClpScfSettings()


class Given(nn.Module):
    """In the place of the Tgram: a known channel."""

    def __init__(self, channel: Tensor) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, wave: Tensor) -> Tensor:
        return self.channel


def golden_clips(network: Any) -> Batch:
    """Fill the encoder by the golden rule and give the batch that shows it the golden image."""
    fill(network.stgram.mfn, "mfnorig/")
    image = tensor(v("mfnorig/input", (2, 2, 128, 313)))
    network.stgram.tgram = Given(image[:, 1])
    network.eval()
    labels = torch.tensor([5, 5])
    return Batch(
        label=labels, candidates=functional.one_hot(labels, 41).bool(), wave=torch.zeros(2, 8), mel=image[:, 0]
    )


def linear_batch_norm(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Linear layer and batch norm by running statistics, in double precision."""
    w = {key: value.double().numpy() for key, value in layer.state_dict().items()}
    y = x @ w["fc.weight"].T
    return (y - w["bn.running_mean"]) / np.sqrt(w["bn.running_var"] + 1e-5) * w["bn.weight"] + w["bn.bias"]


def test_fine_tuning_network() -> None:
    network = ClpScf(SETTINGS, SHAPE)
    batch = golden_clips(network)
    fill(network.projection, "clp/projection.")
    stored = golden("mfn_original_plan")["eval_embedding"]
    with torch.no_grad():
        encoded = network.stgram(batch.mel, batch.wave)
        x, scores = network.embed(batch)
    assert relative_error(encoded, stored) < 1.2e-5
    expected = linear_batch_norm(stored, network.projection)  # no ReLU after it
    assert relative_error(x, expected) < 1.2e-5
    assert (expected < 0).any()

    centres = network.arcface.weight.detach().double().numpy()
    angles = np.arccos(
        (expected / np.linalg.norm(expected, axis=1, keepdims=True))
        @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    )
    angles[:, 5] += 1.0  # the margin
    logits = 30 * np.cos(angles)
    nll = np.log(np.exp(logits).sum(1)) - logits[:, 5]
    np.testing.assert_allclose(scores["native"].numpy(), nll, rtol=2e-5, atol=2e-5)


def test_contrastive_phase() -> None:
    network = ContrastivePretraining(SETTINGS, SHAPE)
    batch = golden_clips(network)
    fill(network.projection, "clp/projection.")
    fill(network.rest, "clp/rest.")
    z = linear_batch_norm(golden("mfn_original_plan")["eval_embedding"], network.projection)
    z = linear_batch_norm(np.maximum(z, 0), network.rest[1])
    z = linear_batch_norm(np.maximum(z, 0), network.rest[3])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    s = (z @ z.T) / 0.1
    expected = np.mean([np.log(np.exp(s[i, 0]) + np.exp(s[i, 1])) - s[i, 1 - i] for i in range(2)])
    assert expected > 0.05
    with torch.no_grad():
        loss = network.loss(batch, {})["loss"]
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-4)


def small_batch(labels: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        label=torch.tensor(labels),
        wave=0.1 * torch.randn(len(labels), SMALL.samples, generator=generator),
        mel=-40 + 10 * torch.randn(len(labels), SMALL.mels, SMALL.frames, generator=generator),
    )


def step(network: Network, batch: Batch) -> Tensor:
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    loss = network.train().loss(batch, {})["loss"]
    loss.backward()
    optimizer.step()
    network.eval()
    return loss.detach()


def test_the_second_phase_starts_from_the_first() -> None:
    first, last = (phase.build(SMALL) for phase in METHOD.trainings(SETTINGS))
    assert isinstance(first, ContrastivePretraining)
    assert isinstance(last, ClpScf)
    batch = small_batch([0, 1, 0, 2, 1, 2])
    step(first, batch)
    centres = last.arcface.weight.detach().clone()
    with torch.no_grad():
        taught = first.projection(first.stgram(batch.mel, batch.wave))
        assert (last.eval().features(batch) - taught).norm() > 0.5 * taught.norm()
        last.adopt(first)
        assert torch.equal(last.features(batch), taught)
    assert torch.equal(last.arcface.weight, centres)

    kept = {key: value.clone() for key, value in first.state_dict().items()}
    step(last, batch)  # they share no memory
    assert all(torch.equal(value, kept[key]) for key, value in first.state_dict().items())
    assert not torch.equal(last.projection.fc.weight, first.projection.fc.weight)


def test_phases_have_their_own_schedules() -> None:
    settings = ClpScfSettings(valid_fraction=0.1, selection="valid_loss", weight_decay=0.01)
    first, last = METHOD.trainings(settings)
    assert (first.name, last.name) == ("pretrain", "")
    trained = (first.settings.epochs, first.settings.batch_size, first.settings.lr, first.settings.schedule)
    assert trained == (100, 128, 5e-4, "constant")
    assert (first.settings.valid_fraction, first.settings.selection) == (0.0, "last")
    assert first.settings.weight_decay == 0.01
    assert METHOD.mel(first.settings) == METHOD.mel(settings)
    assert last.settings is settings


def test_a_batch_without_two_clips_of_a_unit_teaches_nothing() -> None:
    network = ContrastivePretraining(SETTINGS, SMALL)
    loss = network.train().loss(small_batch([0, 1, 2]), {})["loss"]
    loss.backward()
    assert loss.item() == 0
    gradients = [parameter.grad for parameter in network.parameters()]
    assert not any(gradient.any() for gradient in gradients if gradient is not None)
    assert gradients[0] is not None


def test_training_steps_on_silence_are_finite() -> None:
    silence = Batch(
        label=torch.tensor([0, 0, 1, 1]), wave=torch.zeros(4, SMALL.samples), mel=torch.full((4, 16, 32), -100.0)
    )
    for phase in METHOD.trainings(SETTINGS):
        network = phase.build(SMALL)
        assert step(network, silence).isfinite()
        assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_encoder_is_that_of_stgram_mfn_first_release() -> None:
    theirs = StgramMfn(StgramMfnSettings(plan="original"), SMALL).stgram.state_dict()
    ours = ClpScf(SETTINGS, SMALL).stgram.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
