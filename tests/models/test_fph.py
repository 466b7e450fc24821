"""Feature perturbation head: order of its layers, size, and what 'without' means."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from auscult.models.fph import FeaturePerturbationHead
from support.fill import fill


@pytest.mark.parametrize(
    ("reduction", "count"),
    [(0, 0), (4, 1_420), (8, 2_456), (16, 4_528), (32, 8_672), (64, 16_960), (128, 33_536)],
)
def test_parameter_counts(reduction: int, count: int) -> None:
    assert sum(p.numel() for p in FeaturePerturbationHead(128, reduction, "relu").parameters()) == count


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_activation_before_norm(activation: str, slope: float) -> None:
    head = fill(FeaturePerturbationHead(12, 5, activation), "fph/").eval()  # type: ignore[arg-type]
    state = head.state_dict()
    x = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    expected = x
    for index in "12":
        expected = functional.linear(expected, state[f"fc{index}.weight"], state[f"fc{index}.bias"])
        expected = torch.where(expected > 0, expected, slope * expected)
        norm = {key: state[f"bn{index}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        expected = (expected - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt()
        expected = expected * norm["weight"] + norm["bias"]
    torch.testing.assert_close(head(x), expected / expected.norm(dim=1, keepdim=True))


def test_without_head_only_the_length_changes() -> None:
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    out = FeaturePerturbationHead(128, 0, "relu")(x)
    torch.testing.assert_close(out * x.norm(dim=1, keepdim=True), x)


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(KeyError):
        FeaturePerturbationHead(128, 64, "gelu")  # type: ignore[arg-type]
