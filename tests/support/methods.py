"""Settings with which every method trains in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from auscult.methods import load_method
from auscult.models import mobilefacenet, mobilenet_v2
from auscult.settings.params import load_profile
from auscult.settings.training import MethodSettings

SMALL = load_profile("synthetic", Path(__file__).parents[2] / "profiles").overrides
# Every part of BEATs, and random weights.
TINY_ENCODER: dict[str, Any] = {
    "name": "beats", "checkpoint": "",
    "size": {"layers": 2, "width": 32, "ffn": 64, "heads": 2, "embed": 16, "position_kernel": 16, "position_groups": 2},
}  # fmt: skip


@contextmanager
def few_blocks() -> Iterator[None]:
    """MobileFaceNet and MobileNetV2 of fewer and narrower blocks, of each kind some: wider, strided, with the input added; and
    CNN10 of narrower ones.

    For what is asked of a method and not of its numbers: most of the seconds that all methods take are those of the three.
    """
    plans = dict.fromkeys(mobilefacenet.PLANS, ((2, 32, 2, 2), (4, 64, 1, 2)))
    channels = (8, 16, 32, 64)
    with (
        patch.dict(mobilefacenet.PLANS, plans), patch.object(mobilenet_v2, "PLAN", ((1, 16, 1, 1), (6, 24, 2, 2))),
        patch("auscult.models.cnn10.CHANNELS", channels), patch("auscult.methods.cnn10.CHANNELS", channels),
    ):  # fmt: skip
        yield


def small(name: str, epochs: int = 3) -> MethodSettings:
    """Sizes of the small synthetic profile, few epochs, batches that leave a last one of a single item."""
    method = load_method(name)
    values: dict[str, Any] = {"method": name, **SMALL.get(name, {})}
    fields = method.settings.model_fields
    if "ffts" in fields:
        values |= {"ffts": (256, 1024), "width": 16}
    if "encoder" in fields:
        values |= {"encoder": TINY_ENCODER}
    if "chunk_seconds" in fields:
        values |= {"chunk_seconds": 0.4, "embedding": 16, "warmup_steps": 2, "train_steps": 0, "accumulate": 2}
    if not method.settings(method=name).trained:
        return method.settings.model_validate(values)
    size = 64 if method.window(method.settings(method=name), 1000) else 7
    values |= {"epochs": epochs, "batch_size": size, "lr": 1e-3}
    for key, field in method.settings.model_fields.items():  # phases before the last
        if "epochs" in getattr(type(field.default), "model_fields", {}):
            values[key] = {**values.get(key, {}), "epochs": epochs, "batch_size": size, "lr": 1e-3}
    return method.settings.model_validate(values)
