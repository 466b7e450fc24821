"""Attentive statistics and the plain poolings against NumPy, clip by clip and token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from auscult.errors import AuscultError
from auscult.models.pooling import POOLINGS, AttentiveStatistics, cleaned
from support.fill import v

WIDTH, BOTTLENECK, CLIPS, TOKENS = 5, 4, 6, 7


def tokens(clips: int = CLIPS, count: int = TOKENS) -> Tensor:
    return torch.from_numpy(v("tokens", (clips, count, WIDTH)))


def asp() -> AttentiveStatistics:
    """In double, with every parameter and statistic away from its first value."""
    made = AttentiveStatistics(WIDTH, BOTTLENECK).double()
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(v(name, tuple(value.shape))) + (1.5 if name.endswith("_var") else 0))
    return made


def normalised(rows: np.ndarray, norm: torch.nn.BatchNorm1d, train: bool) -> np.ndarray:
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    if train:
        mean, variance = rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)
    return (rows - mean) / np.sqrt(variance + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def reference(made: AttentiveStatistics, x: np.ndarray, train: bool) -> np.ndarray:
    w1, b1, w2, b2 = (p.detach().numpy() for p in (*made.reduce.parameters(), *made.expand.parameters()))
    hidden = []
    for clip in x:
        mean = sum(clip) / len(clip)
        deviation = np.sqrt(sum((token - mean) ** 2 for token in clip) / len(clip))
        hidden += [np.maximum(w1 @ np.concatenate([token, mean, deviation]) + b1, 0) for token in clip]
    hidden = np.tanh(normalised(np.array(hidden), made.reduce_norm, train))
    scores = (hidden @ w2.T + b2).reshape(x.shape)
    pooled = []
    for clip, score in zip(x, scores, strict=True):
        means, deviations = [], []
        for channel in range(WIDTH):
            weights = np.exp(score[:, channel]) / np.exp(score[:, channel]).sum()
            means.append(weights @ clip[:, channel])
            deviations.append(np.sqrt(weights @ (clip[:, channel] - means[-1]) ** 2))
        pooled.append(means + deviations)
    return normalised(np.array(pooled), made.norm, train)


@pytest.mark.parametrize("train", [True, False])
def test_attentive_statistics_equal_brute_force(train: bool) -> None:
    made, x = asp().train(train), tokens()
    expected = reference(made, x.numpy(), train)
    np.testing.assert_allclose(made(x).detach(), expected, rtol=1e-9, atol=1e-11)
    weights = made.attention(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(CLIPS, WIDTH, dtype=torch.float64))
    assert weights.std(1).min() > 1e-3, "attention differs between tokens"


def test_order_of_tokens_does_not_count() -> None:
    made, x = asp().eval(), tokens()
    torch.testing.assert_close(made(x.flip(1)), made(x))


@pytest.mark.parametrize("count", [1, 4])
def test_constant_tokens(count: int) -> None:
    """Also a clip of a single token: the mean is that token, the deviation nothing, and the gradient finite."""
    made, one = asp().eval(), tokens(3, 1)
    x = one.repeat(1, count, 1).requires_grad_()
    out = made(x)
    out.sum().backward()
    pooled = (out - made.norm.bias) / made.norm.weight * (made.norm.running_var + made.norm.eps).sqrt()
    pooled = pooled + made.norm.running_mean
    torch.testing.assert_close(pooled[:, :WIDTH], one[:, 0])
    assert pooled[:, WIDTH:].abs().max() < 2e-6
    for gradient in (x.grad, *(parameter.grad for parameter in made.parameters())):
        assert gradient.isfinite().all()
    assert x.grad.abs().max() > 0


def test_float32_under_autocast() -> None:
    made, x = asp().float().eval(), tokens().float()
    expected = made(x)
    np.testing.assert_allclose(expected.detach(), reference(asp(), x.double().numpy(), False), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(x), expected)
        assert made(x.bfloat16()).dtype == torch.float32


# -------------------------------------------------------------------------------------------------- of frozen encoders
@pytest.mark.parametrize("class_token", [False, True])
def test_plain_poolings_equal_brute_force(class_token: bool) -> None:
    flat = v("patches", (2, TOKENS, WIDTH))
    first = v("class", (2, 1, WIDTH))
    x = torch.from_numpy(np.concatenate([first, flat], 1) if class_token else flat)
    found = {name: pool(x, class_token) for name, pool in POOLINGS.items() if name != "class_token" or class_token}
    for i in range(2):
        every = list(flat[i])
        mean = sum(every) / len(every)
        deviation = np.sqrt(sum((token - mean) ** 2 for token in every) / len(every))
        expected = {
            "mean": mean,
            "mean_std": np.concatenate([mean, deviation]),
            "max": [max(token[c] for token in every) for c in range(WIDTH)],
        }
        if class_token:
            expected["class_token"] = first[i, 0]
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][i], value, rtol=1e-12, err_msg=name)


def test_an_encoder_without_class_token() -> None:
    with pytest.raises(AuscultError, match="no class token") as caught:
        POOLINGS["class_token"](tokens(), False)
    assert "mean_std" in caught.value.fix


def test_plain_poolings_of_one_token_and_of_low_precision() -> None:
    one = tokens(2, 1)
    for name, pool in POOLINGS.items():
        pooled = pool(one, name == "class_token")
        torch.testing.assert_close(pooled[:, :WIDTH], one[:, 0])
        assert pool(tokens().bfloat16(), name == "class_token").dtype == torch.float32
    torch.testing.assert_close(
        POOLINGS["mean_std"](one, False)[:, WIDTH:], torch.zeros(2, WIDTH).double(), atol=2e-6, rtol=0
    )


def test_clean_up_value_by_value() -> None:
    """Nothing moves between 0.1 and 0.5, nothing lies below 0.1 or above 1.5, order and continuity stay; off, it is the same."""
    x = torch.linspace(-2, 40, 5001, dtype=torch.float64)
    found = cleaned(x, "eat").numpy()
    expected = [max(value, 0.1) if value <= 0.5 else 0.5 + np.tanh(value - 0.5) for value in x.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (np.diff(found) >= 0).all()
    assert np.diff(found).max() < 1.1 * (x[1] - x[0])
    assert cleaned(x, "none") is x
