"""The same results in words that ONNX has, put in the place of some functions while a network is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auscult.methods import glow_aff, windows
from auscult.models.glow import Glow


@contextmanager
def export_forms() -> Iterator[None]:
    """Put what computes the same in words that ONNX has in the place of some functions, while a network is traced."""
    put: list[tuple[Any, str, Any]] = [
        (module, "mean_over_windows", _in_one_pass)
        for name, module in list(sys.modules.items())
        if name.startswith("auscult.methods.") and hasattr(module, "mean_over_windows")
    ]
    put += [
        (functional, "adaptive_max_pool2d", _adaptive_max_pool),
        (glow_aff.GlowAff, "_score", _of_all_flows),
        (Glow, "forward", _flow),
    ]
    originals = [getattr(place, name) for place, name, _ in put]
    try:
        for place, name, form in put:
            setattr(place, name, form)
        yield
    finally:
        for (place, name, _), original in zip(put, originals, strict=True):
            setattr(place, name, original)


def _in_one_pass(
    evaluate: Callable[[Tensor], tuple[Tensor, ...]], mel: Tensor, width: int, hop: int = 1, chunk: int = 0
) -> tuple[Tensor, ...]:
    """`windows.mean_over_windows` without its chunks: they bound memory, but their number is not fixed."""
    cut = windows.windows(mel, width, hop)
    each = evaluate(cut.flatten(0, 1))
    return tuple(value.float().unflatten(0, (cut.shape[0], cut.shape[1])).mean(1) for value in each)


def _of_all_flows(network: glow_aff.GlowAff, mel: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """`GlowAff._score` where every unit is a candidate: no rows are picked. No embedding: its mean mel takes the place."""
    cut = network._normalised(mel).unfold(2, network.window, network.settings.hop).transpose(1, 2)
    rows = cut.flatten(0, 1)
    each = [flow.nll(*flow(rows)).unflatten(0, (cut.shape[0], cut.shape[1])).mean(1) for flow in network.flows]
    return mel.mean(2), torch.stack(each).amin(0)


def _flow(flow: Glow, window: Tensor) -> tuple[list[Tensor], Tensor]:
    """`Glow.forward`; there, `len` makes a constant of the number of windows."""
    x, latent, log_det = window.unsqueeze(1), [], window.new_zeros(window.shape[0])
    for number in range(len(flow.levels)):
        x = functional.pixel_unshuffle(x, flow.squeeze)
        for step in flow.steps(number):
            x, change = step(x)
            log_det = log_det + change
        if number + 1 < len(flow.levels):
            x, out = x.chunk(2, 1)
            latent.append(out)
    return [*latent, x], log_det


def _adaptive_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`adaptive_max_pool2d` of images of height one: each output looks at samples floor(i L / n) to ceil((i + 1) L / n)."""
    length, outputs = x.shape[3], size[1]
    spans = [range(i * length // outputs, -(-(i + 1) * length // outputs)) for i in range(outputs)]
    longest = max(map(len, spans))
    rows = [span[min(step, len(span) - 1)] for span in spans for step in range(longest)]  # the last one again
    return x[..., torch.tensor(rows)].unflatten(3, (outputs, longest)).amax(4)
