"""Work of a spawned process that is to fail: in a module of its own, since the new process imports it by its name."""

from __future__ import annotations

import torch

from auscult.errors import AuscultError
from auscult.training import distributed


def fails(how: str) -> None:
    """Process 1 fails as `how` says; process 0 waits for it."""
    if distributed.rank() == 1:
        if how == "user":
            raise AuscultError("the loss is nan", "network `all`", "lower `lr`")
        if how == "bug":
            raise ZeroDivisionError("at last")
    torch.distributed.barrier()
    raise AuscultError("this process", fix="should not have come here")
