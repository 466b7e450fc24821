"""From the tokens of a clip to one vector: attentive statistics, which is trained, and plain functions, which are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError

VARIANCE_FLOOR = 1e-12
"""Smallest variance under a root, whose gradient is infinite at zero."""


class AttentiveStatistics(nn.Module):
    """Mean and deviation of the tokens, weighted by attention channel by channel, and a batch norm.

    ECAPA-TDNN's form (Desplanques et al., Interspeech 2020, section 3.2), which AnoPatch names (section 3.1): each token
    stands beside the mean and the deviation of all tokens; linear to the bottleneck, ReLU, batch norm, tanh, linear back;
    softmax over the tokens. The batch norm that ECAPA-TDNN puts after the pooling is the last step here; the linear map
    that follows is the caller's. Everything here runs in float32 under autocast too.

    Args:
        width: D, size of a token.
        bottleneck: 128 in ECAPA-TDNN; neither AnoPatch nor Han et al. gives it.
    """

    def __init__(self, width: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.reduce = nn.Linear(3 * width, bottleneck)  # reads [token, mean, deviation]
        self.reduce_norm = nn.BatchNorm1d(bottleneck)
        self.expand = nn.Linear(bottleneck, width)
        self.norm = nn.BatchNorm1d(2 * width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> [B, 2 D]: weighted means, then weighted deviations, normalised over the batch."""
        with torch.autocast(tokens.device.type, enabled=False):
            x = tokens.to(self.reduce.weight.dtype)
            weights = self.attention(x)
            mean = (weights * x).sum(1)
            variance = (weights * (x - mean[:, None]).square()).sum(1)
            return self.norm(torch.cat([mean, _root(variance)], 1))

    def attention(self, x: Tensor) -> Tensor:
        """Weights [B, T, D] of the tokens [B, T, D]; those of a channel sum to 1."""
        width = x.shape[-1]
        every, context = self.reduce.weight.split([width, 2 * width], 1)
        # Mean and deviation are those of all tokens: multiplied once per clip, not once per token.
        clip = functional.linear(torch.cat(_statistics(x), 1), context)[:, None]
        hidden = (functional.linear(x, every, self.reduce.bias) + clip).relu()
        hidden = self.reduce_norm(hidden.flatten(0, 1)).view_as(hidden)
        return self.expand(hidden.tanh()).softmax(1)


def _root(variance: Tensor) -> Tensor:
    return variance.clamp(min=VARIANCE_FLOOR).sqrt()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (over T, not T - 1) of [B, T, D], each [B, D]."""
    return x.mean(1), _root(x.var(1, correction=0))


def _patches(tokens: Tensor, class_token: bool) -> Tensor:
    """The tokens that stand for a part of the clip, at least in float32."""
    return tokens[:, int(class_token) :].to(torch.promote_types(tokens.dtype, torch.float32))


Clean = Literal["none", "eat"]
"""What is done to tokens before they are pooled without parameters."""


def cleaned(tokens: Tensor, how: Clean) -> Tensor:
    """Tokens with values that are cut off below and squashed above: "eat", for the encoder of that name.

    arXiv 2603.04605, table I: values below 0.1 are set to 0.1, values above 0.5 squashed by tanh. The formula above 0.5 is not
    printed; here 0.5 + tanh(x - 0.5), which goes on from 0.5 with the same slope.

    >>> [round(value, 2) for value in cleaned(torch.tensor([-3.0, 0.3, 0.5, 1.0, 90.0]), "eat").tolist()]
    [0.1, 0.3, 0.5, 0.96, 1.5]
    >>> cleaned(torch.tensor([-3.0]), "none")
    tensor([-3.])
    """
    if how == "none":
        return tokens
    x = tokens.to(torch.promote_types(tokens.dtype, torch.float32)).clamp(min=0.1)
    return torch.where(x > 0.5, 0.5 + torch.tanh(x - 0.5), x)


def mean(tokens: Tensor, class_token: bool = False) -> Tensor:
    """Mean over the tokens, [B, D].

    >>> mean(torch.tensor([[[9.0], [1.0], [3.0]]]), class_token=True)
    tensor([[2.]])
    """
    return _patches(tokens, class_token).mean(1)


def mean_std(tokens: Tensor, class_token: bool = False) -> Tensor:
    """Mean and deviation over the tokens, [B, 2 D].

    >>> mean_std(torch.tensor([[[1.0], [3.0]]]))
    tensor([[2., 1.]])
    """
    return torch.cat(_statistics(_patches(tokens, class_token)), 1)


def maximum(tokens: Tensor, class_token: bool = False) -> Tensor:
    """Largest value of each channel, [B, D].

    >>> maximum(torch.tensor([[[1.0, 5.0], [3.0, 2.0]]]))
    tensor([[3., 5.]])
    """
    return _patches(tokens, class_token).amax(1)


def first(tokens: Tensor, class_token: bool = False) -> Tensor:
    """The class token, [B, D].

    Raises:
        AuscultError: the encoder has none.
    """
    if not class_token:
        others = [name for name in POOLINGS if name != "class_token"]
        raise AuscultError("this encoder has no class token", fix=f"pool with one of: {', '.join(others)}")
    return tokens[:, 0].to(torch.promote_types(tokens.dtype, torch.float32))


Pooling = Callable[[Tensor, bool], Tensor]
"""(tokens [B, T, D], one more in front if there is a class token; class token?)."""

POOLINGS: dict[str, Pooling] = {
    "mean": mean,
    "mean_std": mean_std,
    "max": maximum,
    "class_token": first,
}
"""Of frozen encoders, without parameters; by frequency rows: rows.py. A class token counts in none but "class_token"."""
