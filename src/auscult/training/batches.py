"""Batches: which clips make which, from seeds alone (the same on every machine and device), and what they hold."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from auscult.data.resident import to_device
from auscult.data.store import ClipStore, Raw
from auscult.features import frontend as front_end
from auscult.methods.base import Batch, Method
from auscult.settings.training import MethodSettings
from auscult.training.ahead import ahead
from auscult.training.inputs import Inputs
from auscult.training.supplement import Noises

Wanted = tuple[np.ndarray, np.ndarray | None]
"""Clips (positions among a network's own), and the first frame of the window of each; None = whole clips."""


class Loader:
    """Batches on the device: what a method asks for, and nothing it does not.

    Args:
        rows: of the store, that are the clips of one network; everywhere else a clip is a position among these.
        labels: class of each, int64 [clips], in training and validation; batches then hold the clips' positions, too.
        candidates: classes each may belong to, bool [clips, classes], in embedding.
        depth: batches read ahead, where the store does not have the data on the device.
        noises: what is added to clips in training; None = nothing.

    Attributes:
        lengths: samples that are heard of each clip, int64 [clips]: its own with `fill: none`, otherwise those of all.
        frames: the same in frames of the front-end; 0 without one.
    """

    def __init__(
        self,
        method: Method,
        settings: MethodSettings,
        store: ClipStore,
        rows: np.ndarray,
        labels: np.ndarray | None = None,
        candidates: np.ndarray | None = None,
        depth: int = 0,
        noises: Noises | None = None,
    ) -> None:
        self.store = store = store.repeating() if settings.fill == "repeat" else store
        self.rows, self.labels, self.candidates = rows, labels, candidates
        self.inputs = Inputs.of(method, settings)
        known = method.domains and labels is not None
        self.target = store.index["domain"].to_numpy()[rows] == "target" if known else None
        frontend = self.inputs.frontend
        self.window = method.window(settings, store.shape(frontend)[1]) if frontend else 0
        self.lengths = heard(store, rows, settings)
        self.frames = frames_of(store, self.lengths, frontend)
        self.own_lengths = settings.fill == "none"
        self.kinds = store.streamed(frontend, self.inputs.wave)
        self.depth, self.noises = depth, noises

    def __call__(
        self,
        clips: np.ndarray,
        first: np.ndarray | None = None,
        raw: Raw | None = None,
        rng: np.random.Generator | None = None,
    ) -> Batch:
        """The batch of `clips`, whole, and with `fill: none` of one length; or of a window of each, which starts at the frame
        `first`. `raw` as in the store. With `rng` noise is added, if there is any to add."""
        store, where = self.store, torch.from_numpy(self.rows[clips])
        start, width = (None, 0) if first is None else (torch.from_numpy(first), self.window)
        noisy = None
        if self.noises is not None and rng is not None:
            noisy = self.noises.mixed(store.wave(where, raw), store.filled(where), self.rows[clips], rng)
        batch = self.inputs.batch(
            wave=lambda: store.wave(where, raw) if noisy is None else noisy,
            mel=lambda frontend: (
                store.mel(where, frontend, start, width, raw)
                if noisy is None
                else store.spectrum(noisy, where, frontend, start, width)
            ),
            label=None if self.labels is None else self._sent(self.labels[clips]),
            clip=None if self.labels is None else self._sent(clips),
            target=None if self.target is None else self._sent(self.target[clips]),
            candidates=None if self.candidates is None else self._sent(self.candidates[clips]),
            valid=store.valid(where) if self.inputs.wave and not self.own_lengths else None,
        )
        if not self.own_lengths or first is not None or self.lengths[clips[0]] == store.samples:
            return batch
        return batch.first(int(self.lengths[clips[0]]), int(self.frames[clips[0]]))

    def by_length(self, clips: np.ndarray, split: Callable[[np.ndarray], Iterable[np.ndarray]]) -> list[np.ndarray]:
        """The parts of `clips` that `split` makes, and of these one for each length that is heard: what a batch may hold."""
        order = clips[np.argsort(self.lengths[clips], kind="stable")]
        return [part[self.lengths[part] == n] for part in split(order) for n in np.unique(self.lengths[part])]

    def window_starts(self, clips: np.ndarray, hop: int) -> np.ndarray:
        """Number of the first window of each of `clips`, all counted through, and their sum: int64 [clips + 1].

        Without windows every clip counts for one.
        """
        each = (self.frames[clips] - self.window) // hop + 1 if self.window else np.ones(len(clips), np.int64)
        return np.concatenate([[0], np.cumsum(each)])

    def each(self, wanted: Iterable[Wanted], seed: tuple[int | str, ...] = ()) -> Iterator[Batch]:
        """The batches of many (clips, first), in their order; arrays that are not on the device are read ahead.

        Args:
            seed: of the noise that is added, together with the number of the batch; () = none is.
        """
        noisy = self.noises is not None and bool(seed)
        kinds = self.store.streamed("", True) if noisy else self.kinds
        gather = partial(self._gather, kinds)
        read = ahead(wanted, gather, self.store.device, self.depth if kinds else 0)
        for number, ((clips, first), raw) in enumerate(read):
            yield self(clips, first, raw, np.random.default_rng(seed_of(*seed, number)) if noisy else None)

    def _gather(self, kinds: list[str], wanted: Wanted) -> Raw:
        clips, first = wanted
        start, width = (None, 0) if first is None else (torch.from_numpy(first), self.window)
        pin = self.store.device.type == "cuda"
        return self.store.gather(kinds, torch.from_numpy(self.rows[clips]), start, width, pin)

    def _sent(self, values: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(values), self.store.device)


def heard(store: ClipStore, rows: np.ndarray, settings: MethodSettings) -> np.ndarray:
    """Samples of each of these rows that a method hears, int64 [rows]."""
    if settings.fill == "none":
        return store.index["valid"].to_numpy(np.int64)[rows]
    return np.full(len(rows), store.samples)


def frames_of(store: ClipStore, lengths: np.ndarray, frontend: str) -> np.ndarray:
    """Frames of clips of these lengths (samples), int64 [clips]; 0 without a front-end. Arrays have all the same."""
    if store.arrays:
        return np.full(len(lengths), store.arrays[1])
    different, which = np.unique(lengths, return_inverse=True)
    frames = [front_end(frontend).frames(int(length)) if frontend else 0 for length in different]
    return np.array(frames, np.int64)[which]


def too_short(method: Method, settings: MethodSettings, store: ClipStore, rows: np.ndarray) -> str:
    """What is wrong where some of these clips, each as long as it is, are shorter than a window; "" if none are."""
    frontend = method.mel(settings)
    if settings.fill != "none" or not frontend or store.arrays:
        return ""
    lengths = heard(store, rows, settings)
    frames = frames_of(store, lengths, frontend)
    needed = max(1, method.window(settings, store.shape(frontend)[1]))
    few = int(((frames < needed) | (lengths < front_end(frontend).shortest)).sum())
    if not few:
        return ""
    what = f"{few} clip(s) are too short for a window of {needed} frame(s): {lengths.min() / store.sample_rate:g} s, the shortest"
    return f"{what} (leave them out, or set `fill: repeat`)"


def depth(device: torch.device, prefetch: int) -> int:
    """Batches read ahead: `prefetch` for a GPU. A CPU computes with the threads that would read."""
    return prefetch if device.type == "cuda" else 0


def split(clips: int, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of training and validation clips. At least one clip is held out when a fraction is asked for."""
    order = np.random.default_rng(seed_of(seed, name, 3)).permutation(clips)
    held = max(1, round(fraction * clips)) if fraction and clips > 2 else 0
    return np.sort(order[held:]), np.sort(order[:held])


def count(items: int, size: int) -> int:
    """Batches of `size` items; a last one of a single item joins its neighbour, for batch norm needs two.

    >>> count(8, 4), count(9, 4), count(10, 4)
    (2, 2, 3)
    """
    return max(1, items // size) if items % size == 1 else -(-items // size)


def batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `size` items, `count` of them.

    >>> [part.tolist() for part in batches(np.arange(5), 2)]
    [[0, 1], [2, 3, 4]]
    """
    number_of = count(len(items), size)
    for number in range(number_of):
        yield items[number * size : (number + 1) * size if number + 1 < number_of else len(items)]


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from numbers and names, the same on every machine."""
    text = "/".join(str(part) for part in parts).encode()
    return (zlib.crc32(text) << 31) ^ zlib.crc32(text[::-1])
