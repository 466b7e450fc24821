"""Which device computes, and how a process is set up for it."""

from __future__ import annotations

import ctypes
import sys

import torch

from auscult.errors import AuscultError
from auscult.settings.training import Train
from auscult.training import distributed

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from <malloc.h>


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
    if device.type == "cuda" and distributed.size() > 1:
        return torch.device("cuda", torch.cuda.current_device())  # as launch.py has set it
    return device


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


def keep_freed_memory() -> bool:
    """Stop glibc from returning large blocks to the system; call once, before training on a CPU. True if it did.

    A training step allocates and frees hundreds of arrays of some 100 MB. By default each is a fresh mapping whose
    pages the kernel must clear again; that was 40 % of the processor time of a step. Results do not change. The process
    needs about a quarter more memory at its peak and holds it until it ends. Elsewhere (macOS, Windows, musl) nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
