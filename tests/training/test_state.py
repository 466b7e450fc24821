"""Weight averaging against golden vectors, to the bit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from auscult.training.state import WeightEMA
from support.fill import golden

ORDER = ["fc.weight", "fc.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]


def small() -> nn.ModuleDict:
    return nn.ModuleDict({"fc": nn.Linear(3, 2), "bn": nn.BatchNorm1d(2)})


def flat(network: nn.Module) -> np.ndarray:
    state = network.state_dict()
    return torch.cat([state[name].flatten() for name in ORDER]).numpy()


def assign(network: nn.Module, values: np.ndarray, add: bool = False) -> None:
    state, start = network.state_dict(), 0
    for name in ORDER:
        part = torch.from_numpy(values[start : start + state[name].numel()]).float().view_as(state[name])
        state[name].copy_(state[name] + part if add else part)
        start += state[name].numel()


def test_golden_to_the_bit() -> None:
    stored = golden("ema")
    live, average = small(), small()
    assign(live, stored["p0"])
    assign(average, stored["e0"])
    ema = WeightEMA(live, average, float(stored["alpha"]), float(stored["wd"]))
    for k, delta in enumerate(stored["deltas"], start=1):
        assign(live, delta, add=True)
        ema.step()
        np.testing.assert_array_equal(flat(live), stored[f"p{k}"].astype(np.float32))
        np.testing.assert_array_equal(flat(average), stored[f"e{k}"].astype(np.float32))


def test_without_shrinking_the_live_network_is_left_alone() -> None:
    live = small()
    before = copy.deepcopy(live.state_dict())
    WeightEMA(live, copy.deepcopy(live), shrink=0).step()
    for name, value in live.state_dict().items():
        assert torch.equal(value, before[name])


def test_order_average_first_then_shrink() -> None:
    """With weights large enough to see it: the average takes in the weight before it is shrunk."""
    live, average = small(), small()
    with torch.no_grad():
        live["fc"].bias.fill_(8.0)
        average["fc"].bias.fill_(4.0)
    WeightEMA(live, average, decay=0.5, shrink=0.25).step()
    assert average["fc"].bias.tolist() == [6.0, 6.0]
    assert live["fc"].bias.tolist() == [6.0, 6.0]


def test_counters_are_copied_not_averaged() -> None:
    live = small()
    average = copy.deepcopy(live)
    ema = WeightEMA(live, average)
    live["bn"](torch.randn(4, 2))
    live["bn"](torch.randn(4, 2))
    ema.step()
    assert average["bn"].num_batches_tracked.item() == 2
    assert live["bn"].num_batches_tracked.item() == 2


def test_follows_the_optimiser_and_load_state_dict() -> None:
    """The tensors it holds stay those of the networks when both are updated in place."""
    live = small()
    average = copy.deepcopy(live)
    ema = WeightEMA(live, average, decay=0.0, shrink=0)
    live.load_state_dict({name: value + 1 for name, value in live.state_dict().items()})
    optimiser = torch.optim.AdamW(live.parameters(), lr=0.1)
    live["bn"](live["fc"](torch.ones(2, 3))).sum().backward()
    optimiser.step()
    ema.step()
    for name, value in average.state_dict().items():
        assert torch.equal(value, live.state_dict()[name])


def test_different_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="tensors"):
        WeightEMA(small(), nn.Linear(3, 2))
