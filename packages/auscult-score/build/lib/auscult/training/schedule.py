"""Length and learning rate of a training as pure functions of epoch and step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auscult.settings.training import MethodSettings


def cosine_lr(at: float, length: float, lr: float, lr_min: float, delay: float = 0) -> float:
    """Half a cosine from `lr` down to `lr_min`.

    Args:
        at: epoch (or batch), counted from 0; the value is the one in use during it.
        length: epochs (or batches) of the half wave (300 epochs in OS-SCL, Noisy-ArcMix and STgram-MFN).
        lr: value at the start (1e-4 in all three).
        lr_min: value at `delay + length` (1e-5 in all three).
        delay: epochs (or batches) at the start value. STgram-MFN's code begins after 20 and ends after 300 in all, so that it
            never reaches `lr_min`.
    """
    progress = max(at - delay, 0) / length
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Plan:
    """When a training ends, when it updates the weights, and with which learning rate.

    Attributes:
        settings: `epochs` or `train_steps`, `accumulate`, and the schedule.
        per_epoch: batches that hold every training item once.
    """

    settings: MethodSettings
    per_epoch: int

    @property
    def passes(self) -> int:
        """Batches in all."""
        return (
            self.settings.train_steps * self._passes_per_step
            if self.settings.train_steps
            else self.settings.epochs * self.per_epoch
        )

    @property
    def epochs(self) -> int:
        """Epochs begun; with `train_steps`, the last may be cut short."""
        return -(-self.passes // self.per_epoch)

    def batches(self, epoch: int) -> int:
        """Batches of an epoch."""
        return min(self.per_epoch, self.passes - epoch * self.per_epoch)

    def batches_per_update(self, epoch: int, batch: int) -> int:
        """How many batches share the update of this one. Updates do not reach over the end of an epoch."""
        first = batch - batch % self.settings.accumulate
        return min(self.settings.accumulate, self.batches(epoch) - first)

    def updates(self, epoch: int, batch: int) -> bool:
        """Whether the weights are updated after this batch."""
        return (batch + 1) % self.settings.accumulate == 0 or batch + 1 == self.batches(epoch)

    def lr(self, epoch: int, batch: int) -> float:
        """Learning rate during a batch: of the epoch if epochs are counted; of the batch with `train_steps` or a warm-up."""
        s = self.settings
        if not s.train_steps and not s.warmup_steps:
            return cosine_lr(epoch, s.epochs, s.lr, s.lr_min, s.schedule_delay) if s.schedule == "cosine" else s.lr
        at, warm = epoch * self.per_epoch + batch, s.warmup_steps * self._passes_per_step
        if at < warm:
            return s.lr * (at // self._passes_per_step + 1) / s.warmup_steps
        if s.schedule == "constant":
            return s.lr
        delay = s.schedule_delay * self.per_epoch
        return cosine_lr(at - warm, max(1, self.passes - warm), s.lr, s.lr_min, delay)

    @property
    def _passes_per_step(self) -> int:
        return self.settings.accumulate if self.settings.step == "update" else 1
