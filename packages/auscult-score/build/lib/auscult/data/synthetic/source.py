"""What the user may choose about the synthetic machines, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import pydantic

from auscult.errors import AuscultError, listed

VERSIONS = (1,)
Partition = Literal["train", "test_normal", "test_anomaly", "machine", "noise"]
"""Training and test clips; and in "machine" and "noise" one of the two alone, as the challenge of 2025 has them."""
PARTITIONS: tuple[str, ...] = get_args(Partition)
MACHINES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
MAX_SPEED_SHIFT = 2.0


class UnitSets(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Unit ids (two digits) of one machine type: those of the development set and those of the evaluation set."""

    dev: list[str] = []
    eval: list[str] = []

    @pydantic.model_validator(mode="after")
    def _ids(self) -> UnitSets:
        units = [*self.dev, *self.eval]
        for unit in units:
            if len(unit) != 2 or not (unit.isascii() and unit.isdigit()):
                raise ValueError(f"unit id {unit!r} is not two digits, such as '03' (in YAML, quote it)")
        if not units:
            raise ValueError("no units: name at least one under dev or eval")
        if twice := sorted({unit for unit in units if units.count(unit) > 1}):
            raise ValueError(f"unit ids named twice: {twice}")
        return self


class FarMicrophone(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A second channel, from a microphone further away, beside that of the clips (render.py).

    Attributes:
        machine_db: level of the machine there over that at the near microphone; its sound arrives `delay_ms` later.
        noise_db: level of the background there over that at the near microphone; it arrives `noise_delay_ms` earlier.
        shared: part of the background's power there that is the near one's background, the rest is of its own.
    """

    machine_db: float = -12.0
    delay_ms: float = 3.0
    noise_db: float = 0.0
    noise_delay_ms: float = 1.0
    shared: float = pydantic.Field(default=0.9, ge=0, le=1)


class SyntheticSource(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Parameters of the synthetic machines; docs/synthetic.md describes them.

    Attributes:
        version: of the physical models; a version's clips never change.
        seed: another seed gives other units of the same machine types.
        sample_rate: Hz, 8000 or more.
        clip_seconds: 1 s or more.
        machines: machine type -> unit ids.
        train_clips, test_normal, test_anomaly: clips per unit.
        snr_db: machine over background, mean over clips, dB.
        severity: size of the faults; 0 is no fault, 1 moves a unit about as far as units of a type lie apart.
        domain_shift: 0 = one domain; else the distance of the target domain's operating points.
        far: a second microphone; None = mono.
        machine_clips, noise_clips: of the machine alone and of the background alone, per unit.
        unattributed: machine types whose names say `noAttribute` instead of the operating point, as some do since 2024.
    """

    kind: Literal["synthetic"] = "synthetic"
    version: int
    seed: int
    sample_rate: int = 16000
    clip_seconds: float
    machines: dict[str, UnitSets]
    train_clips: int
    test_normal: int
    test_anomaly: int
    snr_db: float
    severity: float
    domain_shift: float = 0.0
    far: FarMicrophone | None = None
    machine_clips: int = 0
    noise_clips: int = 0
    unattributed: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Samples per clip."""
        return round(self.clip_seconds * self.sample_rate)

    @pydantic.model_validator(mode="after")
    def _sane(self) -> SyntheticSource:
        if self.version not in VERSIONS:
            raise ValueError(f"version {self.version} of the synthetic machines is not known; known: {list(VERSIONS)}")
        if not self.machines:
            raise ValueError("no machines: name at least one machine type")
        if unknown := sorted(set(self.machines) - set(MACHINES)):
            raise ValueError(f"unknown machine types {unknown}; known: {list(MACHINES)}")
        for name in ("train_clips", "test_normal", "test_anomaly"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.machine_clips < 0 or self.noise_clips < 0:
            raise ValueError("machine_clips and noise_clips must be 0 or more")
        if (self.machine_clips or self.noise_clips) and not self.domain_shift:
            raise ValueError(
                "machine_clips and noise_clips need a domain_shift: names of one domain have no folder for them"
            )
        if not 8000 <= self.sample_rate <= 192_000:
            raise ValueError(f"sample_rate must lie in 8000 to 192000 Hz, not {self.sample_rate}")
        if not 1.0 <= self.clip_seconds <= 600.0:
            raise ValueError(f"clip_seconds must lie in 1 to 600 s, not {self.clip_seconds}")
        if not -40.0 <= self.snr_db <= 60.0:
            raise ValueError(f"snr_db must lie in -40 to 60 dB, not {self.snr_db}")
        if not 0.0 <= self.severity <= 3.0:
            raise ValueError(f"severity must lie in 0 to 3, not {self.severity}")
        if not 0.0 <= self.domain_shift <= MAX_SPEED_SHIFT:
            raise ValueError(f"domain_shift must lie in 0 to {MAX_SPEED_SHIFT}, not {self.domain_shift}")
        if self.unattributed and not self.domain_shift:
            raise ValueError("unattributed machines need a domain_shift: names of one domain have no attributes at all")
        if unknown := sorted(set(self.unattributed) - set(self.machines)):
            raise ValueError(f"unattributed machine types {unknown} are not among the machines")
        return self

    def require(self, machine: str, unit: str, partition: str) -> None:
        """Refuse a machine, unit or partition that this source does not have.

        Raises:
            AuscultError: naming what is known instead.
        """
        if machine not in self.machines:
            raise AuscultError(
                f"the synthetic source has no machine type {machine!r}", fix=f"one of: {listed(list(self.machines))}"
            )
        units = [*self.machines[machine].dev, *self.machines[machine].eval]
        if unit not in units:
            raise AuscultError(f"{machine} has no unit {unit!r}", fix=f"one of: {listed(units)}")
        if partition not in PARTITIONS:
            raise AuscultError(f"unknown partition {partition!r}", fix=f"one of: {listed(list(PARTITIONS))}")

    def require_indices(self, indices: Sequence[int]) -> None:
        """Refuse negative clip numbers.

        Raises:
            AuscultError: naming the first.
        """
        if wrong := [index for index in indices if index < 0]:
            raise AuscultError(f"clip numbers count from 0; {wrong[0]} does not")
