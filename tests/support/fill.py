"""The fill rule of the golden files: a tensor follows from its name, shape and kind (see tests/golden/README.md)."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent.parent / "golden"
NORMS = {"bn", "bn0", "bn1", "bn2", "ln"}


def golden(name: str) -> dict[str, Any]:
    """Arrays of one golden file; uint8 arrays are JSON or text and come decoded."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: _decoded(file[key]) for key in file.files}


def _decoded(array: np.ndarray) -> Any:
    if array.dtype != np.uint8:
        return array
    text = array.tobytes().decode()
    return json.loads(text) if text[0] in "[{" else text


def uniform(name: str, count: int) -> np.ndarray:
    """The first `count` numbers u in [0, 1) of `name`: SplitMix64 seeded with the CRC-32 of the name."""
    k = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64(zlib.crc32(name.encode())) + k * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def v(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Raw input array in [-1, 1), double precision."""
    return (2 * uniform(name, math.prod(shape)) - 1).reshape(shape)


def filled(name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Weight array, float32."""
    raw = v(name, shape)
    values = {
        "w": lambda: raw * math.sqrt(6 / math.prod(shape[1:])),
        "b": lambda: 0.05 * raw,
        "nw": lambda: 1 + 0.2 * raw,
        "nb": lambda: 0.1 * raw,
        "rm": lambda: 0.1 * raw,
        "rv": lambda: 1 + 0.3 * raw,
        "act": lambda: 0.25 + 0.05 * raw,
    }[kind]()
    return values.astype(np.float32)


def kind_of(name: str) -> str:
    """Kind of a tensor from its name."""
    *_, module, leaf = f".{name}".split(".")
    if leaf in ("running_mean", "running_var"):
        return {"running_mean": "rm", "running_var": "rv"}[leaf]
    if module in NORMS:
        return {"weight": "nw", "bias": "nb"}[leaf]
    if module == "act":
        return "act"
    return "b" if leaf == "bias" else "w"


def fill(network: nn.Module, prefix: str) -> nn.Module:
    """Fill every tensor of `network` in place; its golden name is `prefix` plus its own."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                shape = tuple(tensor.shape)
                tensor.copy_(torch.from_numpy(filled(prefix + name, shape, kind_of(name))))
    return network


def tensor(array: np.ndarray) -> Tensor:
    """A golden or raw array as float32 (integers stay as they are)."""
    result = torch.from_numpy(np.asarray(array))
    return result.float() if result.is_floating_point() else result


def relative_error(ours: Tensor, reference: np.ndarray) -> float:
    """Largest deviation, divided by the largest magnitude of the reference ("rel" in the golden README)."""
    assert tuple(ours.shape) == reference.shape
    return absolute_error(ours, reference) / float(np.abs(reference).max())


def absolute_error(ours: Tensor, reference: np.ndarray) -> float:
    """Largest deviation."""
    assert tuple(ours.shape) == np.shape(reference)
    return float(np.abs(ours.detach().double().numpy() - reference).max())


def statistics(x: Tensor) -> list[float]:
    """Mean, population standard deviation, largest magnitude, L2 norm: in double precision."""
    x = x.detach().double()
    return [x.mean().item(), x.std(correction=0).item(), x.abs().max().item(), x.norm().item()]
