"""Spectra in float64, for bundles: what is heard must not depend on whose Fourier transform is at work.

Beside a pure tone lies nothing but the rounding of float32, tens of dB below the sound, and a network may make a difference in
score of it. A spectrum in float64, rounded to float32 at its end, is the same wherever it is computed: in this program
and in an exported file (exportspectrum.py). From the float32 spectra that networks are trained on it differs by that rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from auscult.features.logmel import log_mel
from auscult.methods.base import Network

KALDI = ("beats", "eat", "ast", "imagebind")
"""Encoders whose front-end is `auscult.features.kaldi.kaldi_fbank`, which computes in the precision of the waveform."""


def exact_log_mel(wave: Tensor, frontend: str, sample_rate: int) -> Tensor:
    """`log_mel` in float64 of float32 [n, samples], rounded to float32 [n, mels, frames].

    One by one: the spectra of more clips would not fit the processor's cache.
    """
    return torch.cat([log_mel(one.double(), frontend, sample_rate).float() for one in wave.split(1)])


def make_exact(network: Network, encoder: str) -> None:
    """Let a network's encoder compute its front-end in float64, where it can (`KALDI`)."""
    if encoder in KALDI:
        module: Any = network.encoder
        module.front_end = _exact(module.front_end)


def _exact(front_end: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def exact(wave: Tensor) -> Tensor:
        return front_end(wave.double()).float()

    return exact
