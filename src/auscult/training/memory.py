"""Memory: what a device has left, and keeping what training frees on a CPU instead of handing it back to the system."""

from __future__ import annotations

import ctypes
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from <malloc.h>


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


def free_memory(device: torch.device) -> int | None:
    """Bytes free on a GPU; None for a CPU, whose memory the data set's memory map takes as it can."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
