"""Masks over frequency and time (SpecAugment, Park et al., Interspeech 2019) as AnoPatch has them: without time warping."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Rows(NamedTuple):
    """Some clips of a batch."""

    clips: int
    """Of the batch."""
    part: slice


def spec_augment(x: Tensor, frequency: int, time: int, rng: np.random.Generator, rows: Rows | None = None) -> Tensor:
    """Set one band of bins and one stretch of frames of each clip to 0, the mean of a normalised spectrogram.

    The width of a mask is a whole number drawn uniformly from [0, max), no wider than the spectrogram; its start is drawn
    uniformly from where it fits. Every clip gets both masks (AnoPatch, section 3.2, gives the largest widths alone; the
    rest is the custom of the field).

    Args:
        x: [B, frames, bins], normalised.
        frequency: upper end, exclusive, of the width in bins; 0 = no mask.
        time: the same in frames.
        rng: draws on the host, so that every device masks the same; a kind of mask that is off draws nothing.
        rows: which clips of a batch `x` holds; the masks are those they get in the whole of it. None = `x` is all of it.

    Returns:
        [B, frames, bins], a new tensor; `x` itself when both masks are off.

    >>> masked = spec_augment(torch.ones(1, 6, 4), frequency=3, time=0, rng=np.random.default_rng(3))
    >>> masked[0, 0]
    tensor([0., 0., 1., 1.])
    """
    clips, frames, bins = x.shape
    if not frequency and not time:
        return x
    clips, part = rows or Rows(clips, slice(None))
    edges = np.concatenate([_edges(clips, bins, frequency, rng), _edges(clips, frames, time, rng)])[:, part]
    low, high, begin, end = torch.from_numpy(edges).to(x.device, non_blocking=True)[..., None]  # four [B, 1]
    bin_, frame = torch.arange(bins, device=x.device), torch.arange(frames, device=x.device)
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
