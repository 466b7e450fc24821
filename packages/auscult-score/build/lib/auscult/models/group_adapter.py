"""Machine-aware group adapter (Han et al., section III-C): a clip's mix of learnt unit vectors, added to all its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.settings.sections import GroupAdapterSettings


class GroupAdapter(nn.Module):
    """Which groups a clip belongs to, from its mean token, and the sum of their vectors in these shares.

    p = softmax(g(x) / tau_1), Eq. (5), where g is the mean over the tokens and width -> hidden -> groups with GELU between
    (the paper leaves g's sizes open); x_g = sum_i p_i a_i, Eq. (6), over n_g vectors (the printed sum has one more). The
    vectors are normalised where they are used, so that they have length 1 whatever an optimiser does. Everything here
    runs in the type of the parameters, under autocast too.

    Args:
        width: D, size of a token.
        settings: n_g = `groups`, tau_1 = `temperature`, `hidden`, `learn_scale`.
    """

    def __init__(self, width: int, settings: GroupAdapterSettings) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.decision = nn.Sequential(
            nn.Linear(width, settings.hidden), nn.GELU(), nn.Linear(settings.hidden, settings.groups)
        )
        self.vectors = nn.Parameter(torch.randn(settings.groups, width))  # their directions count, not their lengths
        self.scale = nn.Parameter(torch.ones(())) if settings.learn_scale else None

    def weights(self, x: Tensor) -> Tensor:
        """Tokens [B, T, D] -> p [B, n_g], each row summing to 1."""
        with torch.autocast(x.device.type, enabled=False):
            mean = x.mean(1, dtype=self.vectors.dtype)
            return (self.decision(mean) / self.temperature).softmax(1)

    def unit_vectors(self) -> Tensor:
        """a_i, [n_g, D], of length 1."""
        return functional.normalize(self.vectors)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, D] -> what is added to each of a clip's tokens, [B, D]; no longer than 1, or than `scale`."""
        with torch.autocast(x.device.type, enabled=False):
            out = self.weights(x) @ self.unit_vectors()
            return out if self.scale is None else self.scale * out


class Adapted(nn.Module):
    """A block of a Transformer, and an adapter that reads the same hidden states and adds to what the block returns.

    Args:
        inner: called with hidden states [B, T, D] first, and returns a tensor [B, T, D].
    """

    def __init__(self, inner: nn.Module, adapter: GroupAdapter) -> None:
        super().__init__()
        self.inner, self.adapter = inner, adapter

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Hidden states [B, T, D], and whatever else `inner` takes -> [B, T, D] in the type that `inner` gives."""
        out: Tensor = self.inner(x, *args, **kwargs)
        return out + self.adapter(x)[:, None].to(out.dtype)


def add_group_adapters(
    module: nn.Module, names: Iterable[str], width: int, settings: GroupAdapterSettings
) -> list[GroupAdapter]:
    """Wrap each named block of `module`, in place, with an adapter of its own.

    What lies inside a block changes its name (`attention.q` -> `attention.inner.q`): LoRA is put in, and the weights of a
    checkpoint are loaded, before.

    Args:
        names: dotted names, as `Encoder.blocks` gives them.
        width: D, size of a token.

    Returns:
        The adapters, in the order of the names.

    Raises:
        AuscultError: a name that `module` does not have; then nothing is wrapped.
    """
    modules, found = dict(module.named_modules(remove_duplicate=False)), dict[str, nn.Module]()
    for name in names:
        if not name or name not in modules:
            fix = "see group_adapter.position"
            raise AuscultError(f"there is no block `{name}` for a group adapter", type(module).__name__, fix)
        found[name] = modules[name]
    adapters = []
    for name, inner in found.items():
        like = next(inner.parameters(), None)
        adapter = GroupAdapter(width, settings)
        adapters.append(adapter if like is None else adapter.to(like.device, like.dtype))
        module.set_submodule(name, Adapted(inner, adapters[-1]))
    return adapters
