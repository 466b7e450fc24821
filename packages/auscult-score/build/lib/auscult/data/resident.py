"""Where packed arrays are: on the device, as far as they fit, or in a memory map."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

PIECE = 2**28
"""Bytes copied to the device at once."""


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor in host memory on `device`. To a GPU from page-locked memory, whose allocator knows when the copy is done: from
    other memory the driver copies twice, and the host waits for the first.

    A tensor that is there already comes back as it is.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Room:
    """What the arrays of one store may take of a device's memory, all together.

    Args:
        fraction: of the memory that is free when the first array comes.
    """

    def __init__(self, device: torch.device, fraction: float) -> None:
        self.device, self.fraction = device, fraction
        self.free: int | None = None
        self.left = 0.0

    def offer(self, kind: str, array: PackedArray) -> None:
        """Put an array on the device if there is room, and say on stderr what was done."""
        if not self.fraction:
            return
        if self.free is None:
            self.free = free_memory(self.device)
            self.left = self.fraction * (self.free or 0)
        if self.free is None:
            return
        fits = array.nbytes <= self.left
        if fits:
            self.left -= array.nbytes
            array.settle()
        print(
            f"data set: {array.nbytes / 1e9:.2f} GB of {kind} {'kept on the device' if fits else 'streamed from disk'}"
            f" ({self.left / 1e9:.2f} GB {'are left' if fits else 'were left'} of {self.fraction:g} x"
            f" {self.free / 1e9:.2f} GB free there)",
            file=sys.stderr,
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes free on a GPU; None for a CPU, whose memory the data set's memory map takes as it can."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


class PackedArray:
    """The per-machine arrays of one kind as one array over the rows of the index."""

    def __init__(self, folders: list[tuple[Path, pd.Series]], device: torch.device) -> None:
        self.device = device
        self._parts: list[torch.Tensor] = []
        places = []
        for folder, machines in folders:
            part_of_row, names = pd.factorize(machines, sort=True)
            row_in_part = machines.groupby(part_of_row).cumcount()
            places.append(np.stack([part_of_row + len(self._parts), row_in_part], axis=1).astype(np.int64))
            self._parts += [_mapped(folder / f"{name}.npy") for name in names]
        self._place = torch.from_numpy(np.concatenate(places))  # [clips, 2]
        self.shape = (len(self._place), *self._parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in self._parts)
        self.resident: torch.Tensor | None = None

    def settle(self) -> None:
        """Move to the device, in pieces: never a second whole copy in host memory."""
        resident = torch.empty(self.shape, dtype=self._parts[0].dtype, device=self.device)
        piece = max(1, PIECE // max(1, resident[:1].nbytes))
        for rows in torch.arange(len(resident)).split(piece):
            resident[rows[0] : rows[-1] + 1] = self._whole(rows, pin=False).to(self.device)
        self.resident, self._parts = resident, []  # the memory map's pages are not needed any more

    def take(self, rows: torch.Tensor, first: torch.Tensor | None = None, width: int = 0) -> torch.Tensor:
        """[len(rows), ...] on the device; with `first` the windows [len(rows), mels, width]."""
        if self.resident is None:
            return to_device(self.host(rows, first, width), self.device)
        where = to_device(rows, self.device)
        if first is None:
            return self.resident[where]
        return self.resident.unfold(2, width, 1)[where, :, to_device(first, self.device)]

    def host(self, rows: torch.Tensor, first: torch.Tensor | None, width: int, pin: bool = False) -> torch.Tensor:
        """As `take`, from the memory map into host memory."""
        rows = rows.cpu()
        return self._whole(rows, pin) if first is None else self._windows(rows, first.cpu(), width, pin)

    def _whole(self, rows: torch.Tensor, pin: bool) -> torch.Tensor:
        place = self._place[rows]
        numbers = place[:, 0].unique().tolist()
        if len(numbers) == 1 and not pin:
            # Indexing would go through the samples one by one; this copies whole clips.
            return torch.index_select(self._parts[numbers[0]], 0, place[:, 1])
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self._parts[0].dtype, pin_memory=pin)
        if len(numbers) == 1:
            return torch.index_select(self._parts[numbers[0]], 0, place[:, 1], out=out)
        for number in numbers:  # one gather per machine, not per clip
            mine = (place[:, 0] == number).nonzero()[:, 0]
            out[mine] = torch.index_select(self._parts[number], 0, place[mine, 1])
        return out

    def _windows(self, rows: torch.Tensor, first: torch.Tensor, width: int, pin: bool) -> torch.Tensor:
        """[len(rows), mels, width]: gathered through a strided view, so no window is ever stored."""
        out = torch.empty((len(rows), self.shape[1], width), dtype=self._parts[0].dtype, pin_memory=pin)
        place = self._place[rows]
        for number in place[:, 0].unique().tolist():
            mine = (place[:, 0] == number).nonzero()[:, 0]
            out[mine] = self._parts[number].unfold(2, width, 1)[place[mine, 1], :, first[mine]]
        return out


def _mapped(path: Path) -> torch.Tensor:
    """A file as a tensor that nobody may write to. Mapped for reading: a private, writable map counts against the memory of
    the machine, and one that is larger is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is not writable
        return torch.from_numpy(np.load(path, mmap_mode="r"))
