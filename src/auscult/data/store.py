"""The packed data set: every clip decoded once, memory-mapped, one array per machine and partition.

features/<partition>/index.parquet          one row per clip, in storage order (no path, no label)
features/<partition>/facts.json             sample rate (Hz), samples per clip, channel rule
features/<partition>/audio/<machine>.npy    int16   [clips, samples]
features/<partition>/<front-end>/<machine>.npy   float32 [clips, mels, frames]   dB

Clips that are arrays of features have one front-end, `arrays`, float32 [clips, rows, columns], and no audio.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from auscult.errors import AuscultError
from auscult.features import FRONTENDS, frames, spectrogram

if TYPE_CHECKING:  # whoever asks for a condition imports it: the generator behind it concerns nobody else
    from auscult.data.condition import Condition

ARRAYS = "arrays"
"""The front-end of clips that are arrays of features, whose values it leaves as they are."""
PIECE = 2**28
"""Bytes copied to the device at once."""


def to_float(audio: torch.Tensor) -> torch.Tensor:
    """int16 to float32 in [-1, 1), as every decoder of 16-bit files does."""
    return audio.to(torch.float32).mul_(1 / 32768)  # in place, the copy is ours; exact, being a power of two


def repeated(wave: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Waveforms [B, samples] with the first `valid` [B] samples of each again and again.

    >>> repeated(torch.tensor([[1, 2, 3, 0, 0]]), torch.tensor([3]))
    tensor([[1, 2, 3, 1, 2]])
    """
    at = torch.arange(wave.shape[1], device=wave.device)
    return wave.gather(1, at % valid.clamp(min=1)[:, None])


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor in host memory on `device`. To a GPU from page-locked memory, whose allocator knows when the copy is done: from
    other memory the driver copies twice, and the host waits for the first.

    A tensor that is there already comes back as it is.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


Raw = dict[str, torch.Tensor]
"""What a batch reads of the stored arrays, by kind: "audio" int16 [B, samples], a front-end float32 [B, mels, frames]."""


class ClipStore:
    """Random access to a packed partition: `wave(rows)` and `mel(rows)` as tensors on `device`.

    An array lives on the device when it fits what is left of `resident_fraction` of the memory that was free there before
    the first; otherwise each batch is gathered from the memory map. Both ways give the same values. A CPU reads from the
    memory map, which is in main memory as far as it fits, once.

    Under a `condition` the waveforms are changed as they are read, and every log-mel is computed from the changed ones;
    what is stored is left alone.

    Attributes:
        index: one row per clip, in storage order (see pack.py).
        samples, sample_rate: length (samples) and rate (Hz) of every clip; 0 where clips are arrays.
        arrays: (rows, columns) of clips that are arrays; None for audio.
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
        self.arrays: tuple[int, int] | None = tuple(facts[ARRAYS]) if ARRAYS in facts else None
        self.index = pd.read_parquet(folder / "index.parquet")
        valid = self.index["valid"].to_numpy(np.int64, copy=True)
        self._valid = torch.from_numpy(valid).to(self.device) if len(valid) and valid.min() < self.samples else None
        self._repeats = False
        self._room = Room(self.device, resident_fraction)
        self._arrays: dict[str, _Array] = {}
        self._condition = condition if condition is not None and condition.changes else None
        if self._condition is not None and self.arrays:
            fix = "leave out the arm, or its `condition` and `lowpass_hz`"
            raise AuscultError("noise and low-pass are for audio, and these clips are arrays", str(folder), fix)
        if self._condition is not None:
            self._condition.check(self.sample_rate)
            self._ids = torch.from_numpy(self.index["clip_id"].to_numpy(np.int64, copy=True)).to(self.device)
            self._noises = self._condition.bank(self.samples, self.sample_rate, self.device)

    def __len__(self) -> int:
        return len(self.index)

    def repeating(self) -> ClipStore:
        """The same clips in the same memory, of which the shorter ones are heard again where their zeros were."""
        other = copy.copy(self)
        other._repeats = self._valid is not None
        return other

    def shape(self, frontend: str) -> tuple[int, int]:
        """(mels, frames) of one clip."""
        if self.arrays and frontend == ARRAYS:
            return self.arrays
        count = frames(self.samples, frontend)  # refuses a name that there is not
        return FRONTENDS[frontend].mels, count

    def cannot_give(self, frontend: str, wave: bool) -> str:
        """Why a method cannot read its front-end ("" = none) or waveforms from these clips; "" if it can."""
        if self.arrays is None:
            return f"it reads arrays (`frontend: {ARRAYS}`), and these clips are audio" if frontend == ARRAYS else ""
        if wave or frontend not in ("", ARRAYS):
            wanted = "waveforms" if wave else f"the front-end `{frontend}`"
            return f"it reads {wanted}, and these clips are arrays without audio (`frontend: {ARRAYS}` reads them)"
        return ""

    def wave(self, rows: torch.Tensor, raw: Raw | None = None) -> torch.Tensor:
        """Waveforms float32 [len(rows), samples] in [-1, 1); with added noise they may go beyond.

        Args:
            raw: what `gather` has read for these rows, on the device; the rest is read here.
        """
        wave = to_float(raw["audio"] if raw and "audio" in raw else self._array("audio").take(rows))
        valid = self.valid(rows)
        if self._condition is not None:
            wave = self._condition.apply(wave, self.sample_rate, self._ids[self._sent(rows)], self._noises, valid)
            if valid is not None:  # noise and ringing are the recording's, not of the zeros behind it
                wave = wave.where(torch.arange(self.samples, device=self.device) < valid[:, None], 0)
        return repeated(wave, valid) if self._repeats and valid is not None else wave

    def valid(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Samples of each clip before the zeros that fill it up, int64 [len(rows)]; None where no clip of all has any."""
        return None if self._valid is None else self._valid[self._sent(rows)]

    def mel(
        self,
        rows: torch.Tensor,
        frontend: str,
        first: torch.Tensor | None = None,
        width: int = 0,
        raw: Raw | None = None,
    ) -> torch.Tensor:
        """Log-mel float32 [len(rows), mels, frames] in dB; with `first` and `width` the frames first..first+width-1 of each.

        `raw` as in `wave`.
        """
        if self._is_stored(frontend):
            return raw[frontend] if raw and frontend in raw else self._array(frontend).take(rows, first, width)
        whole = spectrogram(
            self.wave(rows, raw), frontend, self.sample_rate, None if self._repeats else self.valid(rows)
        )
        if first is None:
            return whole
        columns = self._sent(first)[:, None] + torch.arange(width, device=self.device)
        return whole.gather(2, columns[:, None, :].expand(-1, whole.shape[1], -1))

    def streamed(self, frontend: str, wave: bool) -> list[str]:
        """Kinds of arrays that a batch of this front-end ("" = none), with or without waveforms, reads from the memory map."""
        kinds = ["audio"] if wave or (frontend and not self._is_stored(frontend)) else []
        kinds += [frontend] if frontend and self._is_stored(frontend) else []
        return [kind for kind in kinds if self._array(kind).resident is None]

    def gather(
        self, kinds: list[str], rows: torch.Tensor, first: torch.Tensor | None, width: int, pin: bool = False
    ) -> Raw:
        """`kinds` of these rows in host memory, page-locked if `pin`; front-ends as windows where `first` is given.

        Any thread may call it. `Raw` on the device is what `wave` and `mel` take.
        """
        return {
            kind: self._array(kind).host(rows, None if kind == "audio" else first, width, pin) for kind in kinds
        }  # fmt: skip

    def _is_stored(self, frontend: str) -> bool:
        return self._condition is None and not self._repeats and (self.folder / frontend).is_dir()

    def _sent(self, numbers: torch.Tensor) -> torch.Tensor:
        return to_device(numbers, self.device)

    def _array(self, kind: str) -> _Array:
        if kind not in self._arrays:
            self._arrays[kind] = _Array(self.folder / kind, self.index["machine"], self.device)
            self._room.offer(kind, self._arrays[kind])
        return self._arrays[kind]


class Room:
    """What the arrays of one store may take of a device's memory, all together.

    Args:
        fraction: of the memory that is free when the first array comes.
    """

    def __init__(self, device: torch.device, fraction: float) -> None:
        self.device, self.fraction = device, fraction
        self.free: int | None = None
        self.left = 0.0

    def offer(self, kind: str, array: _Array) -> None:
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


class _Array:
    """The per-machine arrays of one kind as one array over the rows of the index."""

    def __init__(self, folder: Path, machines: pd.Series, device: torch.device) -> None:
        part_of_row, names = pd.factorize(machines, sort=True)
        self.device = device
        self._parts = [_mapped(folder / f"{name}.npy") for name in names]
        row_in_part = machines.groupby(part_of_row).cumcount()
        self._place = torch.from_numpy(np.stack([part_of_row, row_in_part], axis=1).astype(np.int64))  # [clips, 2]
        self.shape = (len(machines), *self._parts[0].shape[1:])
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
