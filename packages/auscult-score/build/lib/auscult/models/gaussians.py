"""Gaussian mixtures, one per class, fitted with scikit-learn and evaluated on the device for all clips at once."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn


class ClassMixtures(nn.Module):
    """Full-covariance Gaussian mixtures of C classes with K components each.

    The buffers are empty until `fit`: 41 classes with 64 components take 170 MiB, which no state saved during training
    should carry. Loading a state gives them its sizes.

    Attributes:
        means: float32 [C, K, dim].
        precision_roots: float32 [C, K, dim, dim], upper triangular U with inverse covariance U U^T.
        offsets: float32 [C, K], logarithm of each component's density at its mean.
    """

    means: Tensor
    precision_roots: Tensor
    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("means", "precision_roots", "offsets"):
            self.register_buffer(name, torch.empty(0))

    def fit(
        self, x: np.ndarray, labels: np.ndarray, classes: int, components: int, regularisation: float,
        starts: np.ndarray | None = None, tolerance: float = 1e-3,
    ) -> None:  # fmt: skip
        """Fit by expectation-maximisation in float64.

        Args:
            x: [clips, dim].
            labels: int [clips].
            classes: C; each needs at least `components` clips.
            components: K.
            regularisation: added to the diagonals of the covariances.
            starts: [C, K, dim], where the means start; None = k-means.
            tolerance: a gain in log-likelihood per clip below which iteration ends.
        """
        device = self.means.device
        mixtures = []
        for number in range(classes):
            mixture = GaussianMixture(
                components, covariance_type="full", reg_covar=regularisation, random_state=0, tol=tolerance,
                means_init=None if starts is None else starts[number].astype(np.float64),
            )  # fmt: skip
            with warnings.catch_warnings():  # a hundred iterations, converged or not, is what the authors take
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixtures.append(mixture.fit(x[labels == number].astype(np.float64)))
        roots = np.stack([mixture.precisions_cholesky_ for mixture in mixtures])
        log_roots = np.log(np.diagonal(roots, axis1=2, axis2=3)).sum(2)
        self.means = _float32(np.stack([mixture.means_ for mixture in mixtures]), device)
        self.precision_roots = _float32(roots, device)
        self.offsets = _float32(log_roots - 0.5 * x.shape[1] * math.log(2 * math.pi), device)

    def nearest_log_density(self, x: Tensor) -> Tensor:
        """Logarithm of the largest component density of each class, mixture weights left out: [B, dim] -> [B, C]."""
        with torch.autocast(x.device.type, enabled=False):
            whitened = (x.float() - self.means.unsqueeze(2)) @ self.precision_roots  # [C, K, B, dim]
            return (self.offsets.unsqueeze(2) - 0.5 * whitened.square().sum(3)).amax(1).T

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name, buffer in list(self.named_buffers()):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty(state_dict[prefix + name].shape, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _float32(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device, torch.float32)
