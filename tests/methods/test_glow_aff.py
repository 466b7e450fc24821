"""Glow_Aff: what the outlier term does, whose flow scores, and the types that have too little for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.methods.base import Batch, Shape
from auscult.methods.glow_aff import METHOD, GlowAff, GlowAffSettings, _pick, untrainable, window
from support.draws import loss_of

SMALL = {"levels": 2, "steps": 1, "hidden": 8, "hop": 4, "lr": 5e-3}
SHAPE = Shape(classes=2, mels=16, frames=40, samples=20_480)


def settings(**changes: object) -> GlowAffSettings:
    return GlowAffSettings.model_validate({**SMALL, **changes})


def toy(clips: int, units: int = 2, seed: int = 0) -> Batch:
    """Clips in dB whose gain varies, of units that differ in one line: band 4 or 9, no louder than the noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(clips) % units
    mel = -40 + 3 * torch.randn(clips, 16, 40, generator=generator) + 3 * torch.randn(clips, 1, 1, generator=generator)
    mel[torch.arange(clips), 4 + 5 * label] += 3 + torch.rand(clips, 1, generator=generator)
    return Batch(label=label, mel=mel)


def build(changes: dict[str, object] | None = None, shape: Shape = SHAPE, batch: Batch | None = None) -> GlowAff:
    torch.manual_seed(0)
    network = GlowAff(settings(**(changes or {})), shape)
    with torch.inference_mode():
        network.prepare([batch or toy(32, shape.classes)])
    return network


def trained(changes: dict[str, object], steps: int = 40) -> GlowAff:
    network, batch = build(changes), toy(32)
    assert batch.mel is not None
    optimizer = torch.optim.Adam(network.parameters(), lr=network.settings.lr)
    for step in range(steps):
        rng = np.random.default_rng(step)
        mel = batch.mel.unfold(2, network.window, 1)[:, :, rng.integers(9)]
        optimizer.zero_grad()
        loss_of(network, Batch(label=batch.label, mel=mel), rng)["loss"].backward()
        optimizer.step()
    return network.eval()


def scores(network: GlowAff, batch: Batch) -> torch.Tensor:
    """NLL of every clip under every unit's flow [B, C]."""
    units = torch.eye(len(network.flows), dtype=torch.bool)
    assert batch.mel is not None
    with torch.inference_mode():
        columns = [
            network.embed(Batch(mel=batch.mel, candidates=unit.expand(len(batch.mel), -1)))[1]["native"]
            for unit in units
        ]
    return torch.stack(columns, 1)


@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_the_outlier_term_pushes_other_units_away(coupling: str) -> None:
    fresh = toy(40, seed=1)
    assert fresh.label is not None
    own = torch.nn.functional.one_hot(fresh.label).bool()
    gaps = {}
    for weight in (0.0, 1.0):
        nll = scores(trained({"outlier_weight": weight, "coupling": coupling}), fresh)
        gaps[weight] = float((nll[~own] - nll[own]).mean())
    assert gaps[1.0] > gaps[0.0] + 0.1
    assert gaps[1.0] < 3, "the hinge lets go of what is unlikely enough"


def test_training_raises_the_likelihood_of_held_out_clips() -> None:
    """What it can learn here is that the bands of a clip rise and fall together."""
    fresh = toy(40, seed=1)
    before, after = build().eval(), trained({"outlier_weight": 0.0})
    with torch.inference_mode():
        assert after.valid_loss(fresh).mean() < before.valid_loss(fresh).mean() - 0.02


def test_the_loss_is_what_its_parts_say() -> None:
    """By hand, item by item, from a batch with as many windows as the flows see."""
    network, batch = build({"margin": 0.05, "outlier_weight": 0.5}), toy(6)
    batch = Batch(label=torch.tensor([0, 0, 0, 1, 1, 1]), mel=batch.mel[:, :, :32])  # type: ignore[index]
    parts = loss_of(network, batch)
    assert batch.mel is not None
    assert batch.label is not None
    targets, hinges = [], []
    for unit, flow in enumerate(network.flows):
        normal = ((batch.mel - network.mean) / network.std).clamp(-10, 10)
        nll = [float(flow.nll(*flow(clip[None])).detach()) for clip in normal]
        own = [value for value, label in zip(nll, batch.label, strict=True) if label == unit]
        targets.append(np.mean(own))
        others = [value for value, label in zip(nll, batch.label, strict=True) if label != unit]
        hinges.append(np.mean([max(0.0, np.mean(own) + 0.05 - value) for value in others]))
    assert float(parts["nll"].detach()) == pytest.approx(np.mean(targets), rel=1e-5)
    assert float(parts["outlier"].detach()) == pytest.approx(np.mean(hinges), rel=1e-4)
    assert np.mean(hinges) > 0
    assert float(parts["loss"].detach()) == pytest.approx(np.mean(targets) + 0.5 * np.mean(hinges), rel=1e-5)


def test_the_hinge_moves_other_units_and_not_the_targets() -> None:
    """Its gradient is that of the others' NLL alone, although it is measured from the targets'."""
    network, batch = build({"margin": 100.0}), toy(6)
    assert batch.mel is not None
    assert batch.label is not None
    mel = batch.mel[:, :, :32]
    hinge = loss_of(network, Batch(label=batch.label, mel=mel))["outlier"]
    others = [
        flow.nll(*flow(network._normalised(mel[batch.label != unit]))).mean() for unit, flow in enumerate(network.flows)
    ]
    weights = list(network.parameters())
    for found, expected in zip(
        torch.autograd.grad(hinge, weights), torch.autograd.grad(-torch.stack(others).mean(), weights), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_flow_without_targets_in_the_batch_is_left_alone() -> None:
    """Its hinge has nothing to be relative to, and the mean is over the flows that are there."""
    network, batch = build({"margin": 100.0}), toy(4)
    assert batch.mel is not None
    mel = batch.mel[:, :, :32]
    parts = loss_of(network, Batch(label=torch.zeros(4, dtype=torch.int64), mel=mel))
    parts["loss"].backward()
    first, second = network.flows
    noise = network.draw(batch, np.random.default_rng(0))["noise"]  # as loss_of
    rows = _pick(torch.zeros(4), torch.arange(2)[:, None], noise, True)[0]
    nll = first.nll(*first(network._normalised(mel[rows]))).detach()
    assert float(parts["nll"].detach()) == pytest.approx(float(nll.mean()), rel=1e-5)
    assert float(parts["outlier"].detach()) == 0
    assert all(not p.grad.any() for p in second.parameters() if p.grad is not None)
    assert any(p.grad.any() for p in first.parameters() if p.grad is not None)


@pytest.mark.parametrize(("classes", "batch"), [(1, 5), (2, 7), (2, 8), (7, 64), (7, 5), (3, 2)])
def test_each_flow_sees_its_own_unit_first_and_no_row_twice(classes: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    label = torch.from_numpy(rng.integers(classes, size=batch))
    units = torch.arange(classes)[:, None]
    quota = -(-batch // classes)
    noise = torch.from_numpy(rng.random((classes, batch), np.float32))
    pick = _pick(label, units, noise, outliers=classes > 1)
    for unit, rows in enumerate(pick.tolist()):
        assert len(set(rows)) == len(rows) <= 2 * quota
        assert sum(label[rows[:quota]] == unit) == min(quota, sum(label == unit))
    assert _pick(label, units, noise, outliers=False).shape == (classes, quota)


def test_the_score_is_that_of_the_candidates_flows_only() -> None:
    network, batch = build(), toy(6, seed=1)
    assert batch.mel is not None
    nll = scores(network.eval(), batch)
    both = Batch(mel=batch.mel, candidates=torch.ones(6, 2, dtype=torch.bool))
    first = Batch(mel=batch.mel, candidates=torch.tensor([True, False]).expand(6, 2))
    with torch.inference_mode():
        embedding, native = network.embed(both)
        torch.testing.assert_close(native["native"], nll.amin(1))
        alone = network.embed(first)[0]
        nearest = nll[:, 0] < nll[:, 1]
        torch.testing.assert_close(embedding[nearest], alone[nearest])
        for weight in network.flows[1].parameters():
            weight.fill_(float("nan"))
        torch.testing.assert_close(network.embed(first)[1]["native"], nll[:, 0])
    assert embedding.shape == (6, 2 * (2 * 8 + 8 * 4))


def test_score_and_embedding_are_means_over_the_windows_of_the_grid() -> None:
    network, batch = build({"hop": 4}), toy(3, seed=1)
    assert batch.mel is not None
    with torch.inference_mode():
        embedding, native = network.eval().embed(Batch(mel=batch.mel, candidates=torch.tensor([[True, False]] * 3)))
        normal = ((batch.mel - network.mean) / network.std).clamp(-10, 10)
        passes = [network.flows[0](normal[:, :, start : start + 32]) for start in (0, 4, 8)]
        nll = torch.stack([network.flows[0].nll(*each) for each in passes]).mean(0)
        first_row = torch.cat(
            [latent[0][:, 0, 0] for latent, _ in passes], 1
        )  # channel 0, row 0, all windows and frames
    torch.testing.assert_close(native["native"], nll)
    torch.testing.assert_close(embedding[:, 0], first_row.mean(1))
    torch.testing.assert_close(embedding[:, 2 * 8], first_row.square().mean(1).sqrt())


def test_statistics_are_those_of_all_clips() -> None:
    batch = toy(10)
    assert batch.mel is not None
    assert batch.label is not None
    network = GlowAff(settings(), SHAPE)
    halves = [Batch(label=batch.label[half], mel=batch.mel[half]) for half in (slice(0, 3), slice(3, 10))]
    with torch.inference_mode():
        network.prepare(iter(halves))
    every = batch.mel.transpose(0, 1).flatten(1)
    torch.testing.assert_close(network.mean[:, 0], every.mean(1))
    torch.testing.assert_close(network.std[:, 0], every.std(1, correction=0))
    assert not network.mean.is_inference()


def test_a_type_with_one_unit_is_a_plain_flow() -> None:
    assert untrainable(settings(), {"fan/00": 20}) == ""
    network = build({}, Shape(1, 16, 40, 20_480))
    batch = toy(6, units=1)
    parts = loss_of(network, Batch(label=batch.label, mel=batch.mel[:, :, :32]))  # type: ignore[index]
    assert set(parts) == {"loss"}
    parts["loss"].backward()
    with torch.inference_mode():
        nll = network.flows[0].nll(*network.flows[0](network._normalised(batch.mel[:, :, :32])))  # type: ignore[index]
    assert float(parts["loss"].detach()) == pytest.approx(float(nll.mean()), rel=1e-5)


def test_a_unit_with_too_few_clips_is_named() -> None:
    assert untrainable(settings(), {"fan/00": 4, "fan/02": 900}) == ""
    message = untrainable(settings(), {"fan/00": 3, "fan/02": 900})
    assert "`fan/00` has 3" in message
    assert "needs 4" in message
    assert "fan/02" not in message


@pytest.mark.parametrize(("frames", "expected"), [(313, 32), (63, 32), (32, 32), (31, 28), (4, 4), (3, 4)])
def test_window_fits_the_clip_and_the_squeezes(frames: int, expected: int) -> None:
    assert METHOD.window(settings(), frames) == window(settings(), frames) == expected


def test_silence_is_unlikely_but_finite() -> None:
    network = trained({}, steps=10)
    silence = Batch(mel=torch.full((2, 16, 40), -100.0), label=torch.tensor([0, 1]))
    nll = scores(network, silence)
    assert torch.isfinite(nll).all()
    assert (nll > scores(network, toy(20, seed=1)).max()).all()


def test_mixed_precision_leaves_the_likelihood_in_float32() -> None:
    network, batch = trained({}, steps=10), toy(8, seed=1)
    with torch.inference_mode():
        exact = network.valid_loss(batch)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network.valid_loss(batch)
            loss = loss_of(network, Batch(label=batch.label, mel=batch.mel[:, :, :32]))["loss"]  # type: ignore[index]
    assert mixed.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, rtol=0.01, atol=0)
