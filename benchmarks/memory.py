"""Memory of a training step at the papers' sizes, counted.

PYTHONPATH=src python benchmarks/memory.py            # a table, as Markdown
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.finetuned import FineTuned
from common import RATE, SECONDS, command, parser_of

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("AnoPatch, 32 x 10 s", "anopatch", {}),
    ("AnoPatch, checkpointing", "anopatch", {"encoder": {"activation_checkpointing": True}}),
    ("Han et al., 32 x 2 s", "han", {}),
    ("Han et al., full fine-tuning", "han", {"lora": {"rank": 0}, "group_adapter": {"position": "none"}}),
    ("Han et al., checkpointing", "han", {"encoder": {"activation_checkpointing": True}}),
]


def kept(network: FineTuned, batch: Batch, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps for the backward pass of `batch`, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    storages: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        torch.autocast(batch.wave.device.type, dtype, enabled=dtype != torch.float32),
    ):
        network.loss(batch, network.draw(batch, np.random.default_rng(0)))["loss"].backward()
    return sum(storages.values())


def clips(count: int, device: torch.device) -> Batch:
    wave = 0.1 * torch.randn(count, round(SECONDS * RATE), device=device)
    return Batch(label=torch.zeros(count, dtype=torch.int64, device=device), wave=wave)


def memory() -> None:
    """Memory of a training step at the papers' sizes, counted: weights, gradients, AdamW's moments, and what autograd keeps.

    Activations are the bytes of the distinct storages that autograd saves in a forward pass, less weights: of two and of four
    clips, from which a straight line leads to the batch. On a GPU, attention keeps at most as much (its kernels save no matrix
    of weights but the mask), and the allocator and the front-end's temporaries come on top: some 10 %.
    """
    parser_of(memory).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = Shape(classes=41, mels=0, frames=0, samples=round(SECONDS * RATE))
    print(
        "| training | parameters | trained | weights, gradients, moments (GB) | kept, float32 (GB) | kept, bfloat16 (GB) |"
    )
    print("|---|---|---|---|---|---|")
    for title, name, changes in CASES:
        changes = {**changes, "encoder": {"checkpoint": "", **changes.get("encoder", {})}}
        settings = load_method(name).settings.model_validate({"method": name, **changes})
        network = load_method(name).build(settings, shape).to(device).train()
        total = sum(weight.numel() for weight in network.parameters())
        trained = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        fixed = 4 * total + 12 * trained
        sizes = []
        for dtype in (torch.float32, torch.bfloat16):
            two, four = (kept(network, clips(count, device), dtype) for count in (2, 4))
            sizes.append((two + (settings.batch_size - 2) * (four - two) / 2) / 1e9)
        print(
            f"| {title} | {total:,} | {trained:,} | {fixed / 1e9:.2f} | {sizes[0]:.1f} | {sizes[1]:.1f} |", flush=True
        )


if __name__ == "__main__":
    command({"memory": memory})
