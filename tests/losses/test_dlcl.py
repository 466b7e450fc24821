"""Dual-level contrast against loops over clips, a queue of the standard library, and a run that was interrupted."""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.losses.dlcl import DualLevelContrast, dlcl
from auscult.settings.sections import DlclSettings

WIDTH = 6


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(*labelled: int) -> Tensor:
    return torch.tensor(labelled, dtype=torch.bool)


def contrast(**changed: Any) -> DualLevelContrast:
    """In double."""
    torch.manual_seed(1)
    return DualLevelContrast(DlclSettings(**{"codes": 4, "bank": 5, "start": 2, **changed}), WIDTH).double()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(vector**2))


def reference(x: Tensor, codes: Tensor, bank: Tensor, temperature: float) -> tuple[list[float], list[int]]:
    losses, chosen = [], []
    for clip in x.detach().numpy():
        closeness = [unit(clip) @ unit(code) for code in codes.detach().numpy()]
        chosen.append(closeness.index(max(closeness)))
        own = math.exp(max(closeness) / temperature)
        others = sum(math.exp(unit(clip) @ unit(entry) / temperature) for entry in bank.numpy())
        losses.append(-math.log(own / (own + others)))
    return losses, chosen


# ------------------------------------------------------------------------------------------------------- the equations
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equation_9_equals_a_double_loop(temperature: float) -> None:
    x, codes, bank = 3 * random(7, WIDTH), 0.2 * random(4, WIDTH, seed=1), random(9, WIDTH, seed=2)
    nll, code = dlcl(x, codes, bank, temperature)
    losses, chosen = reference(x, codes, bank, temperature)
    np.testing.assert_allclose(nll, losses, rtol=1e-12)
    assert code.tolist() == chosen
    some = torch.arange(9) % 3 > 0
    np.testing.assert_allclose(
        dlcl(x, codes, bank, temperature, some)[0], reference(x, codes, bank[some], temperature)[0]
    )


def test_the_nearest_code_and_not_the_farthest() -> None:
    x, bank = torch.eye(3).double()[[0, 2]]
    codes = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0.9, 0.1, 0]]).double()
    nll, code = dlcl(x[None], codes, bank[None], 0.1)
    assert code.item() == 2
    cosine = 0.9 / math.hypot(0.9, 0.1)
    assert nll.item() == pytest.approx(math.log1p(math.exp(-cosine / 0.1)), rel=1e-12)


def test_stable_at_low_temperature() -> None:
    x = torch.eye(4)[:2].requires_grad_()
    nll, _ = dlcl(x, -torch.eye(4)[:1], x.detach(), 1e-3)
    assert nll.tolist() == pytest.approx([2000, 1000], rel=1e-3)
    nll.sum().backward()
    assert x.grad.isfinite().all()


def test_where_gradients_go() -> None:
    loss, x = contrast(), random(3, WIDTH).requires_grad_()
    loss.remember(random(4, WIDTH, seed=2).requires_grad_(), mask(1, 1, 1, 1))
    out = loss(x, mask(0, 1, 0))["dlcl"]
    out.backward()
    assert x.grad.norm(dim=1).gt(0).tolist() == [True, False, True]
    nearest = (functional.normalize(x[[0, 2]]) @ functional.normalize(loss.codes).T).argmax(1)
    assert set(loss.codes.grad.norm(dim=1).nonzero().flatten().tolist()) == set(nearest.tolist())
    assert not loss.bank.requires_grad
    # A step along it makes the loss smaller.
    with torch.no_grad():
        clips, codes, bank = x[[0, 2]] - 0.01 * x.grad[[0, 2]], loss.codes - 0.01 * loss.codes.grad, loss.bank[:4]
    assert dlcl(clips, codes, bank, 0.1)[0].mean() < out


# ------------------------------------------------------------------------------------------------------------ the bank
def test_bank_is_a_queue_and_is_read_before_it_is_written() -> None:
    """Batches of any share of labelled clips, also more than the bank holds, against a deque."""
    loss, queue = contrast(), deque(maxlen=5)
    rng = np.random.default_rng(0)
    for step in range(60):
        size = int(rng.integers(1, 17))
        x, labelled = random(size, WIDTH, seed=step), torch.from_numpy(rng.random(size) < rng.random())
        found = loss(x, labelled)["dlcl"].item()
        if len(queue) >= 2 and not labelled.all():
            bank = torch.from_numpy(np.array(queue))
            expected = np.mean(reference(x[~labelled], loss.codes, bank, 0.1)[0])
            assert found == pytest.approx(expected, rel=1e-12)
        else:
            assert found == 0
        queue.extend(unit(clip) for clip in x[labelled].numpy())
        oldest = int(loss.pointer) if len(queue) == 5 else 0
        np.testing.assert_allclose(
            loss.bank.roll(-oldest, 0)[: len(queue)], np.array(queue).reshape(-1, WIDTH), rtol=1e-14
        )
        assert int(loss.filled) == len(queue)
    assert len(queue) == 5


@pytest.mark.parametrize("entries", [0, 1, 2, 3])
def test_silent_until_the_bank_has_started(entries: int) -> None:
    loss, x = contrast(start=3, bank=3), random(2, WIDTH).requires_grad_()
    loss.remember(random(3, WIDTH, seed=1), torch.arange(3) < entries)
    assert int(loss.filled) == entries
    out = loss(x, mask(0, 0))["dlcl"]
    out.backward()
    assert (out.item() > 0) == (entries == 3)
    assert x.grad.isfinite().all()
    assert (x.grad.abs().max().item() > 0) == (entries == 3)


def test_batches_of_one_kind() -> None:
    loss = contrast()
    x = random(4, WIDTH).requires_grad_()
    out = loss(x, mask(1, 1, 1, 1))
    out["dlcl"].backward()
    assert out["dlcl"].item() == out["code_usage"].item() == 0
    assert x.grad.abs().max() == 0
    assert int(loss.filled) == 4
    bank = loss.bank.clone()
    assert loss(random(3, WIDTH, seed=1), mask(0, 0, 0))["dlcl"].item() > 0
    assert torch.equal(loss.bank, bank)


def test_a_bank_that_cannot_start() -> None:
    with pytest.raises(AuscultError, match="would count from 9"):
        contrast(start=9)


def test_evaluation_changes_nothing() -> None:
    loss = contrast(reseed_steps=1)
    for step in range(4):
        loss(random(6, WIDTH, seed=step), mask(1, 1, 0, 0, 0, 1))
    state = copy.deepcopy(loss.state_dict())
    assert loss.eval()(random(4, WIDTH, seed=9), mask(0, 0, 1, 1))["dlcl"].item() > 0
    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())


# ----------------------------------------------------------------------------------------------------------- the codes
def test_usage_counts_codes_of_the_last_window() -> None:
    loss = contrast(reseed_steps=3)
    with torch.no_grad():
        loss.codes.copy_(torch.eye(4, WIDTH))
    seen: deque[set[int]] = deque(maxlen=3)
    batches = [[0, 1], [1, 1], [2], [], [1], [1, 0], [2, 0]]  # code that each unlabelled clip is nearest to
    for batch in batches:
        x = torch.cat([torch.eye(4, WIDTH)[batch], torch.eye(4, WIDTH)[3:]]).double()  # and a labelled one
        labelled = torch.arange(len(x)) == len(x) - 1
        if batch:  # nothing is counted without an unlabelled clip
            seen.append(set(batch))
        assert loss(x, labelled)["code_usage"].item() == len(set().union(*seen)) / 4


def test_unused_codes_take_the_place_of_embeddings() -> None:
    loss = contrast(codes=5, reseed_steps=3)
    with torch.no_grad():
        loss.codes.copy_(
            -torch.eye(5, WIDTH)
        )  # nearest to a positive clip: a code it has no part in, the first of them
    near = torch.tensor([[-1.0, 0, 0, 0, 0, 0]], dtype=torch.float64)  # code 0
    labelled, clips = random(1, WIDTH, seed=3), [near + 0.01 * random(1, WIDTH, seed=4 + i) for i in range(3)]
    before = loss.codes.detach().clone()
    for _ in range(2):
        loss(torch.cat([clips[0], labelled]), mask(0, 1))
    assert torch.equal(loss.codes, before), "not yet"
    # Four codes are idle and two clips unlabelled: the first two codes, in order, and never the labelled clip.
    usage = loss(torch.cat([clips[0], labelled, clips[1]]), mask(0, 1, 0))["code_usage"]
    expected = torch.cat([before[:1], *(functional.normalize(clip) for clip in clips[:2]), before[3:]])
    torch.testing.assert_close(loss.codes.detach(), expected, rtol=0, atol=1e-15)
    assert usage.item() == pytest.approx(1 / 5), "to be seeded anew is not to be used"
    # The other two in the next step; those seeded just now have three steps to find a clip.
    loss(torch.cat([clips[2], labelled]), mask(0, 1))
    expected[3] = functional.normalize(clips[2])
    torch.testing.assert_close(loss.codes.detach(), expected, rtol=0, atol=1e-15)


def test_codes_are_left_alone_where_reseeding_is_off() -> None:
    loss = contrast(reseed_steps=0)
    before = loss.codes.detach().clone()
    for step in range(20):
        loss(random(1, WIDTH, seed=0) + 0.01 * random(3, WIDTH, seed=step), mask(0, 0, 1))
    assert torch.equal(loss.codes, before)


def test_backward_after_codes_and_bank_were_rewritten() -> None:
    """The gradient is that of the values the loss was computed from."""
    loss, x = contrast(reseed_steps=1), random(5, WIDTH).requires_grad_()
    loss.remember(random(5, WIDTH, seed=1), mask(1, 1, 1, 1, 1))
    codes, bank = loss.codes.detach().clone().requires_grad_(), loss.bank.clone()
    out = loss(x, mask(0, 0, 1, 1, 0))["dlcl"]
    assert not torch.equal(loss.codes, codes)
    assert not torch.equal(loss.bank, bank)
    out.backward()
    y = x.detach().clone().requires_grad_()
    dlcl(y[[0, 1, 4]], codes, bank, 0.1)[0].mean().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(loss.codes.grad, codes.grad)


def test_first_codes_are_the_centres_of_clusters() -> None:
    loss, centres = contrast(), functional.normalize(random(4, WIDTH, seed=8))
    noise = 0.01 * random(400, WIDTH, seed=9)
    points = (centres.repeat(100, 1) + noise) * (1 + random(400, 1, seed=10).abs())  # of any length
    loss.initialise(points)
    torch.testing.assert_close(loss.codes.norm(dim=1), torch.ones(4, dtype=torch.float64))
    closeness = centres @ loss.codes.detach().T
    assert closeness.max(1).values.min() > 0.9995
    assert sorted(closeness.argmax(1).tolist()) == [0, 1, 2, 3]
    again = contrast()
    again.initialise(points)
    assert torch.equal(again.codes, loss.codes)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_embeddings_than_codes(count: int) -> None:
    loss, points = contrast(), random(3, WIDTH)[:count].repeat(3, 1)
    before = loss.codes.detach().clone()
    loss.initialise(points)
    rows = {tuple(row) for row in loss.codes.detach().float().tolist()}
    assert {tuple(row) for row in functional.normalize(points.float()).tolist()} <= rows
    assert torch.equal(loss.codes[count:], before[count:])


def test_only_so_many_embeddings_are_clustered() -> None:
    loss, points = contrast(), random(3000, WIDTH)
    loss.initialise(points)
    few = contrast()
    few.initialise(points[np.linspace(0, 2999, 2048).round().astype(int)])
    assert torch.equal(loss.codes, few.codes)


# ------------------------------------------------------------------------------------------------------------- running
def run(loss: DualLevelContrast, first: int, last: int) -> list[Tensor]:
    seen, sgd = [], torch.optim.SGD(loss.parameters(), lr=0.1)
    for step in range(first, last):
        labelled = torch.from_numpy(np.random.default_rng(step).random(6) < 0.5)
        out = loss(random(1, WIDTH, seed=step // 4) + 0.1 * random(6, WIDTH, seed=100 + step), labelled)
        sgd.zero_grad()
        out["dlcl"].backward()
        sgd.step()
        seen += out.values()
    return seen


def test_a_continued_run_ends_in_the_same_bytes() -> None:
    whole, begun = contrast(reseed_steps=4), contrast(reseed_steps=4)
    expected = run(whole, 0, 40)
    seen = run(begun, 0, 17)
    torch.manual_seed(99)
    continued = DualLevelContrast(DlclSettings(codes=4, bank=5, start=2, reseed_steps=4), WIDTH).double()
    continued.load_state_dict(copy.deepcopy(begun.state_dict()))
    seen += run(continued, 17, 40)
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(continued.state_dict()[name], value), name
    assert int(whole.seeded.max()) > 17, "codes were seeded anew after the interruption"


def test_nothing_waits_for_the_device() -> None:
    """Fake tensors have no values: reading one on the host, or a shape that depends on one, raises."""
    with FakeTensorMode():
        loss = DualLevelContrast(DlclSettings(codes=4, bank=5, start=2, reseed_steps=2), WIDTH)
        x, labelled = torch.randn(6, WIDTH, requires_grad=True), torch.zeros(6, dtype=torch.bool)
        out = loss(x, labelled)
        out["dlcl"].backward()
        assert x.grad.shape == (6, WIDTH)
        with pytest.raises(DataDependentOutputException):
            bool(labelled.any())


def test_float32_under_autocast() -> None:
    loss, x = contrast().float(), random(6, WIDTH).float()
    loss(x, mask(1, 1, 1, 0, 0, 0))
    loss.eval()
    expected = loss(x, mask(1, 1, 1, 0, 0, 0))["dlcl"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(x, mask(1, 1, 1, 0, 0, 0))["dlcl"], expected)
        assert loss(x.bfloat16(), mask(1, 1, 1, 0, 0, 0))["dlcl"].dtype == torch.float32
