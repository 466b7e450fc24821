"""ArcFace and the margin score against golden vectors, brute force and the angle itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from auscult.losses.arcface import ArcFace, add_margin, margin_nll
from support.fill import absolute_error, golden, tensor

MARGINS = ["0.4", "0.7", "1.0"]


def loaded(weight: np.ndarray, margin: float, sub_centres: int = 1) -> ArcFace:
    head = ArcFace(weight.shape[1], len(weight) // sub_centres, 30.0, margin, sub_centres)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
    return head


@pytest.mark.parametrize("margin", MARGINS)
def test_golden_logits(margin: str) -> None:
    stored = golden("arcface")
    head = loaded(stored["W"], float(margin))
    labels = torch.from_numpy(stored["labels"])
    logits = head(tensor(stored["x"]), labels)
    assert absolute_error(logits, stored[f"logits_m{margin}"]) < 3e-5
    ce = functional.cross_entropy(logits, labels, reduction="none")
    assert absolute_error(ce, stored[f"ce_m{margin}"]) < 3e-5
    own = functional.one_hot(labels, 5).bool()
    cosine = head.cosine(tensor(stored["x"]))
    assert absolute_error(cosine, stored["cos"]) < 1e-6
    assert absolute_error(margin_nll(cosine, own, 30.0, float(margin)), stored[f"ce_m{margin}"]) < 3e-5


def test_golden_sub_centres() -> None:
    stored = golden("arcface")
    head = loaded(stored["Wsub"], 0.7, sub_centres=3)
    logits = head(tensor(stored["x"]), torch.from_numpy(stored["labels"]))
    assert absolute_error(logits, stored["logits_sub3_m0.7"]) < 3e-5


def test_classes_may_have_different_numbers_of_centres() -> None:
    """Against the largest of each class by itself; a single centre keeps its whole gradient."""
    counts = [1, 3, 2]
    head = ArcFace(8, 3, 30.0, 0.5, counts).double()
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = head.weight.split(counts)
    each = [functional.cosine_similarity(x[:, None], of[None], dim=2).amax(1) for of in rows]
    torch.testing.assert_close(head.cosine(x), torch.stack(each, 1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    ours = torch.autograd.grad(functional.cross_entropy(head(x, labels), labels), head.weight)[0]
    logits = torch.stack(each, 1)
    own = functional.one_hot(labels, 3).bool()
    logits = torch.where(own, add_margin(logits, 0.5), logits)
    theirs = torch.autograd.grad(functional.cross_entropy(30.0 * logits, labels), head.weight)[0]
    torch.testing.assert_close(ours, theirs)
    assert set(head.state_dict()) == {"weight"}


def test_golden_gradients() -> None:
    stored = golden("arcface")
    head = loaded(stored["W"], 0.4)
    x, labels = tensor(stored["x"]).requires_grad_(), torch.from_numpy(stored["labels"])
    loss = functional.cross_entropy(head(x, labels), labels)
    loss.backward()
    assert loss.item() == pytest.approx(stored["loss_mean_m04"], abs=3e-5)
    assert absolute_error(x.grad, stored["grad_x_m04"]) < 1.5e-6
    assert absolute_error(head.weight.grad, stored["grad_W_m04"]) < 1.5e-6


@given(st.floats(-1, 1), st.floats(0.05, 1.5))
@settings(max_examples=200, deadline=None)
def test_margin_is_an_angle(cosine: float, margin: float) -> None:
    shifted = add_margin(torch.tensor(cosine, dtype=torch.float64), margin).item()
    theta = math.acos(cosine)
    if theta + margin < math.pi - 1e-6:
        assert shifted == pytest.approx(math.cos(theta + margin), abs=1e-7)
    else:
        assert shifted <= -math.cos(margin) + 1e-6  # on the line that continues below


@pytest.mark.parametrize("margin", [0.4, 0.7, 1.0])
def test_margin_lowers_every_cosine_and_keeps_the_order(margin: float) -> None:
    cosine = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    shifted = add_margin(cosine, margin)
    assert (shifted < cosine).all()
    joint = cosine > math.cos(math.pi - margin)
    for part in (shifted[joint], shifted[~joint]):
        assert (part.diff() > 0).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_parallel_embeddings_stay_finite(sign: float) -> None:
    """Rounding makes the cosine of a vector with itself exceed one in a good part of these trials."""
    x = torch.randn(500, 128, generator=torch.Generator().manual_seed(0))
    head = ArcFace(128, 500, 30.0, 0.7)
    with torch.no_grad():
        head.weight.copy_(sign * x)
    embedding, labels = x.clone().requires_grad_(), torch.arange(500)
    assert (head.cosine(embedding).abs().diagonal() > 1).any()
    loss = functional.cross_entropy(head(embedding, labels), labels)
    loss.backward()
    assert loss.isfinite()
    assert embedding.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_zero_embedding_stays_finite() -> None:
    head, x = ArcFace(16, 3, 30.0, 0.7), torch.zeros(2, 16, requires_grad=True)
    head(x, torch.tensor([0, 2])).sum().backward()
    assert x.grad.isfinite().all()


def brute_force_nll(cosine: Tensor, candidates: Tensor, scale: float, margin: float) -> Tensor:
    rows = []
    for row, allowed in zip(cosine, candidates, strict=True):
        options = [math.inf]
        for c in allowed.nonzero().flatten().tolist():
            logits = row.clone()
            logits[c] = add_margin(row[c], margin)
            options.append(functional.cross_entropy(scale * logits[None], torch.tensor([c])).item())
        rows.append(min(options))
    return torch.tensor(rows, dtype=cosine.dtype)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.0, 0.4, 0.7]))
@settings(max_examples=50, deadline=None)
def test_margin_nll_equals_brute_force(seed: int, clips: int, classes: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    cosine = 2 * torch.rand(clips, classes, generator=generator, dtype=torch.float64) - 1
    candidates = torch.rand(clips, classes, generator=generator) < 0.5
    ours = margin_nll(cosine, candidates, 30.0, margin)
    torch.testing.assert_close(ours, brute_force_nll(cosine, candidates, 30.0, margin), rtol=1e-6, atol=1e-8)


def test_confident_clips_keep_their_order_in_float32() -> None:
    """Their cross-entropies, of order 1e-9, all round to zero when taken as a difference of two logits."""
    cosine = torch.tensor([[0.99, -0.30, 0.0], [0.99, -0.35, 0.0], [0.99, -0.40, -0.05]])
    own = torch.tensor([[True, False, False]] * 3)
    ours = margin_nll(cosine, own, 30.0, 0.4)
    exact = brute_force_nll(cosine.double(), own, 30.0, 0.4)
    assert (ours.diff() < 0).all()
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=0)


def test_cosine_ignores_mixed_precision() -> None:
    head, x = ArcFace(64, 5, 30.0, 0.7), torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head.cosine(x), ArcFace.cosine(head, x.float()))
        assert head.cosine(x.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head.cosine(x)
    assert torch.equal(inside, head.cosine(x))


def test_parameter_count() -> None:
    assert ArcFace(128, 41, 30.0, 0.7).weight.numel() == 5_248
    assert ArcFace(128, 41, 30.0, 0.7, sub_centres=3).weight.numel() == 3 * 5_248
