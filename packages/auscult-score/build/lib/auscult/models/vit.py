"""The layers of a Vision Transformer (Dosovitskiy et al., ICLR 2021), as EAT, CED, ATST and ImageBind have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head self-attention without mask, its four linear maps apart.

    Args:
        width: D.
        heads: divide D.
        bias: of the maps to q, k and v; the one of `out` is always there.
        bias_kv: one learnt key and value more, behind those of the tokens (PyTorch's `add_bias_kv`; ImageBind).
    """

    def __init__(self, width: int, heads: int, bias: bool = True, bias_kv: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1).to(k.dtype)], dim=1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1).to(v.dtype)], dim=1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))  # [B, heads, T, D / heads]
        mixed: Tensor = self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """One Transformer layer.

    Args:
        width, heads, bias, bias_kv: see `Attention`.
        ffn: width between the two maps of the feed-forward part.
        norm_first: x + f(norm(x)), as in the Vision Transformer; otherwise norm(x + f(x)) (EAT, after data2vec 2.0).
    """

    def __init__(
        self, width: int, heads: int, ffn: int, norm_first: bool = True, bias: bool = True, bias_kv: bool = False
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, bias, bias_kv)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.ffn = FeedForward(width, ffn)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        if self.norm_first:
            x = x + self.attention(self.norm1(x))
            return x + self.ffn(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.ffn(x))
        return y


class Transformer(nn.Module):
    """Layers in a row.

    Args:
        blocks: the layers, first layer first, all of one width and order of norms.
        layerdrop: chance that a layer is left out in a training step.
        checkpointing: activations inside a layer are computed again in the backward pass instead of kept.

    Layers whose norm comes first are followed by one norm more; it belongs to the output, not to the last layer.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        layerdrop: float,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.layerdrop, self.checkpointing = layerdrop, checkpointing
        self.blocks = nn.ModuleList(blocks)
        last = blocks[-1]
        self.norm = nn.LayerNorm(list(last.norm1.normalized_shape), eps=1e-6) if last.norm_first else nn.Identity()

    def forward(self, x: Tensor, layer: int = 0) -> Tensor:
        """[B, T, D] -> [B, T, D] after layer `layer` (1 = first), those above it not computed; 0 = after the last norm."""
        for block in list(self.blocks)[: layer or None]:
            if self.training and self.layerdrop and torch.rand(()).item() < self.layerdrop:  # drawn on the CPU: no sync
                continue
            if self.training and self.checkpointing:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x if layer else self.norm(x)


def initialise(network: nn.Module) -> None:
    """First values of a Vision Transformer, in place: weights and tables N(0, 0.02) cut at 2, shifts 0, scales 1."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            nn.init.trunc_normal_(parameter, std=0.02)
        else:
            nn.init.ones_(parameter)
