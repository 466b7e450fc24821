"""How a detector is fitted, and what is checked of that before the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auscult.data.audio import Channel
from auscult.detector.backend import require_known
from auscult.detector.places import require_method
from auscult.detector.thresholds import check_rate
from auscult.errors import AuscultError
from auscult.methods import load_method
from auscult.settings.section import validated
from auscult.settings.training import MethodSettings


@dataclass(frozen=True)
class FitSettings:
    """How a detector is fitted.

    Attributes:
        method: a name in `METHODS`; `values`: of its settings, where they are not its defaults.
        backend: one of `backend.known`; "" = the method's own score where it has one, otherwise the nearest neighbours at
            the distance that its `Method` says, as in the pipeline's tables and pages.
        k: neighbours.
        rate: of false alarms per window, in (0, 1); None = 0.1, or the smallest that few recordings support.
        seconds, sample_rate: of a window, Hz; 0 = see `windows.choose_seconds` and `windows.choose_rate`.
        channel: the one that is listened to, or "mean".
        one_mode: sub-folders are days or the like, and no modes of operation.
        seed: of everything random in training.
        long_on_cpu: train what takes a CPU days.
        labels: a table that says which recordings are normal; None = all.
    """

    method: str = "spectral_knn"
    values: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    k: int = 1
    rate: float | None = None
    seconds: float = 0.0
    sample_rate: int = 0
    channel: Channel = 0
    one_mode: bool = False
    seed: int = 0
    long_on_cpu: bool = False
    labels: Path | None = None


def checked(asked: FitSettings) -> MethodSettings:
    """The method's settings; everything asked for is checked before the work.

    Raises:
        AuscultError: something asked for does not exist, or cannot be.
    """
    require_method(asked.method)
    settings = validated(load_method(asked.method).settings, {**asked.values, "method": asked.method}, asked.method)
    if settings.lowpass_hz:
        raise AuscultError("a bundle listens to all it is given", "lowpass_hz", "lower the rate with --sample-rate")
    if asked.rate is not None:
        check_rate(asked.rate)
    if asked.backend:
        require_known(asked.backend)
    if asked.k < 1:
        raise AuscultError(f"k is {asked.k}, and at least 1 neighbour is wanted", fix="leave out --k")
    return settings
