"""The method around the multi-branch CNN: draws, mixing, the switch of the loss, arrays."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from auscult.detector.onnx import export as exporting
from auscult.losses.adaproj import AdaProj
from auscult.losses.featex import FeatExLoss
from auscult.losses.scac import SubClusterAdaCos, sub_cluster_loss
from auscult.losses.subspace import SubSpaceLoss
from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.multires import MultiRes, MultiresSettings
from auscult.settings.sections import LossSettings
from auscult.training.modelfolder import Trained
from support.fill import v

SAMPLES, CLASSES = 16_000, 3
KINDS = get_args(LossSettings.model_fields["kind"].annotation)
LABELS = torch.tensor([0, 1, 2, 1, 0, 2])


def network(kind: str = "scac_trainable", frontend: str = "", **settings: object) -> MultiRes:
    torch.manual_seed(0)
    values = {"ffts": [1024], "width": 16, "hidden": [24], "frontend": frontend, **settings}
    values["loss"] = {"kind": kind, "sub_clusters": 4, "directions": 4, **dict(settings.get("loss", {}))}  # type: ignore[call-overload]
    shape = Shape(CLASSES, 6, 5, 0) if frontend else Shape(CLASSES, 0, 0, SAMPLES)
    return MultiRes(MultiresSettings.model_validate(values), shape)


def batch(arrays: bool = False) -> Batch:
    if arrays:
        return Batch(label=LABELS, mel=torch.from_numpy(v("mel", (6, 6, 5))).float().abs())
    return Batch(label=LABELS, wave=0.1 * torch.from_numpy(v("wave", (6, SAMPLES))).float())


def loss_of(net: MultiRes, data: Batch, seed: int) -> dict[str, torch.Tensor]:
    return net.loss(data, net.draw(data, np.random.default_rng(seed)))


def test_what_is_drawn() -> None:
    """Each at the rate that is asked for, permutations that are some, and the same of the same generator."""
    net = network("featex", ffts=[256, 1024], mix=0.3, loss={"exchange": 0.6})
    many = Batch(label=torch.zeros(4000, dtype=torch.int64))
    drawn = net.draw(many, np.random.default_rng(1))
    share = drawn["share"]
    assert float((share < 1).float().mean()) == pytest.approx(0.3, abs=0.03)
    mixed = share[share < 1]
    assert float(mixed.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(mixed.var()) == pytest.approx(1 / 12, abs=0.01)
    assert float(drawn["exchange"].float().mean()) == pytest.approx(0.6, abs=0.03)
    rows = [drawn["partner"], *drawn["partners"]]
    assert len(rows) == 3
    for row in rows:
        assert torch.equal(row.sort().values, torch.arange(4000))
    assert not any(torch.equal(one, two) for i, one in enumerate(rows) for two in rows[:i])
    again = net.draw(many, np.random.default_rng(1))
    assert all(torch.equal(again[name], value) for name, value in drawn.items())


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("scac_fixed", SubClusterAdaCos),
        ("scac_trainable", SubClusterAdaCos),
        ("subspace", SubSpaceLoss),
        ("featex", FeatExLoss),
        ("adaproj", AdaProj),
    ],
)
def test_the_switch(kind: str, cls: type) -> None:
    net = network(kind)
    assert type(net.angular) is cls
    trained = sum(weight.numel() for weight in net.angular.parameters())
    centres = CLASSES * 4 * 32
    expected = {"scac_trainable": centres, "subspace": CLASSES * 4 * 16 * 2, "featex": 3 * centres}
    assert trained == expected.get(kind, 0)
    assert {"scac_fixed", "scac_trainable", "subspace", "featex", "adaproj"} == set(KINDS)


@pytest.mark.parametrize("frontend", ["", "arrays"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_is_learnt(kind: str, frontend: str) -> None:
    """Thirty steps on six clips bring the loss of unmixed clips well below that of the start."""
    net = network(kind, frontend, mix=0.0, loss={"exchange": 0.0})
    data = batch(bool(frontend))
    net.prepare([data])
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    net.train()
    losses = []
    for step in range(30):
        loss = loss_of(net, data, step)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert net.eval().valid_loss(data).shape == (6,)


@pytest.mark.parametrize("frontend", ["", "arrays"])
def test_mixing_by_hand(frontend: str) -> None:
    """Of waveforms, or of z-scored values; the shares of the classes alike."""
    net, data = network("scac_fixed", frontend, mix=1.0).eval(), batch(bool(frontend))
    net.prepare([data])
    drawn = net.draw(data, np.random.default_rng(7))
    found = net.loss(data, drawn)["loss"]
    x, y = net.heard(data), torch.eye(CLASSES)[LABELS]
    mixed, targets = [], []
    for clip, (share, other) in enumerate(zip(drawn["share"][:, 0], drawn["partner"], strict=True)):
        mixed.append(share * x[clip] + (1 - share) * x[other])
        targets.append(share * y[clip] + (1 - share) * y[other])
    embedding = net.embedding(torch.stack(mixed))
    expected = sub_cluster_loss(embedding, net.angular.weight, torch.stack(targets), net.angular.scale)
    torch.testing.assert_close(found, expected)


def test_unmixed_clips_are_the_clips_to_the_bit() -> None:
    net, data = network("scac_fixed", mix=0.0).eval(), batch()
    y = torch.eye(CLASSES)[LABELS]
    expected = sub_cluster_loss(net.embed(data)[0], net.angular.weight, y, net.angular.scale)
    assert torch.equal(loss_of(net, data, 0)["loss"], expected)


def test_exact_spectra_differ_by_rounding_alone() -> None:
    net, data = network().eval(), batch()
    single = net.embed(data)[0]
    net.exact_spectra()
    exact = net.embed(data)[0]
    assert 0 < float(((single - exact).abs().max() / exact.abs().max()).detach()) < 1e-4


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in exporting.PACKAGES), reason="the group `export` is missing"
)
def test_it_can_be_exported(tmp_path: Path) -> None:
    """With its transforms, in float64 as a detector computes them."""
    method = load_method("multires")
    net, waves = network(), exporting.probes(SAMPLES, 8)
    net.exact_spectra()
    with torch.no_grad():
        for _ in range(3):  # the statistics of these sounds: with others no score depends on the sound
            net.train().embed(Batch(wave=torch.from_numpy(waves)))
    trained = Trained(method, net.settings, {"all": net.eval()}, {}, {"all": Shape(CLASSES, 0, 0, SAMPLES)}, {})
    model = exporting.scorer(trained, 16_000, v("bank", (10, 32)).astype(np.float32), 1, "cosine")
    exporting.write(model, SAMPLES, tmp_path / "m.onnx", {})
    with torch.no_grad():
        expected = model(torch.from_numpy(waves)).double().numpy()
    assert exporting.difference(tmp_path / "m.onnx", expected, waves) < 1e-6
    assert np.ptp(expected) > 1e-3
