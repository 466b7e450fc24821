"""The condition of a machine: what makes a unit itself, and what a fault changes.

A machine type has a handful of *traits* (stiffness of the housing, balance of the rotor, centre of the flow noise ...).
A unit is one point in the space of traits, measured in *steps*; a fault moves that point along named traits, by
`severity` times the displacement listed for it; from clip to clip the point trembles a little. So the differences between
units and the differences made by faults lie along the same physical directions, as they do in a real series of machines,
where tolerance and wear act on the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from auscult.data.synthetic.streams import FloatArray, key_of, uniforms

TREMBLE = 0.15  # steps: standard deviation from clip to clip
# Fractional parts of these make a Kronecker sequence: units 00, 01, 02 ... fill the trait space evenly, so that no two
# units of a type fall together by chance, and yet a unit depends on its own number only.
IRRATIONALS = np.sqrt(
    np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0, 23.0, 29.0, 31.0, 37.0, 41.0, 43.0, 47.0, 53.0])
)


@dataclass(frozen=True)
class Trait:
    """One physical parameter: its value in the middle of the series and what one step does to it.

    Attributes:
        nominal: value at 0 steps, in the trait's own unit.
        step: added per step (`scale="add"`), or relative change per step, value = nominal exp(step c) (`scale="log"`).
    """

    nominal: float
    step: float
    scale: Literal["add", "log"] = "add"

    def value(self, steps: FloatArray) -> FloatArray:
        """Value at `steps`, same shape."""
        if self.scale == "log":
            return np.asarray(self.nominal * np.exp(self.step * steps))
        return np.asarray(self.nominal + self.step * steps)


Fault = Mapping[str, float]  # trait -> steps at severity 1


def unit_steps(seed: int, version: int, machine: str, unit: str, count: int) -> FloatArray:
    """Where a unit lies: [count] steps, each uniform over units with mean 0 and standard deviation 1."""
    offset = uniforms([key_of("unit", version, seed, machine)], "nuisance", count)[0] / (2 * np.sqrt(3.0)) + 0.5
    place = offset + int(unit) * IRRATIONALS[:count]
    return np.asarray((2.0 * (place - np.floor(place)) - 1.0) * np.sqrt(3.0))


def condition(
    traits: Mapping[str, Trait],
    unit: FloatArray,
    spread: float,
    keys: Sequence[int],
    faults: Sequence[Fault | None],
    severity: float,
) -> dict[str, FloatArray]:
    """Trait values of each clip, name -> [clips, 1].

    Args:
        unit: the unit's place, [traits] in steps before `spread`, the type's scatter of units.
        keys: the clips' keys; faults: per clip what is wrong with it, or None.
    """
    tremble = TREMBLE * uniforms(keys, "jitter", len(traits))
    values = {}
    for column, (name, trait) in enumerate(traits.items()):
        moved = np.array([severity * fault.get(name, 0.0) if fault else 0.0 for fault in faults])
        steps = spread * unit[column] + tremble[:, column] + moved
        values[name] = trait.value(steps[:, None])
    return values
