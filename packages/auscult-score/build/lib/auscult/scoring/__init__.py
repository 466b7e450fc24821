"""The back-ends, by the name of their file. A new one is a file beside this one and its name in this list."""

from __future__ import annotations

import importlib
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

if TYPE_CHECKING:
    from auscult.scoring.banks import Backend

NEIGHBOURS = 1
"""k of every back-end that looks for nearest neighbours, where nothing else is said."""

BACKENDS = [
    "knn", "transductive", "ldn", "smote", "memmixup", "kmeans", "mahalanobis", "lof", "gmm", "graph", "beam", "varmin",
]  # fmt: skip

ENTRIES = {
    "fusion": ("NativeSettings", "FusionSettings"),
    "calibration": ("CalibratedSettings",),
    "blind": ("BlindSettings",),
}
"""File -> settings of the entries of a sweep that are no back-ends: most are made of others."""


@cache
def backends() -> dict[str, Backend]:
    """Kind -> back-end: the `BACKEND` of each file of `BACKENDS`, under every kind that its settings know."""
    found: dict[str, Backend] = {}
    for name in BACKENDS:
        backend: Backend = importlib.import_module(f"auscult.scoring.{name}").BACKEND
        found |= dict.fromkeys(get_args(backend.settings.model_fields["kind"].annotation), backend)
    return found


def left_out_kinds() -> list[str]:
    """Kinds whose training clips have exact scores of their own, so that a threshold can be taken from these."""
    return [kind for kind, backend in backends().items() if backend.left_out is not None]


class SweepEntry:
    """Marks a field of a model as an entry of `backends.sweep`: settings of a back-end, a fusion, or `native`, by `kind`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        models: list[Any] = [*dict.fromkeys(backend.settings for backend in backends().values())]
        for file, names in ENTRIES.items():
            models += [getattr(importlib.import_module(f"auscult.scoring.{file}"), name) for name in names]
        return handler.generate_schema(Annotated[reduce(or_, models), Field(discriminator="kind")])
