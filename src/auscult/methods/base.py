"""What a method is to the rest of the project: its inputs, its settings, and a network with a loss and an embedding.

The training loop and the embedding stage know nothing else about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from auscult.config import MethodSettings


@dataclass(frozen=True)
class Shape:
    """Sizes a network is built for: classes C, log-mel bands and frames of a clip, samples of a clip."""

    classes: int
    mels: int
    frames: int
    samples: int


@dataclass(frozen=True)
class Batch:
    """One batch on the device. Parts the method does not ask for are None and were never computed.

    Attributes:
        label: int64 [B], index into the class list (training and validation).
        candidates: bool [B, C], the classes a clip may belong to (embedding).
        wave: float32 [B, samples] in [-1, 1).
        mel: float32 [B, mels, frames] in dB; in training of a windowed method [B, mels, window].
    """

    label: Tensor | None = None
    candidates: Tensor | None = None
    wave: Tensor | None = None
    mel: Tensor | None = None

    def mixed(self, partner: Tensor, lam: float) -> Batch:
        """lam * x + (1 - lam) * x[partner] of waveform and log-mel; the log-mel is mixed in dB, not recomputed."""

        def mix(x: Tensor | None) -> Tensor | None:
            return None if x is None else lam * x + (1 - lam) * x[partner]

        return replace(self, wave=mix(self.wave), mel=mix(self.mel))


class Network(nn.Module):
    """A method's network. Its state dict (buffers included) is all that is saved."""

    def prepare(self, batches: Iterable[Batch]) -> None:
        """See all training clips once before training (statistics, initialisation); the default does not look."""

    def loss(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Training loss: scalar under "loss", and any parts worth a curve. `rng` is this step's own."""
        raise TypeError(f"{type(self).__name__} is not trained by gradient: set its epochs to 0")

    def valid_loss(self, batch: Batch) -> Tensor:
        """Loss of each clean clip [B], in eval mode."""
        raise TypeError(f"{type(self).__name__} has no validation loss: set valid_fraction to 0")

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Embedding [B, D] of whole clips, and the method's own anomaly score [B] (higher = more anomalous) or None."""
        raise NotImplementedError


@dataclass(frozen=True)
class Method:
    """Registry line of a method.

    Attributes:
        settings: its pydantic model, whose defaults are the paper's values.
        build: network from settings and shape.
        scope: one network for all machines, or one per machine type.
        window: frames of a training item; 0 = a whole clip. The items of a clip start at every frame.
        mel, wave: which inputs it reads, given its settings; `mel` is a front-end's name, "" for none.
    """

    settings: type[MethodSettings]
    build: Callable[..., Network]
    scope: Literal["all", "machine"]
    mel: Callable[..., str]
    wave: Callable[..., bool]
    window: int = 0

    def groups(self, index: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """The clips of each network by its name: "all", or the machine type."""
        if self.scope == "all":
            return {"all": index}
        return {str(machine): clips for machine, clips in index.groupby("machine", sort=True)}


def mixing_partner(size: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    """A random permutation of a batch, drawn on the host (so the same on every device), sent without waiting."""
    return torch.from_numpy(rng.permutation(size)).to(device, non_blocking=True)
