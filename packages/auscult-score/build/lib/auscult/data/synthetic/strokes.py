"""Slider, valve and ToyConveyor: machines that move, stop and strike."""

from __future__ import annotations

import numpy as np

from auscult.data.synthetic.blocks import decibel, hump, impulses, play, strikes, turns, waveform_of_turn
from auscult.data.synthetic.condition import Trait
from auscult.data.synthetic.machine import Excitation, MachineType, Operation, Values, body_traits
from auscult.data.synthetic.rotating import audible, comb
from auscult.data.synthetic.streams import FloatArray

MAX_EVENTS_PER_SECOND = 4.0


def unit_draw(draws: FloatArray) -> FloatArray:
    """Standardised uniform numbers to [0, 1)."""
    return np.asarray(draws / (2.0 * np.sqrt(3.0)) + 0.5)


def slider(op: Operation, v: Values) -> Excitation:
    """A carriage on a rail, driven by a ball screw: strokes of about half a second, a rest and a thud at each end."""
    period = 1.1 / op.speed[:, :1]
    place = op.grid.time / period + unit_draw(op.events[:, 1:2])  # in double strokes: to, rest, back, rest
    half = 2.0 * place
    phase = half - np.floor(half)  # 0..1 within one stroke and its rest
    moving = phase / 0.72
    velocity = np.clip(np.minimum(moving, 1.0 - moving) / 0.15, 0.0, 1.0)  # trapezoid, 0 while at rest
    shaft = 38.0 * op.speed * velocity
    angle = turns(shaft, op.grid.sample_rate)
    levels, phases = comb(v, 9, 10, v["tonality"] + 3.5 * op.load, op.events[:, :1])
    tone = play(waveform_of_turn(audible(levels, shaft, op.grid.sample_rate), phases), angle) * velocity
    noise = op.turbulence * velocity
    colour = hump(op.grid.octaves, v["friction"], 0.5, v["friction_level"]) - 1.0 * op.grid.octaves
    ends = strikes(half) * decibel(v["thud"])
    # A scratch is met once per stroke, and a rail joint on the way: at fixed places of the rail.
    joints = strikes(half - 0.2) * decibel(v["thud"] - 10.0) + strikes(half - 0.45) * decibel(v["scratch"])
    return Excitation(tone, noise, colour, ends + joints)


SLIDER = MachineType(
    traits={
        **body_traits(10.0),
        "tonality": Trait(-18.0, 1.5),
        "slope": Trait(2.0, 0.9),
        "even": Trait(0.0, 3.0),
        "sideband": Trait(-9.0, 2.5),
        "friction": Trait(1900.0, 0.10, "log"),  # Hz
        "friction_level": Trait(8.0, 1.8),  # dB
        "thud": Trait(25.0, 2.0),  # dB
        "scratch": Trait(14.0, 3.0),  # dB
    },
    faults={
        "rail_scratch": {"scratch": 2.4, "friction": 1.2, "panel": -1.3},
        "dry_rail": {"friction_level": 1.3, "friction": 1.4, "slope": -0.8},
        "worn_screw": {"sideband": 1.6, "even": 1.4, "shell": -1.1},
        "loose_stop": {"thud": 1.8, "frame": -1.8, "quality": 1.0, "shell": 0.9},
    },
    modes=(300.0, 560.0, 1050.0, 1850.0, 3100.0, 5200.0),
    excite=slider,
)


def valve(op: Operation, v: Values) -> Excitation:
    """A solenoid valve: every third of a second or so it opens or closes with a click and a bounce; air hisses while open."""
    grid = op.grid
    rate = MAX_EVENTS_PER_SECOND * 0.75
    count = int((grid.length / grid.sample_rate) * rate) + 2
    slot = np.arange(count) / rate - grid.warm_up / grid.sample_rate
    jitter = unit_draw(op.events[:, 3 : 3 + count])
    times = (slot + 0.5 * jitter / rate) / op.speed[:, :1]
    opening = (np.arange(count) + (op.events[:, 1:2] > 0)) % 2  # 1 = opens, 0 = closes
    strength = decibel(np.where(opening > 0, 0.0, v["closing"]) + 1.5 * op.events[:, 3 + count : 3 + 2 * count])
    click = decibel(v["click"]) * strength
    strike = impulses(times, click, grid)
    strike += impulses(times + v["bounce"], click * decibel(v["bounce_level"]), grid)
    step = impulses(times, np.where(opening > 0, 1.0, -1.0), grid)
    held = np.cumsum(step, axis=1)
    held = held - held.min(axis=1, keepdims=True)  # 1 while open, 0 while closed
    hum = comb(v, 2, 12, v["hum"] + 1.5 * op.load, op.events[:, :1])
    mains = np.broadcast_to(50.0 * grid.time, held.shape)  # the coil hums at the mains frequency whatever the speed
    tone = play(waveform_of_turn(hum[0], hum[1]), mains) * held
    noise = op.turbulence * (decibel(v["leak"]) + decibel(v["air_level"]) * held)
    colour = hump(grid.octaves, v["air"], 0.45, np.full_like(v["air"], 12.0))
    return Excitation(tone, noise, colour, strike)


VALVE = MachineType(
    traits={
        **body_traits(10.0),
        "slope": Trait(4.0, 0.8),
        "even": Trait(0.0, 3.0),
        "sideband": Trait(-10.0, 2.0),
        "hum": Trait(-24.0, 2.0),  # dB
        "click": Trait(20.0, 1.5),  # dB
        "bounce": Trait(0.012, 0.25, "log"),  # s between a click and its bounce
        "bounce_level": Trait(-7.0, 2.5),  # dB
        "closing": Trait(-3.0, 2.0),  # dB, closing click relative to opening click
        "air": Trait(2600.0, 0.10, "log"),  # Hz
        "air_level": Trait(-9.0, 2.0),  # dB
        "leak": Trait(-24.0, 2.5),  # dB, air that passes the closed valve
    },
    faults={
        "leak": {"leak": 2.0, "air": 1.4, "panel": 0.9},
        "clogging": {"air_level": -1.5, "air": -1.6, "shell": 1.0},
        "voltage_sag": {"click": -1.8, "hum": 1.8, "bounce": 1.4, "bounce_level": 1.4, "frame": -1.2},
        "worn_seat": {"panel": -1.6, "shell": -1.5, "quality": -0.9, "bounce": -1.0},
    },
    modes=(420.0, 800.0, 1400.0, 2300.0, 3600.0, 5600.0),
    excite=valve,
)


def toy_conveyor(op: Operation, v: Values) -> Excitation:
    """A belt over rollers: a geared motor, rubbing that swells once per belt turn, a seam that strikes both rollers."""
    shaft = 33.0 * op.speed
    belt = turns(op.speed * v["belt_rate"], op.grid.sample_rate) + unit_draw(op.events[:, 1:2])
    slip = v["slip"] * np.sin(2 * np.pi * belt)  # the belt drags and lets go once per turn
    shaft = shaft * (1.0 + slip)
    angle = turns(shaft, op.grid.sample_rate)
    levels, phases = comb(v, 8, 12, v["tonality"] + 3.5 * op.load, op.events[:, :1])
    tone = play(waveform_of_turn(audible(levels, shaft, op.grid.sample_rate), phases), angle)
    rubbing = v["rubbing"] * np.exp(0.5 * op.load)  # a loaded belt rubs harder
    noise = op.turbulence * (1.0 + rubbing * np.cos(2 * np.pi * belt))
    colour = hump(op.grid.octaves, v["belt_noise"], 0.6, np.full_like(v["slip"], 8.0)) - 1.0 * op.grid.octaves
    seam = strikes(belt) + 0.7 * strikes(belt - 0.42)
    rollers = strikes(angle / 3.0) * decibel(v["roller"])
    return Excitation(tone, noise, colour, seam * decibel(v["seam"]) + rollers)


TOY_CONVEYOR = MachineType(
    traits={
        **body_traits(9.0),
        "tonality": Trait(-19.0, 1.5),
        "slope": Trait(2.0, 0.9),
        "even": Trait(0.0, 3.0),
        "sideband": Trait(-9.0, 2.5),
        "belt_rate": Trait(1.3, 0.03, "log"),  # belt turns per second
        "belt_noise": Trait(1100.0, 0.10, "log"),  # Hz
        "rubbing": Trait(0.3, 0.3, "log"),
        "slip": Trait(0.004, 0.5, "log"),
        "seam": Trait(28.0, 2.0),  # dB
        "roller": Trait(15.0, 2.5),  # dB
    },
    faults={
        "belt_slip": {"slip": 1.2, "rubbing": 0.4, "sideband": 1.0, "belt_rate": -1.2},
        "slack_belt": {"frame": -1.1, "belt_noise": -0.9, "quality": 0.6},
        "torn_seam": {"seam": 0.9, "panel": -0.8, "rubbing": 0.4},
        "roller_bearing": {"roller": 1.0, "shell": -0.8, "sideband": 0.9},
    },
    modes=(280.0, 540.0, 1000.0, 1750.0, 3000.0, 5000.0),
    excite=toy_conveyor,
    spread=0.5,  # the units are nearly alike: the classifier's hard case
)
