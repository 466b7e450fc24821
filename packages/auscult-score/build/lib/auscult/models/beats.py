"""BEATs (Chen et al., ICML 2023): a Transformer over 16 x 16 patches of a log-mel spectrogram.

Layers and formulas as in the authors' code, in the order in which the signal meets them. Sizes in comments are those of
the published network for 2 s at 16 kHz: 198 frames, 12 x 8 = 96 tokens (10 s: 998 frames, 62 x 8 = 496).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from auscult.features.constants import constant


@dataclass(frozen=True)
class Sizes:
    """Sizes of the published network.

    Args:
        layers: Transformer layers.
        width: D, size of a token.
        ffn: width inside the feed-forward blocks.
        heads: attention heads.
        embed: channels of the patch embedding.
        patch: height and width of a patch, in bins and frames.
        position_kernel: tokens seen by the positional convolution.
        position_groups: its groups.
        buckets: rows of the table of relative biases; half of them for each direction.
        max_distance: offset in tokens from which on all offsets share a bucket.
    """

    layers: int = 12
    width: int = 768
    ffn: int = 3072
    heads: int = 12
    embed: int = 512
    patch: int = 16
    position_kernel: int = 128
    position_groups: int = 16
    buckets: int = 320
    max_distance: int = 800


class Beats(nn.Module):
    """The network without its filter bank.

    Args:
        sizes: of its parts.
        layerdrop: chance that a layer is left out in a training step; drawn from torch's CPU generator.
        gradient_decay: the gradient is multiplied by this at the input of each layer, so that the parameters of the first
            of 12 layers see its 11th power.
        activation_checkpointing: in training, keep a layer's input alone and compute the rest again.
    """

    def __init__(
        self,
        sizes: Sizes,
        layerdrop: float,
        gradient_decay: float,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.layerdrop, self.gradient_decay = layerdrop, gradient_decay
        self.activation_checkpointing = activation_checkpointing
        self.patch = nn.Conv2d(1, sizes.embed, sizes.patch, stride=sizes.patch, bias=False)
        self.patch_norm = nn.LayerNorm(sizes.embed)
        self.project = nn.Linear(sizes.embed, sizes.width)
        self.position = PositionConv(sizes.width, sizes.position_kernel, sizes.position_groups)
        self.norm = nn.LayerNorm(sizes.width)
        self.relative = RelativeBias(sizes.heads, sizes.buckets, sizes.max_distance)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor, layer: int = 0, padding: Tensor | None = None) -> Tensor:
        """Tokens after a Transformer layer.

        Args:
            x: [B, frames, bins], normalised log-mel; frames that do not fill a patch are dropped.
            layer: 1 = the first; 0 = the last.
            padding: bool [B, n], true where a clip has ended; n is the number of frames, or of samples.

        Returns:
            [B, T, D] with T = (frames // patch) * (bins // patch), time-major: token = time * rows + frequency.
            Tokens of padding mean nothing.
        """
        frames = x.shape[1]
        x = self.patch(x.unsqueeze(1))  # [B, 512, 12, 8]
        x = x.flatten(2).transpose(1, 2)  # [B, 96, 512]
        x = self.project(self.patch_norm(x))  # [B, 96, 768]
        if padding is not None:
            padding = grouped(grouped(padding, frames), x.shape[1])  # [B, 96]
            x = x.masked_fill(padding.unsqueeze(-1), 0.0)
        # From here on the sum of the residuals stays in the precision of the weights, also under autocast.
        x = self.norm((x + self.position(x)).to(self.norm.weight.dtype))
        bias = self.relative(x.shape[1])  # [12, 96, 96], shared by all layers
        kept = self._kept()
        for block, keep in zip(list(self.layers)[: layer or None], kept, strict=False):
            if self.gradient_decay != 1:
                x = _ScaledGradient.apply(x, self.gradient_decay)
            if keep and self.activation_checkpointing and self.training:
                x = checkpoint(block, x, bias, padding, use_reentrant=False)
            elif keep:
                x = block(x, bias, padding)
        return x

    def _kept(self) -> Sequence[bool]:
        """Which layers take part in this pass; drawn on the CPU, so that no step waits for the GPU."""
        if not self.training or self.layerdrop == 0:
            return [True] * len(self.layers)
        kept: list[bool] = (torch.rand(len(self.layers)) >= self.layerdrop).tolist()
        return kept


class PositionConv(nn.Module):
    """Convolution over the token axis, whose weight is a direction times a gain for each of its taps."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.direction = nn.Parameter(torch.randn(width, width // groups, kernel) * math.sqrt(4 / (kernel * width)))
        self.gain = nn.Parameter(_norm(self.direction.detach()))  # [1, 1, kernel]
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D], to be added to the input."""
        # Also under autocast in the precision of the weights: a GPU's grouped convolution in bfloat16 is several times slower.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.direction.dtype)
            weight = self.direction * (self.gain / _norm(self.direction))
            y = functional.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.padding, groups=self.groups)
        return functional.gelu(y[..., : x.shape[1]]).transpose(1, 2)  # an even kernel gives one output too many


def _norm(direction: Tensor) -> Tensor:
    return direction.norm(dim=(0, 1), keepdim=True)


class RelativeBias(nn.Module):
    """Learnt addition to the attention scores that depends on how far the key is from the query, in tokens."""

    def __init__(self, heads: int, buckets: int, max_distance: int) -> None:
        super().__init__()
        self.buckets, self.max_distance = buckets, max_distance
        self.table = nn.Embedding(buckets, heads)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, tokens: int) -> Tensor:
        """[heads, query, key] for sequences of `tokens` tokens."""
        index = bucket_of_offset(tokens, self.buckets, self.max_distance, self.table.weight.device)
        by_offset = self.table(index).T  # [heads, 2 T - 1], from key - query = 1 - T to T - 1
        return by_offset.unfold(1, tokens, 1).flip(1)  # the row of query q begins at offset -q


@constant
def bucket_of_offset(tokens: int, buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """Row of the bias table for the offsets key - query = 1 - tokens, ..., tokens - 1: int64 [2 tokens - 1].

    Half the rows are for keys after the query. In each half, a quarter of all rows are for single offsets; the other quarter
    grows logarithmically up to `max_distance`. As in the authors' code, in float32: rounding decides at the borders.
    """
    with torch.inference_mode(False):  # a tensor born in inference mode could never be used in training
        offset = torch.arange(1 - tokens, tokens)
        half, exact = buckets // 2, buckets // 4
        distance = offset.abs()
        share = torch.log(distance.clamp(min=exact).float() / exact) / math.log(max_distance / exact)  # 0 to 1
        far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
        return (torch.where(distance < exact, distance, far) + half * (offset > 0)).to(device)


class Layer(nn.Module):
    """Attention and feed-forward block, each followed by a layer norm over the up-weighted residual sum (deep norm)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.alpha = (2 * sizes.layers) ** 0.25  # 2.2134
        beta = (
            8 * sizes.layers
        ) ** -0.25  # smaller first weights where the input's scale matters; irrelevant afterwards
        self.attention = Attention(sizes.width, sizes.heads, beta)
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.ffn = FeedForward(sizes.width, sizes.ffn, beta)
        self.ffn_norm = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None = None) -> Tensor:
        """Tokens [B, T, D], relative bias [heads, T, T], padded tokens bool [B, T] -> [B, T, D]."""
        x = self.attention_norm(self.alpha * x + self.attention(x, bias, padding))
        return self.ffn_norm(self.alpha * x + self.ffn(x))


class Attention(nn.Module):
    """Softmax(q k' / sqrt(head) + gate * bias) v, with a gate for each query and head."""

    def __init__(self, width: int, heads: int, beta: float = 1.0) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = _linear(width, width, 1.0), _linear(width, width, 1.0)
        self.v, self.out = _linear(width, width, beta), _linear(width, width, beta)
        self.gate = nn.Linear(width // heads, 8)
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.zeros_(self.gate.bias)
        self.gate_scale = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None = None) -> Tensor:
        """Tokens [B, T, D], relative bias [heads, T, T], padded tokens bool [B, T] -> [B, T, D], before the residual."""
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        scores = self.gates(q) * bias  # [B, 12, 96, 96]
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None, :], -math.inf)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=scores.to(q.dtype))  # [B, 12, 96, 64]
        return self.out(y.transpose(1, 2).flatten(2))

    def gates(self, q: Tensor) -> Tensor:
        """Projected queries [B, heads, T, head] -> [B, heads, T, 1], in the precision of the weights.

        WavLM computes its gates from the hidden state instead.
        """
        with torch.autocast(q.device.type, enabled=False):
            eight = self.gate(q.to(self.gate_scale.dtype))  # [B, 12, 96, 8]
            a, b = eight.unflatten(-1, (2, 4)).sum(-1, keepdim=True).sigmoid().unbind(-2)
            return a * (b * self.gate_scale - 1) + 2


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, hidden: int, beta: float = 1.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = _linear(width, hidden, beta), _linear(hidden, width, beta)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D], before the residual."""
        return self.fc2(functional.gelu(self.fc1(x)))


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def grouped(padding: Tensor, parts: int) -> Tensor:
    """Padding of samples to frames, or of frames to tokens: bool [B, n] -> [B, parts], n >= parts.

    The last n mod `parts` entries are dropped and the rest split into equal groups; a group counts as padding if all of it
    is. Authors' rule: for tokens it splits the flattened sequence, so that of a patch column half in the padding some rows
    are masked and some are not.
    """
    return padding[:, : padding.shape[1] // parts * parts].unflatten(1, (parts, -1)).all(-1)


class _ScaledGradient(torch.autograd.Function):
    """Nothing forward; backward the gradient times `factor`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
