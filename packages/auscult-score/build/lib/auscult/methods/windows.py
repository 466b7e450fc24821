"""Networks that see a clip through windows of a few frames: their results, averaged over all windows of whole clips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auscult.methods.base import Batch, Drawn, Network


def windows(mel: Tensor, width: int, hop: int = 1) -> Tensor:
    """All windows of `width` frames, one every `hop` frames: [B, mels, frames] -> [B, W, mels, width], a view.

    >>> windows(torch.arange(4).view(1, 1, 4), width=2)
    tensor([[[[0, 1]],
    <BLANKLINE>
             [[1, 2]],
    <BLANKLINE>
             [[2, 3]]]])
    """
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

    >>> mean_over_windows(lambda windows: (windows.sum((1, 2)),), torch.arange(4.0).view(1, 1, 4), width=2)
    (tensor([3.]),)
    """
    views = windows(mel, width, hop)
    clips, count = views.shape[:2]
    if torch.compiler.is_exporting():  # to ONNX: the number of chunks would become a constant
        each = evaluate(views.flatten(0, 1))
        return tuple(value.float().unflatten(0, (clips, count)).mean(1) for value in each)
    parts = []
    for row in torch.arange(clips * count, device=mel.device).split(chunk):
        values = evaluate(views[row // count, row % count])  # only here are windows copied
        parts.append([value.float() for value in values])
    return tuple(torch.cat(column).unflatten(0, (clips, count)).mean(1) for column in zip(*parts, strict=True))


class WindowErrors(Network):
    """A network that makes an error on every window: its mean is what training lowers, and a clip's score."""

    width: int
    """Frames of a window."""

    def evaluate(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vector [n, D] and error [n] of windows [n, mels, width], each by itself."""
        raise NotImplementedError

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        return {"loss": self.evaluate(batch.mel)[1].mean()}

    def valid_loss(self, batch: Batch) -> Tensor:
        return self.embed(batch)[1]["native"]

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean latent vector [B, D] over all windows of whole clips; native score: mean error over the same [B]."""
        latent, error = mean_over_windows(self.evaluate, batch.mel, self.width)
        return latent, {"native": error}
