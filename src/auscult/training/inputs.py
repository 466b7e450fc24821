"""What a method reads of a clip, and so what its batches hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from auscult.methods.base import Batch, Method
from auscult.settings.training import MethodSettings


@dataclass(frozen=True)
class Inputs:
    """What a method reads of a clip, and so what its batches hold: every batch of the project is built here.

    Attributes:
        frontend: of its log-mels; "" = none.
        wave: whether it reads waveforms.
    """

    frontend: str
    wave: bool

    @classmethod
    def of(cls, method: Method, settings: MethodSettings) -> Inputs:
        return cls(method.mel(settings), method.wave(settings))

    def batch(self, wave: Callable[[], Tensor], mel: Callable[[str], Tensor], **known: Tensor | None) -> Batch:
        """A batch, for which only what the method reads is computed.

        Args:
            wave: gives the waveforms float32 [B, samples].
            mel: gives the log-mels of a front-end, float32 [B, mels, frames] in dB.
            known: the other parts of the batch.
        """
        return Batch(wave=wave() if self.wave else None, mel=mel(self.frontend) if self.frontend else None, **known)
