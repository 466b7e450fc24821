"""Sub-cluster AdaCos against a brute-force version in NumPy, AdaCos as published, and its gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from auscult.losses.adacos import SubClusterAdaCos, mixed_cross_entropy
from support.fill import v

DIM, CLASSES, BATCH = 6, 5, 8


def make(sub_clusters: int, closeness: float = 0.0) -> tuple[SubClusterAdaCos, torch.Tensor, torch.Tensor]:
    """Loss, embeddings and shares in double; `closeness` pulls each embedding to the first centre of its class."""
    torch.manual_seed(3)
    loss = SubClusterAdaCos(DIM, CLASSES, sub_clusters).double()
    first = np.arange(BATCH) % CLASSES
    centre = loss.centres()[first, 0].detach()
    x = torch.from_numpy(v("x", (BATCH, DIM))) * (1 - closeness) + closeness * centre
    lam = torch.from_numpy(0.5 + 0.5 * v("lam", (BATCH, 1)))
    shares = one_hot(torch.from_numpy(first), CLASSES).double()
    return loss, x, lam * shares + (1 - lam) * shares.flip(0)


def reference(
    loss: SubClusterAdaCos, x: np.ndarray, shares: np.ndarray, train: bool
) -> tuple[np.ndarray, float, float]:
    """Class probabilities, scale and median angle as the code describes them, clip by clip and centre by centre."""
    weight, n, s = loss.weight.detach().numpy(), loss.sub_clusters, float(loss.scale)
    rows, median = range(CLASSES * n), math.nan
    cosine = np.array([[w @ e / np.linalg.norm(w) / np.linalg.norm(e) for w in weight] for e in x])
    if train:
        largest = (s * cosine).max()
        b_avg = np.mean([sum(math.exp(s * cosine[i, j] - largest) for j in rows) for i in range(BATCH)])
        angles = []
        for i in range(BATCH):
            angle = sum(shares[i, j // n] * math.acos(cosine[i, j]) for j in rows)
            angles.append(angle * np.count_nonzero(shares[i]))
        median = sorted(angles)[4]  # 3.5 rounds to the even 4
        s = (largest + math.log(b_avg)) / math.cos(min(math.pi / 4, median))
    exponentials = np.exp(s * cosine)
    each = exponentials / exponentials.sum(1, keepdims=True)
    return np.array([[sum(row[c * n : c * n + n]) for c in range(CLASSES)] for row in each]), s, median


@pytest.mark.parametrize("closeness", [0.0, 0.98])
@pytest.mark.parametrize("sub_clusters", [1, 3])
def test_probabilities_and_scale_equal_brute_force(sub_clusters: int, closeness: float) -> None:
    loss, x, shares = make(sub_clusters, closeness)
    if closeness and sub_clusters == 1:
        shares = one_hot(torch.arange(BATCH) % CLASSES, CLASSES).double()  # only unmixed clips come below pi/4
    for _ in range(3):  # the scale moves from step to step
        expected, scale, median = reference(loss, x.numpy(), shares.numpy(), train=True)
        probabilities = loss(x, shares).exp()
        np.testing.assert_allclose(probabilities.detach(), expected, rtol=1e-9)
        assert float(loss.scale) == pytest.approx(scale, rel=1e-9)
        assert (median < math.pi / 4) == (closeness > 0 and sub_clusters == 1), "both sides of the limit are tested"
    np.testing.assert_allclose(probabilities.sum(1).detach(), np.ones(BATCH))


@pytest.mark.parametrize(("classes", "sub_clusters"), [(41, 1), (41, 64), (2, 1)])
def test_initial_scale(classes: int, sub_clusters: int) -> None:
    expected = math.sqrt(2) * math.log(classes * sub_clusters - 1)
    loss = SubClusterAdaCos(DIM, classes, sub_clusters)
    assert float(loss.scale) == pytest.approx(expected, rel=1e-6)
    assert loss.scale.dtype == torch.float32


def test_scale_rests_in_evaluation_and_is_saved() -> None:
    loss, x, shares = make(2)
    loss(x, shares)
    state = loss.state_dict()
    assert "scale" in state
    other = SubClusterAdaCos(DIM, CLASSES, 2).double().eval()
    other.load_state_dict(state)
    before = float(other.scale)
    expected, *_ = reference(other, x.numpy(), shares.numpy(), train=False)
    np.testing.assert_allclose(other(x, shares).exp().detach(), expected, rtol=1e-9)
    assert float(other.scale) == before == float(loss.scale)


def test_one_sub_cluster_is_softmax_over_scaled_cosines() -> None:
    """AdaCos: cross-entropy of s cos(theta), here with the labels of unmixed clips."""
    loss, x, _ = make(1)
    label = torch.arange(BATCH) % CLASSES
    shares = one_hot(label, CLASSES).double()
    loss.eval()
    cosine = torch.nn.functional.normalize(x) @ loss.centres().squeeze(1).T
    expected = cross_entropy(loss.scale * cosine, label, reduction="none")
    torch.testing.assert_close(mixed_cross_entropy(loss(x, shares), shares), expected)


def test_no_gradient_passes_through_the_scale() -> None:
    """The gradient is that of a loss whose scale is the constant the step has just set."""
    loss, x, shares = make(3)
    x.requires_grad_()
    mixed_cross_entropy(loss(x, shares), shares).sum().backward()
    got, got_weight = x.grad.clone(), loss.weight.grad.clone()
    x.grad, loss.weight.grad = None, None
    loss.eval()
    mixed_cross_entropy(loss(x, shares), shares).sum().backward()
    torch.testing.assert_close(got, x.grad)
    torch.testing.assert_close(got_weight, loss.weight.grad)
    assert not loss.scale.requires_grad
    # Only the direction counts: no gradient along an embedding or a centre.
    radial = torch.cat([(x.grad * x).sum(1), (loss.weight.grad * loss.weight).sum(1)])
    torch.testing.assert_close(radial, torch.zeros_like(radial), atol=1e-12, rtol=0)


def test_float32_under_autocast_and_two_passes_before_backward() -> None:
    loss = SubClusterAdaCos(DIM, CLASSES, 2)
    shares = torch.eye(CLASSES)
    x = torch.from_numpy(v("x", (CLASSES, DIM))).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        first = loss(x, shares)
        assert first.dtype == loss.scale.dtype == torch.float32
        (first.sum() + loss(x, shares).sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_identical_and_opposite_embeddings_stay_finite() -> None:
    loss = SubClusterAdaCos(DIM, CLASSES, 2)
    x = torch.cat([loss.weight.detach()[:1]] * 3 + [-loss.weight.detach()[:1], torch.zeros(1, DIM)]).requires_grad_()
    mixed_cross_entropy(loss(x, torch.eye(CLASSES)), torch.eye(CLASSES)).sum().backward()
    assert torch.isfinite(loss.scale)
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(loss.weight.grad).all()
