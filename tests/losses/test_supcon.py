"""Supervised contrastive losses against golden vectors and their formulas written out in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from auscult.losses.supcon import noise_supcon, supcon
from support.fill import absolute_error, golden, tensor


@pytest.mark.parametrize("temperature", ["0.02", "0.07", "0.1"])
def test_golden(temperature: str) -> None:
    stored = golden("supcon")
    z, labels = tensor(stored["z_unit"]).requires_grad_(), torch.from_numpy(stored["labels"])
    loss = noise_supcon(z, labels, float(temperature), float(stored["base_temperature"]), "mean")
    loss.backward()
    assert loss.item() == pytest.approx(stored[f"loss_t{temperature}"], abs=1.5e-5)
    assert absolute_error(z.grad, stored[f"grad_t{temperature}"]) < 3e-6


def test_golden_equation_1_as_printed() -> None:
    stored = golden("supcon")
    z, labels = tensor(stored["z_unit"]), torch.from_numpy(stored["labels"])
    paper = noise_supcon(z, labels, 0.02, base_temperature=None, reduction="sum")
    assert paper.item() == pytest.approx(stored["paper_eq1_sum_t0.02"], abs=1.5e-4)
    assert paper.item() == pytest.approx(stored["per_anchor_t0.02"].sum(), abs=1.5e-4)


def equation_1(z: Tensor, labels: list[int], temperature: float) -> list[float]:
    dot = (z @ z.T).tolist()
    terms = []
    for i, label in enumerate(labels):
        rest = [a for a in range(len(labels)) if a != i]
        positive = [p for p in rest if labels[p] == label]
        total = sum(math.exp(dot[i][a] / temperature) for a in rest)
        logs = [math.log(math.exp(dot[i][p] / temperature) / total) for p in positive]
        terms.append(-sum(logs) / len(logs) if logs else 0.0)
    return terms


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=2, max_size=12), st.sampled_from([0.05, 0.2]))
@settings(max_examples=50, deadline=None)
def test_equals_loops(seed: int, labels: list[int], temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = functional.normalize(torch.randn(len(labels), 6, generator=generator, dtype=torch.float64))
    terms = equation_1(z, labels, temperature)
    ours = noise_supcon(z, torch.tensor(labels), temperature, base_temperature=None, reduction="sum")
    assert ours.item() == pytest.approx(sum(terms), rel=1e-9, abs=1e-9)
    mean = noise_supcon(z, torch.tensor(labels), temperature, base_temperature=0.07, reduction="mean")
    assert mean.item() == pytest.approx(sum(terms) / len(terms) * temperature / 0.07, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [1, 1], [0, 0, 0, 0]])
def test_degenerate_batches_are_finite(labels: list[int]) -> None:
    z = functional.normalize(torch.ones(len(labels), 8)).requires_grad_()
    loss = noise_supcon(z, torch.tensor(labels), 0.02, 0.07, "mean")
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()
    if len(set(labels)) == len(labels):
        assert loss.item() == 0
        assert not z.grad.any()


def test_ignores_mixed_precision() -> None:
    z = functional.normalize(torch.randn(8, 32, generator=torch.Generator().manual_seed(0)))
    labels = torch.arange(8) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = noise_supcon(z, labels, 0.02, 0.07, "mean")
    assert torch.equal(inside, noise_supcon(z, labels, 0.02, 0.07, "mean"))


def clp_scf_loss(z: np.ndarray, labels: list[int], temperature: float) -> float:
    """Anchor in its own denominator, anchors without a positive left out, mean over the others."""
    terms = []
    for i, label in enumerate(labels):
        positive = [p for p in range(len(labels)) if p != i and labels[p] == label]
        if positive:
            total = sum(np.exp(z[i] @ z[a] / temperature) for a in range(len(labels)))
            terms.append(-np.mean([np.log(np.exp(z[i] @ z[p] / temperature) / total) for p in positive]))
    return float(np.mean(terms)) if terms else 0.0


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=12), st.sampled_from([0.05, 0.1, 0.5]))
@settings(max_examples=50, deadline=None)
def test_clp_scf_equals_loops(seed: int, labels: list[int], temperature: float) -> None:
    z = np.random.default_rng(seed).standard_normal((len(labels), 6))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ours = supcon(torch.from_numpy(z), torch.tensor(labels), temperature)
    assert ours.item() == pytest.approx(clp_scf_loss(z, labels, temperature), rel=1e-9, abs=1e-12)
    single = supcon(torch.from_numpy(z).float(), torch.tensor(labels), temperature)
    assert single.item() == pytest.approx(ours.item(), rel=1e-4, abs=1e-5)


def test_clp_scf_gradient() -> None:
    z = functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    torch.autograd.gradcheck(lambda x: supcon(x, labels, 0.1), z.requires_grad_())


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [1, 1], [0, 0, 0, 0], [0, 0, 1]])
def test_clp_scf_degenerate_batches(labels: list[int]) -> None:
    z = torch.ones(len(labels), 8, requires_grad=True)
    loss = supcon(functional.normalize(z), torch.tensor(labels), 0.1)
    loss.backward()
    assert z.grad.isfinite().all()
    # All clips alike: every positive has an equal share of the denominator.
    expected = 0.0 if len(set(labels)) == len(labels) else math.log(len(labels))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_clp_scf_ignores_mixed_precision() -> None:
    z = functional.normalize(torch.randn(8, 32, generator=torch.Generator().manual_seed(0)))
    labels = torch.arange(8) % 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = supcon(z, labels, 0.1)
        low = supcon(z.bfloat16(), labels, 0.1)
    assert torch.equal(inside, supcon(z, labels, 0.1))
    assert low.dtype == torch.float32
