"""Networks that see a clip through windows of a few frames: their results, averaged over all windows of whole clips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def windows(mel: Tensor, width: int, hop: int = 1) -> Tensor:
    """All windows of `width` frames, one every `hop` frames: [B, mels, frames] -> [B, W, mels, width], a view."""
    return mel.unfold(2, width, hop).transpose(1, 2)


def mean_over_windows(
    evaluate: Callable[[Tensor], tuple[Tensor, ...]], mel: Tensor, width: int, hop: int = 1, chunk: int = 4096
) -> tuple[Tensor, ...]:
    """Mean over the windows of each clip of everything that `evaluate` says of a window.

    The windows of all clips stand in one row and are evaluated `chunk` at a time, whatever clip they come from: the
    memory of the network is bounded by `chunk`, however long and however many the clips are.

    Args:
        evaluate: [n, mels, width] -> tensors [n, ...]; a window's result must not depend on the other windows.
        mel: [B, mels, frames].
        width, hop: as in `windows`.
        chunk: windows evaluated at once.

    Returns:
        For each tensor of `evaluate` its float32 mean [B, ...].
    """
    views = windows(mel, width, hop)
    clips, count = views.shape[:2]
    parts = []
    for row in torch.arange(clips * count, device=mel.device).split(chunk):
        values = evaluate(views[row // count, row % count])  # only here are windows copied
        parts.append([value.float() for value in values])
    return tuple(torch.cat(column).unflatten(0, (clips, count)).mean(1) for column in zip(*parts, strict=True))
