"""Group adapter against NumPy, its unit vectors under an optimiser, and what it leaves alone."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor, nn

from auscult.errors import AuscultError
from auscult.models.group_adapter import Adapted, GroupAdapter, add_group_adapters
from auscult.settings.sections import GroupAdapterSettings
from support.fill import v

WIDTH = 6


def adapter(**changed: Any) -> GroupAdapter:
    torch.manual_seed(0)
    settings = GroupAdapterSettings(**{"groups": 4, "hidden": 5, "learn_scale": False, **changed})
    return GroupAdapter(WIDTH, settings).double()


def tokens(clips: int = 3, count: int = 7) -> Tensor:
    return torch.from_numpy(v("tokens", (clips, count, WIDTH)))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equations_by_hand(temperature: float) -> None:
    made, x = adapter(temperature=temperature), tokens()
    first, _, second = made.decision
    w1, b1, w2, b2, vectors = (p.detach().numpy() for p in (*first.parameters(), *second.parameters(), made.vectors))
    for clip, p, out in zip(x.numpy(), made.weights(x).detach().numpy(), made(x).detach().numpy(), strict=True):
        hidden = w1 @ (sum(clip) / len(clip)) + b1
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        exponentials = np.exp((w2 @ hidden + b2) / temperature)
        expected = exponentials / exponentials.sum()
        np.testing.assert_allclose(p, expected, rtol=1e-12)
        np.testing.assert_allclose(
            out, sum(expected[i] * vectors[i] / np.linalg.norm(vectors[i]) for i in range(4)), rtol=1e-12
        )


def test_shares_sum_to_one_and_a_lower_temperature_sharpens() -> None:
    x, highest = tokens(5), []
    for temperature in (10.0, 1.0, 0.1, 0.01):
        p = adapter(temperature=temperature).weights(x)
        torch.testing.assert_close(p.sum(1), torch.ones(5, dtype=torch.float64))
        highest.append(p.max(1).values)
    assert all((sharp > flat).all() for flat, sharp in pairwise(highest))
    assert (highest[-1] > 0.7).all()
    assert (highest[0] < 0.3).all()


def test_vectors_stay_on_the_unit_sphere() -> None:
    made, x = adapter(), tokens(8)
    before = made.unit_vectors().detach().clone()
    target = torch.from_numpy(v("target", (8, WIDTH)))
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.05, weight_decay=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        (made(x) - target).square().sum().backward()
        optimiser.step()
    vectors = made.unit_vectors()
    assert (vectors - before).abs().max() > 0.1, "they moved"
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4, dtype=torch.float64))
    with torch.no_grad():
        made.decision[2].bias.copy_(torch.tensor([0.0, 100.0, 0.0, 0.0]))  # one group alone
    torch.testing.assert_close(made(x), vectors[1].expand(8, -1))


def test_learnt_scale() -> None:
    made, plain, x = adapter(learn_scale=True), adapter(), tokens()
    assert torch.equal(made(x), plain(x))
    made(x).sum().backward()
    assert made.scale.grad.item() == pytest.approx(plain(x).sum().item())
    made.scale.data.fill_(3)
    torch.testing.assert_close(made(x), 3 * plain(x))


class Attention(nn.Module):
    """Takes more than the hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, bias: Tensor, factor: float = 1.0) -> Tensor:
        return factor * self.q(x) + bias


def test_added_to_every_token_of_the_block() -> None:
    torch.manual_seed(1)
    attention, x, bias = Attention().double(), tokens(), torch.from_numpy(v("bias", (WIDTH,)))
    state = copy.deepcopy(attention.state_dict())
    expected = attention(x, bias, factor=2.0)
    block = Adapted(attention, adapter())
    out = block(x, bias, factor=2.0)
    torch.testing.assert_close(out, expected + block.adapter(x)[:, None].expand(-1, 7, -1), rtol=0, atol=0)
    assert (out - expected).norm(dim=2).min() > 0.1
    assert block.inner is attention
    assert all(torch.equal(value, state[name]) for name, value in attention.state_dict().items())
    assert all(parameter.requires_grad for parameter in attention.parameters())


class Toy(nn.Module):
    """Blocks in a list, and one in a module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.inner = nn.ModuleDict({"attention": nn.Linear(WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        for block in [*self.layers, self.inner["attention"]]:
            x = block(x)
        return x


def test_placed_by_name() -> None:
    torch.manual_seed(2)
    toy, settings = Toy().double(), GroupAdapterSettings(groups=4, hidden=5)
    old, x = [toy.layers[0], toy.layers[1], toy.layers[2], toy.inner["attention"]], tokens()
    adapters = add_group_adapters(toy, ["layers.0", "layers.2", "inner.attention"], WIDTH, settings)
    assert [type(layer) for layer in toy.layers] == [Adapted, nn.Linear, Adapted]
    assert [toy.layers[0].adapter, toy.layers[2].adapter, toy.inner["attention"].adapter] == adapters
    expected = x
    for block, extra in zip(old, [adapters[0], None, *adapters[1:]], strict=True):
        expected = block(expected) + (extra(expected)[:, None] if extra else 0)
    torch.testing.assert_close(toy(x), expected, rtol=0, atol=0)
    assert not torch.equal(adapters[0].vectors, adapters[1].vectors)


@pytest.mark.parametrize("name", ["layers.3", "absent", ""])
def test_unknown_block(name: str) -> None:
    toy = Toy()
    with pytest.raises(AuscultError, match="no block"):
        add_group_adapters(toy, ["layers.0", name], WIDTH, GroupAdapterSettings())
    assert type(toy.layers[0]) is nn.Linear, "nothing was wrapped"


def test_types_under_autocast() -> None:
    made, x = adapter().float(), tokens().float()
    block = Adapted(nn.Linear(WIDTH, WIDTH), made)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x).dtype == torch.bfloat16
        assert torch.equal(made.weights(x), made.float().weights(x))
        out = block(x.bfloat16())
    out.float().sum().backward()
    assert made.vectors.grad.abs().max() > 0
    torch.testing.assert_close(made.weights(x), adapter().weights(tokens()).float(), rtol=1e-5, atol=1e-6)
