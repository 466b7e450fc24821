"""The knobs of the back-ends, one model for each kind; what they mean stands beside the code (auscult.scoring).

Kept apart from the code that computes, so that reading params.yaml imports none of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Metric = Literal["cosine", "euclidean"]


class BackendSettings(BaseModel):
    """Base of every kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    scope: Literal["unit", "machine"] | None = None
    """Whose training clips a test clip is compared with; null = as `score.scope`."""


class NativeSettings(BackendSettings):
    kind: Literal["native"]


class NearestSettings(BackendSettings):
    kind: Literal["knn_cosine", "knn_euclidean", "knn_cosine_transductive"]
    k: Positive = 1
    domain_banks: bool | None = None
    """One bank per domain and the minimum; null = as `score.domain_banks`."""


class DensitySettings(BackendSettings):
    kind: Literal["ldn"]
    k: Positive = 1
    density: Positive = 4
    """Neighbours of a training clip that its density is taken from."""


class SmoteSettings(BackendSettings):
    kind: Literal["smote"]
    k: Positive = 1
    domain_banks: bool | None = None
    metric: Metric = "cosine"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Target clips are filled up to this share of the source clips."""
    neighbours: Positive = 2
    seed: Annotated[int, Field(ge=0)] = 0


class KMeansSettings(BackendSettings):
    kind: Literal["kmeans"]
    k: Positive = 1
    centres: Positive = 16
    seed: Annotated[int, Field(ge=0)] = 0


class MahalanobisSettings(BackendSettings):
    kind: Literal["mahalanobis"]
    domain_banks: bool | None = None


class LofSettings(BackendSettings):
    kind: Literal["lof"]
    domain_banks: bool | None = None
    metric: Metric = "cosine"
    neighbours: Positive = 20


class GmmSettings(BackendSettings):
    kind: Literal["gmm"]
    domain_banks: bool | None = None
    components: Positive = 4
    floor: Annotated[float, Field(gt=0)] = 0.1
    """Added to every variance, as a share of the mean one."""
    seed: Annotated[int, Field(ge=0)] = 0


class FusionSettings(BackendSettings):
    kind: Literal["fusion"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]
    """Back-ends of the same sweep."""


AnyBackend = Annotated[
    NativeSettings
    | NearestSettings
    | DensitySettings
    | SmoteSettings
    | KMeansSettings
    | MahalanobisSettings
    | LofSettings
    | GmmSettings
    | FusionSettings,
    Field(discriminator="kind"),
]


class EnsembleSettings(BaseModel):
    """Several arms as one: the mean of their standardised scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    arms: Annotated[tuple[str, ...], Field(min_length=2)]
    backend: str
    """A back-end of the sweep."""
