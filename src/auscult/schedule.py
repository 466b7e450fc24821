"""Learning rate of an epoch as a pure function, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math


def cosine_lr(epoch: int, epochs: int, lr: float, lr_min: float, delay: int = 0) -> float:
    """Half a cosine from `lr` down to `lr_min`.

    Args:
        epoch: counted from 0; the value is the one in use during it.
        epochs: epochs of the half wave (300 in OS-SCL, Noisy-ArcMix and STgram-MFN).
        lr: value at the start (1e-4 in all three).
        lr_min: value at `delay + epochs` (1e-5 in all three).
        delay: epochs at the start value. STgram-MFN's code begins after 20 and ends after 300 in all, so that it
            never reaches `lr_min`.
    """
    progress = max(epoch - delay, 0) / epochs
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * progress))
