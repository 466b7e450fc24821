"""Branches of LoRA: exact merging, what stays still, ranks, and the single LoRA that the connected form equals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.models.lora import LoraLinear, add_lora, lora_parameters, merge_lora
from auscult.settings.sections import LoraSettings

FORMS = [
    {"connected": True},
    {"connected": False},
    {"connected": True, "scale": 0.3},
    {"connected": False, "scale": 2.5},
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(inputs: int = 12, outputs: int = 10, filled: bool = True, **changed: Any) -> LoraLinear:
    """In double; `filled` gives B values, as after training."""
    torch.manual_seed(1)
    made = LoraLinear(nn.Linear(inputs, outputs), LoraSettings(**{"rank": 2, "branches": 3, **changed})).double()
    if filled:
        with torch.no_grad():
            made.b.copy_(random(*made.b.shape, seed=5))
    return made


@pytest.mark.parametrize("form", FORMS)
def test_equations_term_by_term(form: dict) -> None:
    lora, x = layer(**form), random(4, 5, 12)
    added = torch.zeros(4, 5, 10, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            if form["connected"] or i == j:
                added += x @ lora.a[j].T @ lora.b[i].T
    expected = x @ lora.base.weight.T + lora.base.bias + form.get("scale", 1.0) * added
    torch.testing.assert_close(lora(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("form", FORMS)
def test_merged_equals_unmerged(form: dict, dtype: torch.dtype, error: float) -> None:
    lora, x = layer(**form).to(dtype), random(4, 5, 12).to(dtype)
    merged = lora.merged()
    assert type(merged) is nn.Linear
    assert (lora(x) - lora.base(x)).abs().max() > 1
    torch.testing.assert_close(merged(x), lora(x), rtol=0, atol=error)
    torch.testing.assert_close(merged.weight, lora.base.weight + lora.delta_weight(), rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_nothing_is_added_at_first(form: dict, dropout: float) -> None:
    lora, x = layer(filled=False, dropout=dropout, **form), random(4, 5, 12)
    assert torch.equal(lora(x), lora.base(x))
    lora(x).square().sum().backward()
    assert lora.b.grad.abs().min() > 0, "yet it learns"


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_base_keeps_its_bits(frozen: bool) -> None:
    lora, x = layer(frozen=frozen), random(6, 12)
    before = copy.deepcopy(lora.state_dict())
    optimiser = torch.optim.AdamW(lora.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        lora(x).square().mean().backward()
        optimiser.step()
    for name, value in lora.state_dict().items():
        assert torch.equal(value, before[name]) == (frozen and name.startswith("base.")), name


def test_rank_of_what_is_added() -> None:
    assert torch.linalg.matrix_rank(layer(20, 16, connected=True).delta_weight()) == 2
    assert torch.linalg.matrix_rank(layer(20, 16, connected=False).delta_weight()) == 6


# -------------------------------------------------------------------------------- connected branches against one LoRA
def network(settings: LoraSettings) -> nn.Sequential:
    torch.manual_seed(7)
    made = nn.Sequential(nn.Linear(9, 11), nn.Tanh(), nn.Linear(11, 5)).double()
    add_lora(made, ["0", "2"], settings)
    return made


def trained(made: nn.Module, optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """50 steps in double precision; the outputs on the way."""
    seen = []
    for step in range(50):
        out = made(random(16, 9, seed=step))
        seen.append(out.detach())
        optimiser.zero_grad()
        functional.mse_loss(out, random(16, 5, seed=100 + step)).backward()
        optimiser.step()
    return seen


def pair(kind: str, branches: int = 8, **changed: Any) -> tuple[nn.Module, nn.Module, list[Tensor], list[Tensor]]:
    """Branches and the single LoRA whose A is their sum, with n times the learning rate; both after training."""
    many = network(LoraSettings(rank=3, branches=branches, **changed))
    one = network(LoraSettings(rank=3, branches=1))
    for ours, single in zip(add_up(many), lora_layers(one), strict=True):
        with torch.no_grad():
            single.a.copy_(ours[0][None])
    before = torch.cat([part.detach().flatten() for part in lora_parameters(one)])

    def optimiser(made: nn.Module, times: int) -> torch.optim.Optimizer:
        if kind == "sgd":
            return torch.optim.SGD(lora_parameters(made), lr=0.02 * times)
        return torch.optim.AdamW(lora_parameters(made), lr=2e-3 * times, weight_decay=0.1 / times)

    outputs = trained(many, optimiser(many, 1)), trained(one, optimiser(one, branches))
    after = torch.cat([part.detach().flatten() for part in lora_parameters(one)])
    assert (after - before).abs().max() > 0.01, "it learnt something"
    return many, one, *outputs


def lora_layers(made: nn.Module) -> list[LoraLinear]:
    return [part for part in made.modules() if isinstance(part, LoraLinear)]


def add_up(made: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(part.a.sum(0), part.b.sum(0)) for part in lora_layers(made)]


def largest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_connected_branches_are_one_lora_with_larger_steps(kind: str) -> None:
    many, one, outputs, expected = pair(kind)
    assert largest(outputs, expected) < 1e-12
    for (a, b), single in zip(add_up(many), lora_layers(one), strict=True):
        torch.testing.assert_close(a, single.a[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(b, single.b[0], rtol=0, atol=1e-12)
    for part in lora_layers(many):
        assert all(torch.equal(branch, part.b[0]) for branch in part.b)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("changed", [{"connected": False}, {"dropout": 0.1}])
def test_apart_or_with_dropout_they_are_not(kind: str, changed: dict) -> None:
    many, _, outputs, expected = pair(kind, **changed)
    assert largest(outputs, expected) > 1e-3
    part = lora_layers(many)[0]
    same = torch.equal(part.b[0], part.b[1])
    assert same == ("dropout" in changed), "connected, every B_i still sees the same sum"


def test_the_first_sum_spreads_as_init_scale_says() -> None:
    torch.manual_seed(0)
    settings = LoraSettings(rank=64, branches=8)
    many = LoraLinear(nn.Linear(512, 4), settings)
    one = LoraLinear(nn.Linear(512, 4), settings.model_copy(update={"branches": 1, "init_scale": 8**0.5}))
    # 32,768 values: the standard error of the variance is below 1 %. Kaiming with a = sqrt(5) is 1 / (3 * fan-in).
    assert many.a.var().item() == pytest.approx(1 / (3 * 512), rel=0.03)
    assert many.a.sum(0).var().item() == pytest.approx(8 / (3 * 512), rel=0.03)
    assert one.a.var().item() == pytest.approx(8 / (3 * 512), rel=0.03)
    assert many.a.abs().max().item() <= 512**-0.5


# ------------------------------------------------------------------------------------------------------------- dropout
@pytest.mark.parametrize("connected", [True, False])
def test_each_branch_drops_by_itself(connected: bool) -> None:
    """With A and B of one line each, the output shows which branch saw which input."""
    lora = layer(6, 6, rank=1, branches=2, dropout=0.5, connected=connected)
    with torch.no_grad():
        lora.a.copy_(torch.tensor([1.0, 100.0])[:, None, None])
        lora.b.copy_(torch.tensor([1.0, 0.0] if connected else [1.0, 1.0])[:, None, None])
    x = torch.ones(400, 6, dtype=torch.float64)
    torch.manual_seed(0)
    added = ((lora(x) - lora.base(x))[:, 0] / 2).detach().round()  # kept inputs are doubled
    kept = torch.stack([added % 100, added // 100])  # how many of 6 each branch kept
    assert kept.min() >= 0
    assert kept.max() <= 6
    assert kept.mean(1) == pytest.approx([3, 3], abs=0.25)
    assert abs(torch.corrcoef(kept)[0, 1]) < 0.2
    full = lora.eval()(x) - lora.base(x)
    torch.testing.assert_close(full, torch.full_like(full, 606))


@pytest.mark.parametrize("form", FORMS)
def test_dropout_that_spares_everything(form: dict) -> None:
    """The branches of the training step are those of the test."""
    lora, x = layer(dropout=1e-12, **form), random(4, 5, 12)
    torch.manual_seed(0)
    torch.testing.assert_close(lora(x), lora.eval()(x), rtol=1e-9, atol=1e-9)


# ----------------------------------------------------------------------------------------------------------- placement
class Block(nn.Module):
    """The linear maps of a Transformer layer, by role."""

    def __init__(self, width: int = 8, hidden: int = 16) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({role: nn.Linear(width, width) for role in ("q", "k", "v", "out")})
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        for role in self.attention:
            x = x + self.attention[role](x)
        return x + self.fc2(self.fc1(x).tanh())


def blocks(depth: int, roles: list[str], **sizes: int) -> tuple[nn.Sequential, list[str]]:
    within = [role if role.startswith("fc") else f"attention.{role}" for role in roles]
    return nn.Sequential(*(Block(**sizes) for _ in range(depth))), [
        f"{i}.{name}" for i in range(depth) for name in within
    ]


def test_added_and_merged_in_place() -> None:
    torch.manual_seed(0)
    made, names = blocks(2, ["q", "fc1"])
    made.double()
    keys, x = made.state_dict().keys(), random(3, 4, 8)
    plain = made(x)
    layers = add_lora(made, names, LoraSettings(rank=2, branches=2))
    assert [made.get_submodule(name) for name in names] == layers
    assert list(lora_parameters(made)) == [part for one in layers for part in (one.a, one.b)]
    assert torch.equal(made(x), plain)
    for number, one in enumerate(layers):
        one.b.data.copy_(random(*one.b.shape, seed=number))
    adapted = made(x)
    assert (adapted - plain).abs().max() > 0.1
    merge_lora(made)
    assert not list(lora_parameters(made))
    assert made.state_dict().keys() == keys
    torch.testing.assert_close(made(x), adapted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["0.attention", "0.absent", "", "0.fc1.weight"])
def test_only_linear_maps(name: str) -> None:
    made, names = blocks(1, ["q"])
    with pytest.raises(AuscultError, match="LoRA needs"):
        add_lora(made, [*names, name], LoraSettings())
    assert not lora_layers(made), "nothing was replaced"


def test_rank_zero_is_no_lora() -> None:
    made, names = blocks(1, ["q"])
    assert add_lora(made, names, LoraSettings(rank=0)) == []
    assert not lora_layers(made)
    assert all(parameter.requires_grad for parameter in made.parameters())
    with pytest.raises(AuscultError, match="rank 0"):
        LoraLinear(nn.Linear(2, 2), LoraSettings(rank=0))


@pytest.mark.parametrize(
    ("roles", "count"),
    [(["q", "k", "v", "out", "fc1", "fc2"], 42_467_328), (["q", "k", "v", "out"], 18_874_368), (["q", "v"], 9_437_184)],
)
def test_trainable_parameters_of_the_published_size(roles: list[str], count: int) -> None:
    with torch.device("meta"):
        made, names = blocks(12, roles, width=768, hidden=3072)
        add_lora(made.requires_grad_(False), names, LoraSettings())
    assert sum(part.numel() for part in lora_parameters(made)) == count
    assert sum(part.numel() for part in made.parameters() if part.requires_grad) == count


@pytest.mark.parametrize("form", [{"connected": True}, {"connected": False}, {"connected": True, "dropout": 0.1}])
def test_type_under_autocast(form: dict) -> None:
    lora, x = layer(**form).float(), random(2, 3, 12).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = lora(x)
        assert out.dtype == lora.base(x).dtype == torch.bfloat16
    out.float().sum().backward()
    assert lora.a.grad.dtype == torch.float32
    assert lora.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
