"""FLOP and bytes of what torch runs, counted, and the most that a device can do of either."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

PEAKS = {  # dense TFLOP/s in bfloat16, TF32 and float32; memory in TB/s (makers' data sheets, SXM cards)
    "H200": (989, 494, 67, 4.8), "H100": (989, 494, 67, 3.35), "B200": (2250, 1100, 75, 8.0), "GH200": (989, 494, 67, 4.0),
    "A100-SXM4-80GB": (312, 156, 19.5, 2.04), "A100": (312, 156, 19.5, 1.56), "L40S": (362, 183, 91.6, 0.864),
    "A10": (125, 62.5, 31.2, 0.6), "RTX 4090": (165, 82.6, 82.6, 1.01), "RTX 3090": (71, 35.6, 35.6, 0.936),
}  # fmt: skip


def flop_of(operation: Any, args: Any, kwargs: Any, out: Any) -> float:
    """Two per multiply-add. Convolutions here: torch's own rule forgets the groups of their backward pass."""
    aten = torch.ops.aten
    if operation in (aten.convolution, aten.conv1d, aten.conv2d):
        return 2.0 * out.numel() * args[1][0].numel()
    if operation is aten.convolution_backward:
        return 2.0 * args[0].numel() * args[2][0].numel() * sum(args[-1][:2])
    if operation is aten.linear:
        return 2.0 * out.numel() * args[1].shape[1]
    if operation is aten.matmul:
        return 2.0 * out.numel() * args[0].shape[-1]
    return float(flop_registry[operation](*args, **kwargs, out_val=out)) if operation in flop_registry else 0.0


class Counter(TorchDispatchMode):
    """FLOP of convolutions and matrix products, and bytes that every operation reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.flop, self.bytes = 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flop += flop_of(func._overloadpacket, args, kwargs or {}, out)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ------------------------------------------------------------------------------------------------------------------------ peaks
def peaks(device: torch.device, precision: str, matmul: str) -> tuple[str, float, float]:
    """Name of the device, its FLOP/s for this arithmetic and its bytes/s."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for key in sorted(PEAKS, key=len, reverse=True):
            if key.lower() in name.lower():
                bf16, tf32, float32, memory = PEAKS[key]
                arithmetic = bf16 if precision == "bfloat16" else tf32 if matmul != "highest" else float32
                return name, arithmetic * 1e12, memory * 1e12
    flop, moved = measured_peaks(device)
    return (
        (torch.cuda.get_device_name(device) if device.type == "cuda" else "processor") + ", peaks measured",
        flop,
        moved,
    )


@lru_cache
def measured_peaks(device: torch.device, size: int = 1024) -> tuple[float, float]:
    """FLOP/s of a square product in float32 and bytes/s of a copy of 256 MB, the best of five."""
    a, big = torch.randn(size, size, device=device), torch.ones(1 << 26, device=device)
    target = torch.empty_like(big)
    flop, moved = [], []
    for _ in range(5):
        for work, rates, amount in (
            (lambda: a @ a, flop, 2 * size**3),
            (lambda: target.copy_(big), moved, 8 * big.numel()),
        ):
            settle()
            start = time.perf_counter()
            work()
            settle()
            rates.append(amount / (time.perf_counter() - start))
    return max(flop), max(moved)
