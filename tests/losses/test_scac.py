"""Sub-cluster AdaCos with a fixed scale against a brute-force version in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize, one_hot

from auscult.losses.scac import SubClusterAdaCos, sub_cluster_loss
from support.fill import v

DIM, CLASSES, SUB, BATCH, SCALE = 6, 4, 3, 7, 5.0


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, centres = torch.from_numpy(v("x", (BATCH, DIM))), torch.from_numpy(v("w", (CLASSES, SUB, DIM)))
    shares = torch.from_numpy(v("y", (BATCH, CLASSES))).abs()
    return x, centres, shares / shares.sum(1, keepdim=True)


def brute_force(x: np.ndarray, centres: np.ndarray, targets: np.ndarray, scale: float) -> float:
    losses = []
    for e, y in zip(x, targets, strict=True):
        each = [
            [math.exp(scale * (w @ e) / np.linalg.norm(w) / np.linalg.norm(e)) for w in members] for members in centres
        ]
        total = sum(map(sum, each))
        losses.append(-sum(share * math.log(sum(members) / total) for share, members in zip(y, each, strict=True)))
    return float(np.mean(losses))


@pytest.mark.parametrize("scale", [0.5, SCALE, 30.0])
def test_equals_brute_force(scale: float) -> None:
    x, centres, targets = inputs()
    expected = brute_force(x.numpy(), centres.numpy(), targets.numpy(), scale)
    assert float(sub_cluster_loss(x, centres, targets, scale)) == pytest.approx(expected, rel=1e-12)
    assert float(sub_cluster_loss(7 * x, 3 * centres, targets, scale)) == pytest.approx(expected, rel=1e-12)


def test_gradient_is_that_of_the_equation() -> None:
    x, centres, targets = (part.requires_grad_() for part in inputs())
    assert torch.autograd.gradcheck(lambda *parts: sub_cluster_loss(*parts, SCALE), (x, centres, targets))


def test_one_centre_and_hard_labels_are_cross_entropy_of_cosines() -> None:
    x, centres, _ = inputs()
    label = torch.arange(BATCH) % CLASSES
    one = centres[:, :1]
    expected = cross_entropy(SCALE * normalize(x) @ normalize(one[:, 0]).T, label)
    torch.testing.assert_close(sub_cluster_loss(x, one, one_hot(label, CLASSES).double(), SCALE), expected)


def test_equal_centres_of_a_class_count_as_one() -> None:
    """Where all classes have equally many, K equal centres give K/(C K) = 1/C of the mass, as one does."""
    x, centres, targets = inputs()
    one = centres[:, :1]
    torch.testing.assert_close(
        sub_cluster_loss(x, one.expand(-1, SUB, -1), targets, SCALE), sub_cluster_loss(x, one, targets, SCALE)
    )


def test_large_scales_stay_finite() -> None:
    x, centres, targets = (part.float() for part in inputs())
    x.requires_grad_()
    loss = sub_cluster_loss(x, centres, targets, 1e4)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


def test_centres_and_scale() -> None:
    """Fixed ones are saved but not trained; the scale moves in neither; one seed, one set of centres."""
    made = [
        SubClusterAdaCos(DIM, CLASSES, SUB, trainable=trainable, generator=torch.Generator().manual_seed(5))
        for trainable in (False, True)
    ]
    for loss, trained in zip(made, (0, CLASSES * SUB * DIM), strict=True):
        assert sum(weight.numel() for weight in loss.parameters()) == trained
        assert list(loss.state_dict()) == ["weight"]
        assert loss.weight.shape == (CLASSES, SUB, DIM)
        assert loss.scale == pytest.approx(math.sqrt(2) * math.log(CLASSES * SUB - 1))
        x, _, targets = (part.float() for part in inputs())
        expected = brute_force(x.numpy(), loss.weight.detach().numpy(), targets.numpy(), loss.scale)
        assert float(loss(x, targets).detach()) == pytest.approx(expected, rel=1e-6)
        assert loss.scale == pytest.approx(math.sqrt(2) * math.log(CLASSES * SUB - 1)), "after a step in training too"
    torch.testing.assert_close(made[0].weight, made[1].weight.detach())


def test_float32_under_autocast() -> None:
    x, centres, targets = (part.float() for part in inputs())
    expected = sub_cluster_loss(x, centres, targets, SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sub_cluster_loss(x, centres, targets, SCALE), expected)
