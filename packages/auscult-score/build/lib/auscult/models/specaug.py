"""Masks over frequency and time (SpecAugment, Park et al., Interspeech 2019) as AnoPatch has them: without time warping."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw_masks(clips: int, size: tuple[int, ...], frequency: int, time: int, rng: np.random.Generator) -> Tensor:
    """One band of bins and one stretch of frames for each clip: int64 [4, clips], first and last + 1 of each.

    The width of a mask is a whole number drawn uniformly from [0, max), no wider than the spectrogram; its start is drawn
    uniformly from where it fits. Every clip gets both masks (AnoPatch, section 3.2, gives the largest widths alone; the
    rest is the custom of the field).

    Args:
        size: frames and bins of the spectrograms.
        frequency: upper end, exclusive, of the width in bins; 0 = no mask, which draws nothing.
        time: the same in frames.
    """
    frames, bins = size
    edges = [_edges(clips, bins, frequency, rng), _edges(clips, frames, time, rng)]
    return torch.from_numpy(np.concatenate(edges))


def masked(x: Tensor, masks: Tensor) -> Tensor:
    """`x` [B, frames, bins], a new tensor, with 0, the mean of a normalised spectrogram, under `masks` int64 [4, B].

    >>> masks = draw_masks(1, (6, 4), frequency=3, time=0, rng=np.random.default_rng(3))
    >>> masked(torch.ones(1, 6, 4), masks)[0, 0]
    tensor([0., 0., 1., 1.])
    """
    low, high, begin, end = masks[..., None]  # four [B, 1]
    bin_, frame = torch.arange(x.shape[2], device=x.device), torch.arange(x.shape[1], device=x.device)
    band = (bin_ >= low) & (bin_ < high)  # [B, bins]
    stretch = (frame >= begin) & (frame < end)  # [B, frames]
    return x.masked_fill(band[:, None, :] | stretch[:, :, None], 0)


def _edges(clips: int, size: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """First position of each clip's mask and the one behind its last, int64 [2, B]."""
    if not limit:
        return np.zeros((2, clips), dtype=np.int64)
    width = np.minimum(rng.integers(0, limit, clips), size)
    start = rng.integers(0, size - width, endpoint=True)
    return np.stack([start, start + width])
