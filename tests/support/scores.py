"""Scores by a back-end with its knobs given by name."""

from __future__ import annotations

from typing import Any

from auscult.evaluation.metrics import Floats
from auscult.scoring import backends
from auscult.scoring.banks import BackendSettings, Scope
from auscult.scoring.table import scored
from support.clouds import Clouds


def knobs(kind: str, k: int = 1, domains: bool = False, scope: Scope = "unit", **others: Any) -> BackendSettings:
    """Settings of a back-end, `k` where it has neighbours."""
    model = backends()[kind].settings
    own = {"k": k} if "k" in model.model_fields else {}
    return model(kind=kind, **own, **others).filled(scope, domains)


def scores(kind: str, parts: Clouds, k: int = 1, domains: bool = False, scope: Scope = "unit", **others: Any) -> Floats:
    """Scores of the test clips."""
    return scored(knobs(kind, k, domains, scope, **others), *parts)
