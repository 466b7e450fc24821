"""The packed data set: every clip decoded once, memory-mapped, one array per machine and partition.

features/<partition>/index.parquet          one row per clip, in storage order (no path, no label)
features/<partition>/facts.json             sample rate (Hz), samples per clip, channel rule, digest of all samples
features/<partition>/audio/<machine>.npy    int16   [clips, samples]
features/<partition>/<front-end>/<machine>.npy   float32 [clips, mels, frames]   dB

Of two channels each input that is heard has its audio and front-ends below features/<partition>/<input>/.
Clips that are arrays of features have one front-end, `arrays`, float32 [clips, rows, columns], and no audio.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from auscult.data.resident import PackedArray, Room, to_device
from auscult.errors import AuscultError
from auscult.features import FRONTENDS, frames, spectrogram

if TYPE_CHECKING:  # whoever asks for a condition imports it: the generator behind it concerns nobody else
    from auscult.data.condition import Condition

SUPPLEMENTAL = "supplemental"
"""Folder below a training partition: recordings of the machine alone and the noise alone, each packed like a partition."""
INPUTS = "inputs"
"""What facts.json calls the inputs of two channels that are kept."""
ARRAYS = "arrays"
"""The front-end of clips that are arrays of features, whose values it leaves as they are."""


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


Raw = dict[str, torch.Tensor]
"""What a batch reads of the stored arrays, by kind: "audio" int16 [B, samples], a front-end float32 [B, mels, frames]."""


class ClipStore:
    """Random access to a packed partition: `wave(rows)` and `mel(rows)` as tensors on `device`.

    An array lives on the device when it fits what is left of `resident_fraction` of the memory that was free there before
    the first; otherwise each batch is gathered from the memory map. Both ways give the same values. A CPU reads from the
    memory map, which is in main memory as far as it fits, once.

    Of two channels an input is `heard`; "" = the first that is kept. The clips of a packed folder `beside` follow the others.

    Under a `condition` the waveforms are changed as they are read, and every log-mel is computed from the changed ones;
    what is stored is left alone.

    Attributes:
        index: one row per clip, in storage order (see pack.py).
        samples, sample_rate: length (samples) and rate (Hz) of every clip; 0 where clips are arrays.
        arrays: (rows, columns) of clips that are arrays; None for audio.
        clips: those that are not from `beside`.
    """

    def __init__(
        self,
        folder: Path,
        device: str | torch.device = "cpu",
        resident_fraction: float = 0.0,
        condition: Condition | None = None,
        heard: str = "",
        beside: Path | None = None,
    ) -> None:
        if not (folder / "index.parquet").is_file():
            raise AuscultError("no packed features here", str(folder), "run: dvc repro features")
        self.folder, self.device = folder, torch.device(device)
        facts = json.loads((folder / "facts.json").read_text())
        self.sample_rate, self.samples = facts["sample_rate"], facts["samples"]
        self.arrays: tuple[int, int] | None = tuple(facts[ARRAYS]) if ARRAYS in facts else None
        kept = facts.get(INPUTS, [])
        self._absent = _why_not(heard, kept)
        place = heard or (kept[0] if kept else "")
        self._folders = [(each / place, pd.read_parquet(each / "index.parquet")) for each in (folder, beside) if each]
        self.clips = len(self._folders[0][1])
        self.index = (
            self._folders[0][1] if beside is None else pd.concat([i for _, i in self._folders], ignore_index=True)
        )
        valid = self.index["valid"].to_numpy(np.int64, copy=True)
        self._valid = torch.from_numpy(valid).to(self.device) if len(valid) and valid.min() < self.samples else None
        self._repeats = False
        self._room = Room(self.device, resident_fraction)
        self._arrays: dict[str, PackedArray] = {}
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
        if self._absent:
            return self._absent
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

    def filled(self, rows: torch.Tensor) -> torch.Tensor | None:
        """As `valid`, but None also where the shorter clips are heard again behind their end."""
        return None if self._repeats else self.valid(rows)

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
        return self.spectrum(self.wave(rows, raw), rows, frontend, first, width)

    def spectrum(
        self, wave: torch.Tensor, rows: torch.Tensor, frontend: str, first: torch.Tensor | None = None, width: int = 0
    ) -> torch.Tensor:
        """As `mel`, of these waveforms of the clips `rows`."""
        whole = spectrogram(wave, frontend, self.sample_rate, self.filled(rows))
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
        return self._condition is None and not self._repeats and self._folders[0][0].joinpath(frontend).is_dir()

    def _sent(self, numbers: torch.Tensor) -> torch.Tensor:
        return to_device(numbers, self.device)

    def _array(self, kind: str) -> PackedArray:
        if kind not in self._arrays:
            self._arrays[kind] = PackedArray(
                [(place / kind, index["machine"]) for place, index in self._folders], self.device
            )
            self._room.offer(kind, self._arrays[kind])
        return self._arrays[kind]


def _why_not(heard: str, kept: list[str]) -> str:
    """Why an input cannot be heard of clips of which `kept` are; "" if it can."""
    if not heard or heard in kept:
        return ""
    if not kept:
        return f"it hears `{heard}` of two channels, and these clips have one (`inputs` of the profile)"
    return f"it hears `{heard}`, and of these clips {', '.join(kept)} are kept (`inputs` of the profile)"
