"""Settings of the methods that train no network, apart from their files: a bundle of theirs is scored without torch, which those
files import.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from auscult.settings.section import Positive
from auscult.settings.sections import RowPooling
from auscult.settings.training import MethodSettings

Pool = Literal["mean", "std", "max", "gwrp"]


class SpectralKnnSettings(MethodSettings):
    method: Literal["spectral_knn"] = "spectral_knn"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "osscl"
    pooling: tuple[Pool, ...] = ("mean", "std", "max")
    """Statistics over time, joined: mean, deviation, maximum (which hears clicks), or by rank, between mean and maximum (`r`)."""
    r: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"
    """Of `gwrp`: 1 = mean, 0 = maximum; auto = the one that tells the classes of the training clips apart best."""


class FeatureKnnSettings(MethodSettings):
    method: Literal["feature_knn"] = "feature_knn"
    frontend: str = "osscl"
    floor: float = 0.0
    """Added to every value before its logarithm; 0 = no logarithm."""
    standardise: Literal["none", "machine", "unit"] = "none"
    """Whose training clips give mean and standard deviation of each value: the machine type's, or those of the clip's class
    (its unit)."""


R = Annotated[float, Field(ge=0, le=1)]


class TwfrGmmSettings(MethodSettings):
    method: Literal["twfr_gmm"] = "twfr_gmm"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "stgram"
    r: Literal["auto"] | R | dict[str, R] = "auto"
    """1 = mean over time, 0 = maximum; auto = chosen by training clips; or by the name of the machine type, and auto for those
    that are not named."""
    components: Positive | dict[str, Positive] = 1
    """Of a unit's mixture; or by the name of the machine type, and one for those that are not named."""
    reg_covar: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the variances."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-6
    """Of the expectation-maximisation."""


class LogmelRowsSettings(MethodSettings):
    method: Literal["logmel_rows"] = "logmel_rows"
    any_length: ClassVar[bool] = True
    fill: Literal["none", "repeat", "zeros"] = "none"
    frontend: str = "osscl"
    bands: Positive = 8
    """F, into which the mel bands fall; BEATs has as many."""
    rows: RowPooling = RowPooling(how="rdp")
