"""Fan, pump and ToyCar: machines whose sound follows the angle of a shaft."""

from __future__ import annotations

import numpy as np

from auscult.data.synthetic.blocks import decibel, hump, play, strikes, turns, waveform_of_turn
from auscult.data.synthetic.condition import Trait
from auscult.data.synthetic.machine import Excitation, MachineType, Operation, Values, body_traits
from auscult.data.synthetic.streams import FloatArray

MAX_ORDERS = 200


def comb(
    values: Values, teeth: int, harmonics: int, level_db: FloatArray, phase_draws: FloatArray, shaft_orders: int = 3
) -> tuple[FloatArray, FloatArray]:
    """Levels and phases of the shaft orders of a toothed or bladed wheel, [clips, orders].

    Harmonic m of the tooth-passing order falls off by trait "slope" (dB per octave), its even members stand above the odd
    ones by "even" (dB), and uneven spacing and imbalance put side bands at one and two shaft orders from each harmonic
    and raise the shaft's own first orders, at "sideband" (dB relative to the harmonic).
    """
    clips = level_db.shape[0]
    orders = min(MAX_ORDERS, teeth * harmonics + 2)
    levels = np.zeros((clips, orders))
    for m in range(1, harmonics + 1):
        parity = 0.5 if m % 2 == 0 else -0.5
        level = level_db - values["slope"] * np.log2(m) + parity * values["even"]
        for offset, below in ((0, 0.0), (-1, 0.0), (1, 0.0), (-2, 6.0), (2, 6.0)):
            order = teeth * m + offset
            if order <= orders:
                side = values["sideband"] - below if offset else 0.0
                levels[:, order - 1 : order] += decibel(level + side)
    for order in range(1, shaft_orders + 1):
        levels[:, order - 1 : order] += decibel(level_db + values["sideband"] + 6.0 - 3.0 * order)
    # Phases from a golden-ratio sequence: fixed for the type and spread out, so that no spike builds up. One draw per clip
    # is added to all.
    phases = np.arange(1, orders + 1) ** 2 * 0.6180339887 + phase_draws
    return levels, phases


def audible(levels: FloatArray, shaft_hz: FloatArray, sample_rate: int) -> FloatArray:
    """`levels` with every order removed that would pass 0.45 of the sample rate at the highest shaft speed of the clip."""
    order = np.arange(1, levels.shape[1] + 1)
    return np.where(order * shaft_hz.max(axis=1, keepdims=True) < 0.45 * sample_rate, levels, 0.0)


def knocks(angle: FloatArray, order: float, level_db: FloatArray) -> FloatArray:
    """Rolling-element knocks: a strike `order` times per turn, stronger while the flaw is in the load zone."""
    return strikes(order * angle) * decibel(level_db) * (1.0 + 0.5 * np.cos(2 * np.pi * angle))


def fan(op: Operation, v: Values) -> Excitation:
    """Seven blades at 24 turns per second: blade-pass harmonics, turbulence that beats with the blades, a bearing."""
    shaft = 24.0 * op.speed
    angle = turns(shaft, op.grid.sample_rate)
    levels, phases = comb(v, 7, 18, v["tonality"] + 4.0 * op.load, op.events[:, :1])
    tone = play(waveform_of_turn(audible(levels, shaft, op.grid.sample_rate), phases), angle)
    noise = op.turbulence * (1.0 + 0.4 * np.cos(2 * np.pi * 7 * angle))
    colour = hump(op.grid.octaves, v["flow"], 0.7, v["flow_level"]) - 2.0 * op.grid.octaves
    return Excitation(tone, noise, colour, knocks(angle, 3.57, v["knock"]))


FAN = MachineType(
    traits={
        **body_traits(),
        "tonality": Trait(-20.0, 1.5),  # dB, first blade-pass harmonic over the turbulence density
        "slope": Trait(3.0, 0.8),  # dB per octave
        "even": Trait(0.0, 3.0),  # dB
        "sideband": Trait(-9.0, 2.5),  # dB
        "flow": Trait(900.0, 0.10, "log"),  # Hz, centre of the turbulence
        "flow_level": Trait(8.0, 1.5),  # dB
        "knock": Trait(16.0, 2.5),  # dB
    },
    faults={
        "imbalance": {"sideband": 1.8, "even": 1.0, "frame": -1.1},
        "bearing_knock": {"knock": 1.0, "panel": -0.9, "quality": -0.6},
        "clogging": {"flow": -1.4, "slope": 1.2, "shell": 1.0},
        "loose_mount": {"frame": -1.6, "quality": 0.9, "shell": -0.8},
    },
    modes=(260.0, 520.0, 960.0, 1700.0, 2900.0, 4800.0),
    excite=fan,
)


def pump(op: Operation, v: Values) -> Excitation:
    """Five vanes at 29 turns per second: pressure pulsation, flow noise, the hiss of collapsing bubbles."""
    shaft = 29.0 * op.speed
    angle = turns(shaft, op.grid.sample_rate)
    levels, phases = comb(v, 5, 24, v["tonality"] + 4.0 * op.load, op.events[:, :1])
    tone = play(waveform_of_turn(audible(levels, shaft, op.grid.sample_rate), phases), angle)
    # Bubbles collapse in the pressure trough behind each vane: noise in bursts, deeper the more there are.
    bursts = np.maximum(np.cos(2 * np.pi * 5 * angle), 0.0) ** 4
    # And the flow surges: the whole circuit breathes some three times a second.
    surge = 1.0 + v["surge"] * np.cos(2 * np.pi * (angle / 9.0 + op.events[:, 1:2]))
    noise = op.turbulence * (0.6 + v["pulsation"] * bursts) * surge
    octaves = op.grid.octaves
    colour = hump(octaves, v["flow"], 0.5, np.full_like(v["flow"], 9.0))
    colour = colour + hump(octaves, v["hiss"], 0.35, v["hiss_level"]) - 1.5 * octaves
    return Excitation(tone, noise, colour, knocks(angle, 4.23, v["knock"]))


PUMP = MachineType(
    traits={
        **body_traits(8.0),
        "tonality": Trait(-19.0, 1.5),
        "slope": Trait(2.5, 0.8),
        "even": Trait(0.0, 3.0),
        "sideband": Trait(-10.0, 2.5),
        "flow": Trait(500.0, 0.10, "log"),  # Hz
        "hiss": Trait(3600.0, 0.08, "log"),  # Hz
        "hiss_level": Trait(7.0, 2.0),  # dB
        "pulsation": Trait(1.0, 0.35, "log"),
        "surge": Trait(0.3, 0.18, "log"),  # relative swing of the flow noise
        "knock": Trait(14.0, 2.5),
    },
    faults={
        "cavitation": {"pulsation": 1.2, "surge": 1.0, "hiss_level": 1.2, "hiss": -1.0},
        "leak": {"hiss_level": 1.2, "hiss": 1.3, "shell": 0.7, "surge": -1.2},
        "clogging": {"flow": -1.7, "even": 1.3, "frame": 1.1, "surge": 0.8},
        "bearing_knock": {"knock": 1.2, "panel": -1.0, "sideband": 0.9},
    },
    modes=(210.0, 430.0, 820.0, 1500.0, 2500.0, 4300.0),
    excite=pump,
)


def toy_car(op: Operation, v: Values) -> Excitation:
    """A gear of 11 teeth on a motor that runs up, holds and slows down: mesh harmonics over a speed curve, rolling noise."""
    time, draws = op.grid.time, op.events
    # One run every 0.9 to 1.3 s, begun at a random point of it; between 0.8 and 1.05 of the usual speed.
    period = 1.1 + 0.115 * draws[:, 1:2]
    cycle = np.cos(2 * np.pi * (time / period + draws[:, 2:3] / (2 * np.sqrt(3.0))))
    profile = 0.925 + 0.125 * np.clip(1.6 * cycle, -1.0, 1.0)
    shaft = 46.0 * op.speed * profile * v["voltage"]
    angle = turns(shaft, op.grid.sample_rate)
    levels, phases = comb(v, 11, 8, v["tonality"] + 3.5 * op.load, op.events[:, :1])
    tone = play(waveform_of_turn(audible(levels, shaft, op.grid.sample_rate), phases), angle) * profile
    noise = op.turbulence * profile**2 * (1.0 + 0.3 * np.cos(2 * np.pi * angle / 3.0))
    colour = hump(op.grid.octaves, v["roll"], 0.6, np.full_like(v["roll"], 8.0)) - 1.0 * op.grid.octaves
    return Excitation(tone, noise, colour, strikes(angle) * decibel(v["knock"]) * profile)


TOY_CAR = MachineType(
    traits={
        **body_traits(9.0),
        "tonality": Trait(-19.0, 1.5),
        "slope": Trait(2.0, 0.9),
        "even": Trait(0.0, 3.0),
        "sideband": Trait(-8.0, 2.5),
        "roll": Trait(1300.0, 0.10, "log"),  # Hz, centre of the rolling noise
        "voltage": Trait(1.0, 0.02, "log"),
        "knock": Trait(14.0, 2.5),  # dB, one strike per turn: a damaged tooth
    },
    faults={
        "tooth_chip": {"knock": 2.4, "sideband": 1.4, "panel": -1.2},
        "bent_shaft": {"sideband": 2.0, "even": -1.5, "frame": -1.2},
        "voltage_sag": {"voltage": -2.5, "slope": 1.6, "roll": -1.6, "shell": 1.0},
        "worn_tyre": {"roll": 1.6, "shell": -1.2, "quality": 0.8},
    },
    modes=(340.0, 650.0, 1150.0, 2000.0, 3300.0, 5400.0),
    excite=toy_car,
)
