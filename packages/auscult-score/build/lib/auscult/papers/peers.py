"""What docs/peers.md counts: methods and encoders here that no other toolkit of its table has."""

from __future__ import annotations

import re

from auscult.encoders import MODULES
from auscult.methods import METHODS

ELSEWHERE = {
    "ae", "dcase_ae", "spectral_knn", "feature_knn", "frozen", "featex", "multires", "scac_lora",
}  # fmt: skip
"""Methods that ASDKit (recipes, July 2025) or PyOD (3.6) has a form of; DACo and anomalib add none."""
ENCODERS_ELSEWHERE = {"beats", "eat"}
"""ASDKit's; DACo's third, PANNs, is not here as an encoder."""
MARKS = ("<!-- counted -->", "<!-- /counted -->")


def counted() -> str:
    """The sentences between the marks of the page."""
    own = [name for name in METHODS if name not in ELSEWHERE]
    encoders = [name for name in MODULES if name not in ENCODERS_ELSEWHERE]
    return (
        f"Of {len(METHODS)} methods here {len(own)} are in none of the toolkits below (their authors' own code apart): "
        f"{_listed(own)}. Of {len(MODULES)} encoders {len(encoders)}: {_listed(encoders)}."
    )


def page(text: str) -> str:
    """docs/peers.md with its counts as they are now."""
    first, last = MARKS
    return re.sub(f"{first}.*?{last}", f"{first}\n{counted()}\n{last}", text, flags=re.S)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
