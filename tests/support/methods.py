"""Settings with which every method trains in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auscult.config import MethodSettings
from auscult.methods import load_method
from auscult.params import load_profile

SMALL = load_profile("synthetic", Path(__file__).parents[2] / "profiles").overrides


def small(name: str, epochs: int = 3) -> MethodSettings:
    """Sizes of the small synthetic profile, few epochs, batches that leave a last one of a single item."""
    method = load_method(name)
    values: dict[str, Any] = {"method": name, **SMALL.get(name, {})}
    if not method.settings(method=name).epochs:
        return method.settings.model_validate(values)
    size = 64 if method.window(method.settings(method=name), 1000) else 7
    values |= {"epochs": epochs, "batch_size": size, "lr": 1e-3}
    for key, field in method.settings.model_fields.items():  # phases before the last
        if "epochs" in getattr(type(field.default), "model_fields", {}):
            values[key] = {**values.get(key, {}), "epochs": epochs, "batch_size": size, "lr": 1e-3}
    return method.settings.model_validate(values)
