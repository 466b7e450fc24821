"""Learning rates against golden vectors and PyTorch's own scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.schedule import cosine_lr
from support.fill import golden


@pytest.mark.parametrize(("name", "delay"), [("osscl", 0), ("stgram", 20)])
def test_golden(name: str, delay: int) -> None:
    ours = [cosine_lr(epoch, 300, 1e-4, 1e-5, delay) for epoch in range(301)]
    np.testing.assert_allclose(ours, golden("lr_schedule")[f"{name}_lr_per_epoch"], rtol=0, atol=5e-18)


def test_equals_torch_scheduler() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40, eta_min=1e-6)
    for epoch in range(40):
        assert cosine_lr(epoch, 40, 3e-4, 1e-6) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        scheduler.step()
