"""The packed data set: every clip decoded once, memory-mapped, one array per machine and partition.

features/<partition>/index.parquet          one row per clip, in storage order (no path, no label)
features/<partition>/facts.json             sample rate (Hz), samples per clip, channel rule
features/<partition>/audio/<machine>.npy    int16   [clips, samples]
features/<partition>/<front-end>/<machine>.npy   float32 [clips, mels, frames]   dB
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from auscult.errors import AuscultError
from auscult.frontends import FRONTENDS, frames, log_mel

if TYPE_CHECKING:  # whoever asks for a condition imports it: the generator behind it concerns nobody else
    from auscult.data.condition import Condition


def to_float(audio: torch.Tensor) -> torch.Tensor:
    """int16 to float32 in [-1, 1), as every decoder of 16-bit files does."""
    return audio.to(torch.float32).mul_(1 / 32768)  # in place, the copy is ours; exact, being a power of two


class ClipStore:
    """Random access to a packed partition: `wave(rows)` and `mel(rows)` as tensors on `device`.

    What is used lives on the device when it fits `resident_fraction` of the free memory there; otherwise each batch is
    gathered from the memory map. Both ways give the same values.

    Under a `condition` the waveforms are changed as they are read, and every log-mel is computed from the changed ones;
    what is stored is left alone.

    Attributes:
        index: one row per clip, in storage order (see pack.py).
        samples, sample_rate: length (samples) and rate (Hz) of every clip.
    """

    def __init__(
        self,
        folder: Path,
        device: str | torch.device = "cpu",
        resident_fraction: float = 0.0,
        condition: Condition | None = None,
    ) -> None:
        if not (folder / "index.parquet").is_file():
            raise AuscultError("no packed features here", str(folder), "run: dvc repro features")
        self.folder, self.device = folder, torch.device(device)
        facts = json.loads((folder / "facts.json").read_text())
        self.sample_rate, self.samples = facts["sample_rate"], facts["samples"]
        self.index = pd.read_parquet(folder / "index.parquet")
        valid = self.index["valid"].to_numpy(np.int64, copy=True)
        self._valid = torch.from_numpy(valid).to(self.device) if len(valid) and valid.min() < self.samples else None
        self._resident_fraction = resident_fraction
        self._arrays: dict[str, _Array] = {}
        self._condition = condition if condition is not None and condition.changes else None
        if self._condition is not None:
            self._condition.check(self.sample_rate)
            self._ids = torch.from_numpy(self.index["clip_id"].to_numpy(np.int64, copy=True)).to(self.device)
            self._noises = self._condition.bank(self.samples, self.sample_rate, self.device)

    def __len__(self) -> int:
        return len(self.index)

    def shape(self, frontend: str) -> tuple[int, int]:
        """(mels, frames) of one clip."""
        return FRONTENDS[frontend].mels, frames(self.samples, frontend)

    def wave(self, rows: torch.Tensor) -> torch.Tensor:
        """Waveforms float32 [len(rows), samples] in [-1, 1); with added noise they may go beyond."""
        wave = to_float(self._array("audio").take(rows, self.device))
        if self._condition is None:
            return wave
        return self._condition.apply(wave, self.sample_rate, self._ids[rows.to(self.device)], self._noises)

    def valid(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Samples of each clip before the zeros that fill it up, int64 [len(rows)]; None where no clip of all has any."""
        return None if self._valid is None else self._valid[rows.to(self.device)]

    def mel(self, rows: torch.Tensor, frontend: str, first: torch.Tensor | None = None, width: int = 0) -> torch.Tensor:
        """Log-mel float32 [len(rows), mels, frames] in dB; with `first` and `width` the frames first..first+width-1 of each."""
        if self._condition is None and (self.folder / frontend).is_dir():
            mel = self._array(frontend)
            return mel.take(rows, self.device) if first is None else mel.windows(rows, first, width, self.device)
        whole = log_mel(self.wave(rows), frontend, self.sample_rate)
        if first is None:
            return whole
        columns = first.to(self.device)[:, None] + torch.arange(width, device=self.device)
        return whole.gather(2, columns[:, None, :].expand(-1, whole.shape[1], -1))

    def _array(self, kind: str) -> _Array:
        if kind not in self._arrays:
            self._arrays[kind] = _Array(self.folder / kind, self.index["machine"], self.device, self._resident_fraction)
        return self._arrays[kind]


class _Array:
    """The per-machine arrays of one kind as one array over the rows of the index."""

    def __init__(self, folder: Path, machines: pd.Series, device: torch.device, resident_fraction: float) -> None:
        part_of_row, names = pd.factorize(machines, sort=True)
        # copy-on-write: a tensor view needs writable memory
        maps = [np.load(folder / f"{name}.npy", mmap_mode="c") for name in names]
        row_in_part = machines.groupby(part_of_row).cumcount()
        self._place = torch.from_numpy(np.stack([part_of_row, row_in_part], axis=1).astype(np.int64))  # [clips, 2]
        self.shape = (len(machines), *maps[0].shape[1:])
        self._parts = [torch.from_numpy(part) for part in maps]
        size = sum(part.nbytes for part in maps)
        self._resident: torch.Tensor | None = None
        if device.type != "cpu" and size <= resident_fraction * torch.cuda.mem_get_info(device)[0]:
            order = torch.arange(len(machines))
            self._resident = torch.empty(self.shape, dtype=self._parts[0].dtype, device=device)
            for start in range(0, len(order), 1024):  # in pieces: never a second whole copy in host memory
                self._resident[start : start + 1024] = self._gather(order[start : start + 1024]).to(device)

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        place = self._place[rows]
        numbers = place[:, 0].unique().tolist()
        if len(numbers) == 1:
            return self._parts[numbers[0]][place[:, 1]]
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self._parts[0].dtype)
        for number in numbers:  # one gather per machine, not per clip
            mine = (place[:, 0] == number).nonzero()[:, 0]
            out[mine] = self._parts[number][place[mine, 1]]
        return out

    def take(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        if self._resident is not None:
            return self._resident[rows.to(device)]
        return self._gather(rows.cpu()).to(device, non_blocking=True)

    def windows(self, rows: torch.Tensor, first: torch.Tensor, width: int, device: torch.device) -> torch.Tensor:
        """[len(rows), mels, width]: gathered through a strided view, so no window is ever stored."""
        if self._resident is not None:
            return self._resident.unfold(2, width, 1)[rows.to(device), :, first.to(device)]
        rows, first = rows.cpu(), first.cpu()
        out = torch.empty((len(rows), self.shape[1], width), dtype=self._parts[0].dtype)
        place = self._place[rows]
        for number in place[:, 0].unique().tolist():
            mine = (place[:, 0] == number).nonzero()[:, 0]
            out[mine] = self._parts[number].unfold(2, width, 1)[place[mine, 1], :, first[mine]]
        return out.to(device, non_blocking=True)
