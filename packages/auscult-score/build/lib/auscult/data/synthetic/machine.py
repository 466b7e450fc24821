"""What a machine type consists of, and how its parts become sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from auscult.data.synthetic.blocks import ComplexArray, Grid, decibel, resonator
from auscult.data.synthetic.condition import Fault, Trait
from auscult.data.synthetic.streams import FloatArray

BODY_FLOOR = 0.12  # transmission of the body away from its modes, relative to a mode's peak
Values = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Operation:
    """How the machine is run during each clip: the same law for all units, normal or not.

    Attributes:
        grid: axes of the clips.
        speed: relative speed over time, about 1, [clips, length].
        load: standardised, [clips, 1].
        events: standardised uniform numbers for whatever happens at random times, [clips, EVENTS].
        turbulence: white noise of variance 1, [clips, length].
    """

    grid: Grid
    speed: FloatArray
    load: FloatArray
    events: FloatArray
    turbulence: FloatArray


@dataclass(frozen=True)
class Excitation:
    """Forces on the body, [clips, length] each: what turns, what flows or rubs, what strikes.

    `noise_db` [clips, bins] is the spectrum given to the noise; tones bring their own, strikes are white.
    """

    tone: FloatArray
    noise: FloatArray
    noise_db: FloatArray
    strike: FloatArray | None = None


@dataclass(frozen=True)
class MachineType:
    """A machine type.

    Attributes:
        traits: what units differ in and faults move.
        faults: kind -> displacement in steps at severity 1.
        spread: scatter of units in steps.
        modes: vibration modes of the body in Hz; traits "frame", "shell" and "panel" shift them in turn.
        excite: forces from operation and trait values.
    """

    traits: Mapping[str, Trait]
    faults: Mapping[str, Fault]
    modes: tuple[float, ...]
    excite: Callable[[Operation, Values], Excitation]
    spread: float = 1.5


# Which trait shifts which mode: low modes belong to the frame, middle ones to the shell, high ones to panels and covers.
MODE_GROUPS = ("frame", "frame", "shell", "shell", "panel", "panel")


def body_traits(quality: float = 9.0) -> dict[str, Trait]:
    """Traits of the body: relative frequency of three groups of modes, and their damping."""
    return {
        "frame": Trait(1.0, 0.055, "log"),
        "shell": Trait(1.0, 0.055, "log"),
        "panel": Trait(1.0, 0.055, "log"),
        "quality": Trait(quality, 0.22, "log"),
    }


def body(frequency: FloatArray, modes: tuple[float, ...], values: Values) -> ComplexArray:
    """Transfer function of the body, a flat floor and one resonator per mode, [clips, bins]."""
    out = np.full((values["quality"].shape[0], frequency.size), BODY_FLOOR, dtype=np.complex128)
    for number, (mode, group) in enumerate(zip(modes, MODE_GROUPS, strict=True)):
        # Neighbouring modes move in opposite phase; alternating signs keep the valleys between them from filling up.
        sign = -1.0 if number % 2 else 1.0
        out += sign * resonator(frequency, mode * values[group], values["quality"])
    return out


def sound(machine: MachineType, operation: Operation, values: Values, colour_db: FloatArray) -> FloatArray:
    """Sound of the machine before any level is set, [clips, samples].

    Args:
        colour_db: transmission from body to microphone, dB, [clips, bins].
    """
    grid = operation.grid
    force = machine.excite(operation, values)
    spectrum = grid.to_spectrum(force.noise)
    spectrum *= decibel(force.noise_db)
    spectrum += grid.to_spectrum(force.tone if force.strike is None else force.tone + force.strike)
    spectrum *= body(grid.frequency, machine.modes, values)
    spectrum *= decibel(colour_db)
    return grid.keep(grid.to_signal(spectrum))
