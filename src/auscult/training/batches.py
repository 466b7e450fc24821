"""Which clips make which batch, from seeds alone: pure functions, the same on every machine and device."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from auscult.data.store import ClipStore, Raw
from auscult.methods.base import Batch, Method
from auscult.settings.training import MethodSettings
from auscult.training.ahead import ahead

Wanted = tuple[np.ndarray, np.ndarray | None]
"""Clips (positions among a network's own), and the first frame of the window of each; None = whole clips."""


@dataclass(frozen=True)
class Piece:
    """What goes through the network at once: a batch, or a part of one that is too large for the device's memory.

    Attributes:
        step: batch of the epoch it belongs to.
        items: which of the training items it holds (clips, or windows of clips).
        share: of the batch's items.
        first, last: of its batch.
    """

    step: int
    items: np.ndarray
    share: float = 1.0
    first: bool = True
    last: bool = True


class Loader:
    """Batches on the device: what a method asks for, and nothing it does not.

    Args:
        rows: of the store, that are the clips of one network; everywhere else a clip is a position among these.
        labels: class of each.
        depth: batches read ahead, where the store does not have the data on the device.
    """

    def __init__(
        self,
        method: Method,
        settings: MethodSettings,
        store: ClipStore,
        rows: np.ndarray,
        labels: np.ndarray,
        depth: int = 0,
    ) -> None:
        self.store, self.rows, self.labels = store, rows, labels
        self.frontend, self.needs_wave = method.mel(settings), method.wave(settings)
        self.window = method.window(settings, store.shape(self.frontend)[1]) if self.frontend else 0
        self.kinds = store.streamed(self.frontend, self.needs_wave)
        self.depth = depth

    def __call__(self, clips: np.ndarray, first: np.ndarray | None = None, raw: Raw | None = None) -> Batch:
        """The batch of `clips`, whole; or of a window of each, which starts at the frame `first`. `raw` as in the store."""
        store, where = self.store, torch.from_numpy(self.rows[clips])
        start, width = (None, 0) if first is None else (torch.from_numpy(first), self.window)
        return Batch(
            label=torch.from_numpy(self.labels[clips]).to(store.device, non_blocking=True),
            clip=torch.from_numpy(clips).to(store.device, non_blocking=True),
            wave=store.wave(where, raw) if self.needs_wave else None,
            valid=store.valid(where) if self.needs_wave else None,
            mel=store.mel(where, self.frontend, start, width, raw) if self.frontend else None,
        )

    def each(self, wanted: Iterable[Wanted]) -> Iterator[Batch]:
        """The batches of many (clips, first), in their order; arrays that are not on the device are read ahead."""
        for (clips, first), raw in ahead(wanted, self._gather, self.store.device, self.depth if self.kinds else 0):
            yield self(clips, first, raw)

    def _gather(self, wanted: Wanted) -> Raw:
        clips, first = wanted
        start, width = (None, 0) if first is None else (torch.from_numpy(first), self.window)
        pin = self.store.device.type == "cuda"
        return self.store.gather(self.kinds, torch.from_numpy(self.rows[clips]), start, width, pin)


def depth(device: torch.device, prefetch: int) -> int:
    """Batches read ahead: `prefetch` for a GPU. A CPU computes with the threads that would read."""
    return prefetch if device.type == "cuda" else 0


def split(clips: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation clips. At least one clip is held out when a fraction is asked for."""
    order = np.random.default_rng(seed_of(seed, name, 3)).permutation(clips)
    held = max(1, round(fraction * clips)) if fraction and clips > 2 else 0
    return np.sort(order[held:]), np.sort(order[:held])


def count(items: int, size: int) -> int:
    """Batches of `size` items; a last one of a single item joins its neighbour, for batch norm needs two."""
    return max(1, items // size) if items % size == 1 else -(-items // size)


def batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `size` items, `count` of them."""
    number_of = count(len(items), size)
    for number in range(number_of):
        yield items[number * size : (number + 1) * size if number + 1 < number_of else len(items)]


def pieces(order: np.ndarray, size: int, steps: int, parts: int = 1) -> Iterator[Piece]:
    """The first `steps` batches of `size` items of `order`, each in `parts` pieces, or fewer where one would be single."""
    for step, items in enumerate(itertools.islice(batches(order, size), steps)):
        several = np.array_split(items, max(1, min(parts, len(items) // 2)))
        for number, piece in enumerate(several):
            last = number + 1 == len(several)
            yield Piece(step, piece, len(piece) / len(items), number == 0, last)


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names, the same on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return (zlib.crc32(text) << 31) ^ zlib.crc32(text[::-1])
