"""Sub-space loss, FeatEx of M parts and AdaProj: against ASDKit's code, brute force and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from auscult.losses.adaproj import AdaProj, next_scale, projected, projection_cosines
from auscult.losses.exchange import exchanged_features, exchanged_shares
from auscult.losses.featex import FeatExLoss
from auscult.losses.scac import SubClusterAdaCos, sub_cluster_loss
from auscult.losses.subspace import SubSpaceLoss
from support.fill import absolute_error, golden, v

CLASSES, SUB, WIDTH, BATCH, PARTS, DIRECTIONS = 5, 3, 8, 6, 3, 4
DIM = PARTS * WIDTH
EXCHANGE = torch.tensor([True, False, True, True, False, False])
PARTNERS = torch.tensor([[3, 1, 0, 5, 4, 2], [2, 4, 5, 0, 1, 3]])


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings, and shares of which the first three are of unmixed clips."""
    x = torch.from_numpy(v("angular/x", (BATCH, DIM))).float().requires_grad_()
    y = torch.from_numpy(v("angular/y", (BATCH, CLASSES))).float().abs()
    y = y / y.sum(1, keepdim=True)
    y[:3] = torch.eye(CLASSES)[:3]
    return x, y


def put(loss: SubClusterAdaCos, name: str) -> None:
    with torch.no_grad():
        centres = torch.from_numpy(
            v(f"angular/{name}", (loss.weight.shape[0] * loss.weight.shape[1], loss.weight.shape[2]))
        )
        loss.weight.copy_(centres.view_as(loss.weight))


def scac(name: str, sub_clusters: int, trainable: bool = True) -> SubClusterAdaCos:
    loss = SubClusterAdaCos(DIM, CLASSES, sub_clusters, trainable=trainable)
    put(loss, name)
    return loss


def subspace() -> SubSpaceLoss:
    loss = SubSpaceLoss(PARTS, WIDTH, CLASSES, SUB)
    put(loss.whole, "whole")
    for number, part in enumerate(loss.each_part):
        put(part, f"part{number}")
    return loss


def featex() -> FeatExLoss:
    loss = FeatExLoss(PARTS, WIDTH, CLASSES, SUB)
    put(loss.plain, "whole")
    put(loss.exchanged, "made")
    return loss


def adaproj() -> AdaProj:
    loss = AdaProj(DIM, CLASSES, DIRECTIONS)
    loss.weight.copy_(torch.from_numpy(v("angular/vectors", (CLASSES, DIRECTIONS, DIM))))
    return loss


def test_golden() -> None:
    """Values and gradients of ASDKit's code; three steps of AdaProj, whose scale follows."""
    stored = golden("multires")
    x, y = inputs()
    losses = {
        "scac": scac("whole", SUB)(x, y),
        "adacos": scac("one", 1)(x, y),
        "subspace": subspace()(x, y),
        "featex": featex()(x, y, EXCHANGE, PARTNERS),
    }
    moving = adaproj()
    scales = [float(moving.scale)]
    for step in range(3):
        other = 0.3 * step * torch.from_numpy(v(f"angular/step{step}", (BATCH, DIM))).float()
        losses[f"adaproj{step}"] = moving((1 - 0.3 * step) * x + other, y)
        scales.append(float(moving.scale))
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, x)
        assert absolute_error(gradient, stored[f"{name}_grad"]) < 1e-6, name
    assert absolute_error(torch.stack(list(losses.values())), stored["losses"]) < 2e-6
    np.testing.assert_allclose(scales, stored["scales"], rtol=1e-6)
    assert absolute_error(exchanged_shares(y, EXCHANGE, PARTNERS), stored["featex_shares"]) < 1e-7


def test_subspace_is_the_sum_of_its_terms() -> None:
    x, y = inputs()
    loss = subspace()
    terms = [sub_cluster_loss(x, loss.whole.weight, y, loss.whole.scale)]
    for number, part in enumerate(loss.each_part):
        terms.append(sub_cluster_loss(x[:, number * WIDTH : (number + 1) * WIDTH], part.weight, y, part.scale))
    torch.testing.assert_close(loss(x, y), sum(terms, torch.zeros(())))
    torch.testing.assert_close(loss.each(x, y).mean(), loss(x, y))
    assert {name.split(".")[0] for name, _ in loss.named_parameters()} == {"each_part"}, "the whole's centres are fixed"


def test_shares_and_features_of_exchanged_clips_clip_by_clip() -> None:
    x, y = inputs()
    shares = exchanged_shares(y, EXCHANGE, PARTNERS).numpy()
    parts = [part.detach() for part in x.split(WIDTH, 1)]
    for clip in range(BATCH):
        blocks = shares[clip].reshape(PARTS + 1, CLASSES)
        owners = [clip, *PARTNERS[:, clip].tolist()]
        if EXCHANGE[clip]:
            assert not blocks[0].any()
            for block, owner in zip(blocks[1:], owners, strict=True):
                np.testing.assert_allclose(block, y[owner] / PARTS)
        else:
            np.testing.assert_array_equal(blocks[0], y[clip])
            assert not blocks[1:].any()
        for number in range(1, PARTS):
            found = exchanged_features(parts[number], EXCHANGE, PARTNERS[number - 1])[clip]
            owner = owners[number] if EXCHANGE[clip] else clip
            assert torch.equal(found, parts[number][owner])
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)


def test_featex_without_exchanges_is_the_plain_loss() -> None:
    """The first C of its classes are then the clips', and the others belong to nobody: only their mass is in the way."""
    x, y = inputs()
    loss = featex()
    nobody = torch.zeros(BATCH, dtype=torch.bool)
    found = loss(x, y, nobody, PARTNERS)
    torch.testing.assert_close(found, loss.each(x, y).mean())
    alone = torch.cat([y, torch.zeros(BATCH, PARTS * CLASSES)], 1)
    rest = sub_cluster_loss(x, loss.exchanged.weight, alone, loss.exchanged.scale)
    torch.testing.assert_close(found, loss.plain(x, y) + rest)
    # With the centres of the exchanged classes opposite, where they have no mass, it is the loss of C classes to the letter.
    one, label = x[:1].detach(), y[:1]
    first = loss.exchanged.weight[:CLASSES].detach()
    far = torch.cat([first, -one.expand(PARTS * CLASSES, SUB, DIM)])
    full = sub_cluster_loss(one, far, alone[:1], 200.0)
    torch.testing.assert_close(full, sub_cluster_loss(one, first, label, 200.0))


def test_the_projection_is_one_where_the_vectors_are_orthogonal() -> None:
    x = torch.from_numpy(v("x", (BATCH, DIM)))
    orthogonal = torch.linalg.qr(torch.from_numpy(v("w", (CLASSES, DIM, DIRECTIONS))))[0].mT
    once = projected(x, orthogonal)
    for number in range(CLASSES):
        torch.testing.assert_close(projected(once[:, number], orthogonal)[:, number], once[:, number])
        # What is left is orthogonal to the sub-space, and so the cosine is that of Pythagoras.
        rest = x - once[:, number]
        torch.testing.assert_close(rest @ orthogonal[number].T, torch.zeros(BATCH, DIRECTIONS, dtype=x.dtype))
    cosine = projection_cosines(x, orthogonal)
    torch.testing.assert_close(cosine, once.norm(dim=2) / x.norm(dim=1, keepdim=True))
    slanted = torch.nn.functional.normalize(torch.from_numpy(v("w", (CLASSES, DIRECTIONS, DIM))), dim=2)
    twice = projected(projected(x, slanted)[:, 0], slanted)[:, 0]
    assert (twice - projected(x, slanted)[:, 0]).abs().max() > 0.1, "not one in general"


def test_adaproj_equals_brute_force() -> None:
    x, y = inputs()
    loss = adaproj().eval()
    vectors, s = loss.weight.numpy().astype(np.float64), float(loss.scale)
    for clip, each in enumerate(loss.each(x, y).detach().numpy()):
        e = x[clip].detach().numpy().astype(np.float64)
        e = e / np.linalg.norm(e)
        cosines = []
        for members in vectors:
            unit = [w / np.linalg.norm(w) for w in members]
            q = sum((e @ w) * w for w in unit)
            cosines.append(e @ q / np.linalg.norm(q))
        p = np.exp(s * np.array(cosines)) / np.exp(s * np.array(cosines)).sum()
        assert each == pytest.approx(-(y[clip].numpy() * np.log(p)).sum(), rel=1e-5)
        assert min(cosines) > 0


@pytest.mark.parametrize("closeness", [0.0, 0.9])
def test_scale_of_adaproj_equals_brute_force(closeness: float) -> None:
    """Both sides of pi/4; the term of an unmixed clip's own class counts as e^0, a mixed clip has none."""
    _, y = inputs()
    cosine = 0.5 * torch.from_numpy(v("cosine", (BATCH, CLASSES))).abs().float()
    cosine = torch.where(y > 0, (1 - closeness) * cosine + closeness, cosine)
    s = 3.0
    b = np.mean(
        [sum(1.0 if y[n, c] == 1 else math.exp(s * cosine[n, c]) for c in range(CLASSES)) for n in range(BATCH)]
    )
    angles = sorted(sum(float(y[n, c]) * math.acos(cosine[n, c]) for c in range(CLASSES)) for n in range(BATCH))
    median = angles[(BATCH - 1) // 2]
    assert (median < math.pi / 4) == (closeness > 0)
    expected = math.log(b) / math.cos(min(math.pi / 4, median))
    assert float(next_scale(torch.tensor(s), cosine, y)) == pytest.approx(expected, rel=1e-5)


def test_adaproj_learns_nothing_itself_and_rests_in_evaluation() -> None:
    x, y = inputs()
    loss = adaproj()
    assert float(loss.scale) == pytest.approx(math.sqrt(2) * math.log(CLASSES - 1))
    assert not list(loss.parameters())
    assert sorted(loss.state_dict()) == ["scale", "weight"]
    loss(x, y)
    after = float(loss.scale)
    assert after != pytest.approx(math.sqrt(2) * math.log(CLASSES - 1))
    loss.eval()(x, y)
    assert float(loss.scale) == after


def test_float32_under_autocast() -> None:
    x, y = inputs()
    expected = [subspace()(x, y), featex()(x, y, EXCHANGE, PARTNERS), adaproj()(x, y)]
    with torch.autocast("cpu", torch.bfloat16):
        found = [subspace()(x, y), featex()(x, y, EXCHANGE, PARTNERS), adaproj()(x, y)]
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
