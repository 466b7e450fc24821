"""Learning rates against golden vectors and PyTorch's own scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auscult.settings.training import MethodSettings
from auscult.training.schedule import Plan, cosine_lr
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


def lrs(plan: Plan) -> list[float]:
    return [plan.lr(epoch, batch) for epoch in range(plan.epochs) for batch in range(plan.batches(epoch))]


def test_steps_end_inside_an_epoch() -> None:
    plan = Plan(MethodSettings(method="x", train_steps=25, schedule="constant"), per_epoch=10)
    assert (plan.passes, plan.epochs) == (25, 3)
    assert [plan.batches(epoch) for epoch in range(3)] == [10, 10, 5]


def test_warm_up_is_a_straight_line_and_counts_what_steps_count() -> None:
    values = {"method": "x", "train_steps": 20, "warmup_steps": 4, "schedule": "constant", "lr": 1.0, "accumulate": 3}
    by_pass = lrs(Plan(MethodSettings.model_validate(values), per_epoch=7))
    assert by_pass[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert set(by_pass[4:]) == {1.0}
    by_update = lrs(Plan(MethodSettings.model_validate({**values, "step": "update"}), per_epoch=7))
    assert len(by_update) == 60
    assert by_update[:12] == [0.25] * 3 + [0.5] * 3 + [0.75] * 3 + [1.0] * 3


def test_warm_up_and_cosine_equal_torch_schedulers() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    warm = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / 5))
    settings = MethodSettings(method="x", train_steps=45, warmup_steps=5, lr=3e-4, lr_min=1e-6)
    ours = lrs(Plan(settings, per_epoch=6))
    for step in range(5):
        assert ours[step] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        warm.step()
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40, eta_min=1e-6)
    for step in range(5, 45):
        assert ours[step] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        cosine.step()


def test_updates_take_whole_groups_and_what_is_left() -> None:
    plan = Plan(MethodSettings(method="x", epochs=2, accumulate=4), per_epoch=10)
    assert [batch for batch in range(10) if plan.updates(0, batch)] == [3, 7, 9]
    assert [plan.batches_per_update(0, batch) for batch in range(10)] == [4] * 8 + [2] * 2
