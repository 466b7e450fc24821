"""Which device computes."""

from __future__ import annotations

import torch

from auscult.errors import AuscultError
from auscult.settings.training import Train
from auscult.training import distributed
from auscult.training.memory import keep_freed_memory


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one; each of several processes that train together has its own.

    Raises:
        AuscultError: a GPU is asked for and none is there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AuscultError(f"unknown device `{name}`", "train.device", "use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AuscultError("no GPU is available to torch", "train.device", "use: -S train.device=cpu")
    return torch.device("cuda", distributed.rank()) if device.type == "cuda" and distributed.size() > 1 else device


def prepare(device: torch.device, train: Train) -> None:
    """How this process computes on `device`, for training and for embedding alike."""
    torch.set_num_threads(train.threads)
    if device.type == "cpu":
        keep_freed_memory()
        return
    torch.backends.cudnn.benchmark = True  # nearly all batches are of one shape
    # Both products and convolutions: by default torch computes the former in float32 and the latter in TF32.
    torch.set_float32_matmul_precision(train.matmul)
    torch.backends.cudnn.allow_tf32 = train.matmul == "high"
