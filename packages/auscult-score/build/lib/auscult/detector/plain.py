"""A bundle whose method trains no network, scored with NumPy alone: torch takes longer to import than hours of sound to judge.

What the networks in the methods' files compute in `embed`, in float32 as there; that the two agree is tested for each method.
`fit`, which learns the statistics, goes the way of all methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auscult.detector.stream import whole
from auscult.features import exact_spectrogram
from auscult.methods.shape import Shape
from auscult.settings.sections import RowPooling
from auscult.settings.training import MethodSettings
from auscult.settings.untrained import FeatureKnnSettings, LogmelRowsSettings, SpectralKnnSettings, TwfrGmmSettings

CHUNK = 8
"""Windows computed at once: the spectra of more would not fit the processor's cache."""
LEAST = np.float32(1e-6)
"""Smallest deviation that `spectral_knn` divides by."""
Tensors = Mapping[str, np.ndarray]
Sizes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name of a tensor -> its type and shape; () = any shape."""


@dataclass(frozen=True)
class Plain:
    """A fitted method.

    Attributes:
        settings: with `frontend` and `fill`; shape: of a window; tensors: what was fitted, by name.
        resting: float32 [D], the embedding of a window of the training, or zeros.
    """

    settings: Any
    shape: Shape
    tensors: Tensors
    resting: np.ndarray | float = 0.0

    def embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `network.embed`."""
        vectors, scores = [np.empty((0, 1), np.float32)], [np.empty(0)]
        windows = whole(windows, self.shape.samples, self.settings.fill == "none")
        for start in range(0, len(windows), CHUNK):
            part = np.ascontiguousarray(windows[start : start + CHUNK], np.float32)
            mel = exact_spectrogram(part, self.settings.frontend, self.shape.sample_rate)
            vector, own = _METHODS[type(self.settings)].embed(mel, self)
            vectors.append(vector.astype(np.float32, copy=False))
            scores.append(np.full(len(part), np.nan) if own is None else own.astype(np.float64))
        return np.concatenate(vectors[1:] or vectors), np.concatenate(scores)


def model_of(method: str) -> type[MethodSettings] | None:
    """The settings of a method that is scored here; None = it has a network."""
    return {model.model_fields["method"].default: model for model in _METHODS}.get(method)


def sizes(settings: MethodSettings, shape: Shape) -> Sizes:
    """The tensors that a fitted method has."""
    return _METHODS[type(settings)].sizes(settings, shape)


def load(path: Path, prefix: str, settings: MethodSettings, shape: Shape) -> Plain:
    """From a file of weights, whose names begin with `prefix`."""
    from safetensors.numpy import load_file

    return Plain(settings, shape, {key.removeprefix(prefix): value for key, value in load_file(path).items()})


# --------------------------------------------------------------------------------------------------------------- poolings
def gwrp(x: np.ndarray, r: float) -> np.ndarray:
    """As `models.gwrp.gwrp`, for one r: [..., T] -> [...].

    >>> [float(gwrp(np.array([1.0, 4.0, 2.0]), r)) for r in (0.0, 0.5)]
    [4.0, 3.0]
    """
    weights = r ** np.arange(x.shape[-1], dtype=np.float64)  # 0^0 = 1
    pooled: np.ndarray = np.sort(x, axis=-1)[..., ::-1] @ (weights / weights.sum()).astype(x.dtype)
    return pooled


def rows(x: np.ndarray, how: RowPooling) -> np.ndarray:
    """As `models.rows.pool_rows`: [B, T, F, D] -> [B, F, D]."""
    if how.how == "mean":
        return x.mean(1)
    if how.how == "first":
        return x[:, 0]
    if how.how == "max":
        return x.max(1)
    if how.how == "gwrp":
        return gwrp(np.moveaxis(x, 1, -1), how.r)
    w = None
    if how.how != "gem":
        d = np.linalg.norm(x - x.mean(1, keepdims=True), axis=-1)  # [B, T, F]
        largest = d.max(1, keepdims=True)
        w = ((1 + np.where(largest > 1e-12, d / np.maximum(largest, 1e-12), 0)) / 2) ** np.float32(how.gamma)
        w = w / w.sum(1, keepdims=True)
        if how.how == "rdp":
            return (w[..., None] * x).sum(1)
    positive = np.maximum(x, 0)
    largest = np.maximum(positive.max(1, keepdims=True), np.float32(1e-12))
    powers = (positive / largest) ** np.float32(how.p)
    total = powers.mean(1) if w is None else (w[..., None] * powers).sum(1)
    found: np.ndarray = total ** np.float32(1 / how.p) * largest[:, 0]
    return found


# ---------------------------------------------------------------------------------------------------------------- methods
class _SpectralKnn:
    @staticmethod
    def sizes(settings: SpectralKnnSettings, shape: Shape) -> Sizes:
        width = (shape.mels * len(settings.pooling),)
        found: dict[str, tuple[str, tuple[int, ...]]] = {"mean": ("F32", width), "std": ("F32", width)}
        if "gwrp" in settings.pooling:
            found["r"] = ("F32", (1,))
        return found

    @staticmethod
    def embed(mel: np.ndarray, fitted: Plain) -> tuple[np.ndarray, None]:
        pools = {
            "mean": lambda: mel.mean(2, dtype=np.float64).astype(np.float32),
            "std": lambda: mel.std(2, dtype=np.float64).astype(np.float32),
            "max": lambda: mel.max(2),
            "gwrp": lambda: gwrp(mel, float(fitted.tensors["r"][0])),
        }
        pooled = np.concatenate([pools[name]() for name in fitted.settings.pooling], axis=1)
        difference, mean, std = pooled - fitted.tensors["mean"], fitted.tensors["mean"], fitted.tensors["std"]
        # A band that never changed (a filter between two lines of the transform, nothing above a recorder's limit) has the floor
        # for its deviation, by which torch's and NumPy's rounding of its constant would be far apart.
        constant = (std <= LEAST) & (np.abs(difference) <= 1e-6 * np.maximum(1, np.abs(mean)))
        return np.where(constant, fitted.resting, difference / std), None


class _FeatureKnn:
    @staticmethod
    def sizes(settings: FeatureKnnSettings, shape: Shape) -> Sizes:
        size = (shape.classes if settings.standardise == "unit" else 1, shape.mels * shape.frames)
        return {"standardise.mean": ("F32", size), "standardise.std": ("F32", size)}

    @staticmethod
    def embed(mel: np.ndarray, fitted: Plain) -> tuple[np.ndarray, None]:
        x = mel.reshape(len(mel), -1)
        if fitted.settings.floor:
            x = np.log(np.maximum(x + np.float32(fitted.settings.floor), np.finfo(np.float32).tiny))
        return (x - fitted.tensors["standardise.mean"][0]) / fitted.tensors["standardise.std"][
            0
        ], None  # every class is one it may be of


class _LogmelRows:
    @staticmethod
    def sizes(settings: LogmelRowsSettings, shape: Shape) -> Sizes:
        if shape.mels % settings.bands:
            raise ValueError(f"{shape.mels} mel bands do not fall into {settings.bands} rows of equal width")
        return {"mean": ("F32", (shape.mels,)), "std": ("F32", (shape.mels,))}

    @staticmethod
    def embed(mel: np.ndarray, fitted: Plain) -> tuple[np.ndarray, None]:
        z = (mel - fitted.tensors["mean"][:, None]) / fitted.tensors["std"][:, None]
        tokens = z.reshape(len(z), fitted.settings.bands, -1, z.shape[2]).transpose(0, 3, 1, 2)  # [B, T, F, M / F]
        return rows(tokens, fitted.settings.rows).reshape(len(z), -1), None


class _TwfrGmm:
    @staticmethod
    def sizes(settings: TwfrGmmSettings, shape: Shape) -> Sizes:
        fitted: Sizes = {f"mixtures.{name}": ("F32", ()) for name in ("means", "precision_roots", "offsets")}
        return {"r": ("F32", (1,)), "owner": ("I64", (shape.classes,)), **fitted}

    @staticmethod
    def embed(mel: np.ndarray, fitted: Plain) -> tuple[np.ndarray, np.ndarray]:
        means, roots, offsets = (fitted.tensors[f"mixtures.{name}"] for name in ("means", "precision_roots", "offsets"))
        x = gwrp(mel, float(fitted.tensors["r"][0]))
        whitened = (x - means[:, :, None]) @ roots  # [units, K, B, mels]
        density = (offsets[:, :, None] - np.float32(0.5) * np.square(whitened).sum(3)).max(1)  # [units, B]
        return x, -density[np.unique(fitted.tensors["owner"])].max(0)


_METHODS: dict[type[MethodSettings], Any] = {
    SpectralKnnSettings: _SpectralKnn, FeatureKnnSettings: _FeatureKnn, LogmelRowsSettings: _LogmelRows,
    TwfrGmmSettings: _TwfrGmm,
}  # fmt: skip
