"""Which device computes."""

from __future__ import annotations

import torch

from auscult.errors import AuscultError


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one.

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
    return device
