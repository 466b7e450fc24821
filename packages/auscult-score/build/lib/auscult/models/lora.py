"""Low-rank adaptation of linear maps with several branches, fully connected or apart (Han et al., section III-B).

With no dropout the connected form is one LoRA of the same rank whose A starts sqrt(n) times larger and whose learning rate
is n times larger: all B_i get the same gradient, and so do all A_j. Its gain over a single LoRA may be that of the larger
steps; `init_scale` and `lr_scale` of the settings give the single LoRA that it equals. Only the unconnected form, or
dropout drawn per branch, is another model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.settings.sections import LoraSettings


class LoraLinear(nn.Module):
    """A linear map W x + c and what its branches add to it.

    Connected: W x + c + s * sum_i B_i (sum_j A_j x), Eq. (3); otherwise: W x + c + s * sum_i B_i A_i x. The A_i start as
    PyTorch's linear maps do, times `init_scale`, the B_i at zero: at first the output is that of `base`, to the bit.

    Args:
        base: the map that is adapted; kept, not copied. Frozen when the settings say so.
        settings: n = `branches`, r = `rank`, s = `scale` and so on.

    Attributes:
        a: A_i, [n, r, in].
        b: B_i, [n, out, r].

    Raises:
        AuscultError: a rank of 0.
    """

    def __init__(self, base: nn.Linear, settings: LoraSettings) -> None:
        super().__init__()
        if settings.rank == 0:
            raise AuscultError("LoRA of rank 0 adds nothing", "lora.rank", "give it a rank, or leave LoRA away")
        self.base = base.requires_grad_(not settings.frozen)
        self.connected, self.scale, self.dropout = settings.connected, settings.scale, settings.dropout
        n, r = settings.branches, settings.rank
        self.a = nn.Parameter(base.weight.new_empty(n, r, base.in_features))
        self.b = nn.Parameter(base.weight.new_zeros(n, base.out_features, r))
        with torch.no_grad():
            for branch in self.a:  # one by one: the fan-in of a stack would be misread
                nn.init.kaiming_uniform_(branch, a=math.sqrt(5))
            self.a.mul_(settings.init_scale)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out], of the type that `base` gives (bfloat16 under autocast).

        Dropout is drawn from PyTorch's global generator, in training alone.
        """
        out = self.base(x)
        down, up = self._factors()
        if not (self.training and self.dropout):
            return out + functional.linear(functional.linear(x, down), up)
        branches = len(self.a)
        dropped = functional.dropout(x.reshape(1, -1, x.shape[-1]).expand(branches, -1, -1), self.dropout)
        hidden = dropped @ self.a.mT  # [n, tokens, r]
        hidden = hidden.sum(0) if self.connected else hidden.transpose(0, 1).flatten(1)
        return out + functional.linear(hidden, up).view(out.shape)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """All branches as one product up @ down, scaled: of rank r when connected (Eq. 3), else of rank n * r."""
        if self.connected:
            return self.a.sum(0), self.scale * self.b.sum(0)
        return self.a.flatten(0, 1), self.scale * self.b.transpose(0, 1).flatten(1)

    def delta_weight(self) -> Tensor:
        """What is added to W, [out, in]: Delta W of Eqs. (2) and (4), the scale included; without dropout."""
        down, up = self._factors()
        return up @ down

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear map with the weight W + Delta W (Eqs. 1-4); a copy, trainable where `base` is."""
        linear = copy.deepcopy(self.base)
        linear.zero_grad()
        linear.weight.add_(self.delta_weight())
        return linear


def add_lora(module: nn.Module, names: Iterable[str], settings: LoraSettings) -> list[LoraLinear]:
    """Put a `LoraLinear` in the place of each named linear map of `module`; with rank 0 nothing is done.

    The weights of a checkpoint are loaded before, for the maps change their names (`fc1.weight` -> `fc1.base.weight`).
    Nothing but the maps themselves is frozen.

    Args:
        names: dotted names, as `Encoder.linear_maps` gives them.

    Returns:
        The new modules, in the order of the names.

    Raises:
        AuscultError: a name that is not an `nn.Linear` in `module`; then nothing is replaced.
    """
    modules, found = dict(module.named_modules(remove_duplicate=False)), dict[str, nn.Linear]()
    for name in names:
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            kind = f"is a {type(linear).__name__}" if linear is not None else "does not exist"
            raise AuscultError(f"LoRA needs an nn.Linear, and `{name}` {kind}", type(module).__name__, "see lora.maps")
        found[name] = linear
    if settings.rank == 0:
        return []
    layers = {name: LoraLinear(linear, settings) for name, linear in found.items()}
    for name, layer in layers.items():
        module.set_submodule(name, layer)
    return list(layers.values())


def merge_lora(module: nn.Module) -> None:
    """Put in the place of every `LoraLinear` below `module` its merged `nn.Linear`: the state dict has its old names again."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                parent.set_submodule(name, child.merged())


def lora_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """A and B of every `LoraLinear` in `module`: those that `lr_scale` of the settings is for."""
    for layer in module.modules():
        if isinstance(layer, LoraLinear):
            yield layer.a
            yield layer.b
