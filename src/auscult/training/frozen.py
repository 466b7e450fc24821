"""Frozen weights as training steps read them: rounded once, where autocast would round them anew in every step, and those of one
input side by side, so that one product serves query, key and value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from auscult.methods.base import Network
from auscult.models.lora import Joint
from auscult.settings.training import Train

ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Whose weights autocast rounds; not what is derived from them."""


class Frozen:
    """The frozen weights of a network, held for its training steps. Between them (validation, saved states) the network is what
    it was, to the bit; its parameters, their names and what is saved are the same all the time.

    Takes half of the float32 weights' memory on top, in bfloat16; in float32, on a GPU, that of the maps which are joined.
    """

    def __init__(self, network: Network, train: Train, device: torch.device) -> None:
        self._values: list[tuple[Tensor, Tensor]] = []
        self._joint: list[tuple[Joint, Tensor, Tensor | None]] = []
        # Only networks around an encoder have one; importing them here would load all that they need.
        part: nn.Module | None = getattr(network, "frozen_part", lambda: None)()
        dtype = torch.bfloat16 if train.precision == "bfloat16" else torch.float32
        # A CPU's products of float32 stay apart: they gain nothing, and results keep their last bits.
        if part is not None and (device.type != "cpu" or dtype == torch.bfloat16):
            self._hold(part, dtype)

    @torch.no_grad()
    def _hold(self, part: nn.Module, dtype: torch.dtype) -> None:
        exact: tuple[str, ...] = getattr(part, "in_float32", ())
        done = set[nn.Module]()
        for joint in part.modules():
            if isinstance(joint, Joint) and (maps := joint.frozen_maps()):
                weights: list[Tensor] = [each.weight for each in maps]
                biases: list[Tensor] = [
                    each.weight.new_zeros(len(each.weight)) if each.bias is None else each.bias for each in maps
                ]
                some = any(each.bias is not None for each in maps)
                self._joint.append((joint, torch.cat(weights).to(dtype), torch.cat(biases).to(dtype) if some else None))
                done |= set(maps)
        for name, module in part.named_modules():
            if type(module) not in ROUNDED or module in done or set(exact) & set(name.split(".")):
                continue
            for weight in module.parameters(recurse=False):
                if not weight.requires_grad and weight.dtype != dtype:
                    self._values.append((weight, weight.to(dtype)))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, steps read the weights as they are held."""
        kept = [weight.data for weight, _ in self._values]
        try:
            for weight, rounded in self._values:
                weight.data = rounded
            for joint, rows, bias in self._joint:
                joint.weight, joint.bias = rows, bias
            yield
        finally:
            for (weight, _), value in zip(self._values, kept, strict=True):
                weight.data = value
            for joint, _, _ in self._joint:
                joint.weight = joint.bias = None
