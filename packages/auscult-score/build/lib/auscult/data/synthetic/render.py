"""From (source, machine, unit, partition, index) to the clip's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from auscult.data.synthetic.background import factory, smooth_colour
from auscult.data.synthetic.blocks import Grid, decibel, grid_of, wobble
from auscult.data.synthetic.condition import Fault, condition, unit_steps
from auscult.data.synthetic.machine import MachineType, Operation, sound
from auscult.data.synthetic.rotating import FAN, PUMP, TOY_CAR
from auscult.data.synthetic.source import FarMicrophone, Partition, SyntheticSource
from auscult.data.synthetic.streams import FloatArray, key_of, normals, uniforms
from auscult.data.synthetic.strokes import MAX_EVENTS_PER_SECOND, SLIDER, TOY_CONVEYOR, VALVE

TYPES: dict[str, MachineType] = {
    "fan": FAN,
    "pump": PUMP,
    "slider": SLIDER,
    "valve": VALVE,
    "ToyCar": TOY_CAR,
    "ToyConveyor": TOY_CONVEYOR,
}

# Standard deviations of what changes from clip to clip and means nothing: version 1.
SPEED = 0.06  # relative
GAIN_DB = 3.5
LEVEL_DB = 3.0  # of the background
PLACE_DB = 1.8  # each of the terms of the way from machine to microphone
BACKGROUND_DB = 3.0  # each of the terms of the background's colour
PLACE_TERMS = 4
ECHO = 0.12  # strength of the floor's reflection
ECHO_SECONDS = 0.0012  # how much later it comes, between a third and three times as much

REFERENCE_DBFS = -42.0  # RMS of a unit's reference run (of the background, where that is louder)
REFERENCE_SECONDS = 8.0
BLOCK_SAMPLES = 2**16  # clips are rendered in blocks that stay in the processor's cache


@dataclass(frozen=True)
class Parts:
    """A clip before it becomes integers; full scale is 1.

    Attributes:
        machine, background: [clips, samples], or with a far microphone [clips, 2, samples]; their sum is the clip.
        gain_db, snr_db: as drawn, [clips].
        faults: kind per clip, "" for none.
    """

    machine: FloatArray
    background: FloatArray
    gain_db: FloatArray
    snr_db: FloatArray
    faults: list[str]


def _every(partition: Partition) -> int:
    return 2 if partition in ("test_normal", "test_anomaly") else 10


def domain_of(partition: Partition, index: int) -> str:
    """Domain of a clip where there are two: every second test clip, and every tenth of the others, is target."""
    every = _every(partition)
    return "target" if index % every == every - 1 else "source"


def setting_of(partition: Partition, index: int) -> int:
    """Number of the operating point: 1-3 in the source domain, 4-5 in the target domain."""
    turn = index // _every(partition)
    return 4 + turn % 2 if domain_of(partition, index) == "target" else 1 + (turn + index) % 3


def shift_of(source: SyntheticSource, partition: Partition, index: int) -> float:
    """How far the operating point of a clip lies from the usual one, in units of 6 % speed, one load and 0.7 dB/octave."""
    if source.domain_shift == 0.0:
        return 0.0
    return source.domain_shift * (-0.25, 0.0, 0.25, 1.0, 1.5)[setting_of(partition, index) - 1]


def fault_of(machine: str, partition: Partition, index: int) -> str:
    """Fault kind of a clip: the kinds in turn over the anomalous test clips, "" elsewhere."""
    kinds = list(TYPES[machine].faults)
    return kinds[index % len(kinds)] if partition == "test_anomaly" else ""


def operate(source: SyntheticSource, grid: Grid, keys: list[int], nuisance: FloatArray, shift: FloatArray) -> Operation:
    """Operation of each clip from its standardised `nuisance` numbers, [clips, 6]."""
    speed = np.exp(SPEED * (nuisance[:, 0:1] + shift)) * (1.0 + wobble(grid.time, nuisance[:, 2:6], 0.004))
    events = uniforms(keys, "events", 8 + 2 * (int(MAX_EVENTS_PER_SECOND * grid.length / grid.sample_rate) + 2))
    return Operation(grid, speed, nuisance[:, 1:2] + shift, events, normals(keys, "turbulence", grid.length))


def way_to_microphone(grid: Grid, draws: FloatArray) -> FloatArray:
    """Transmission from machine to microphone in dB, [clips, bins]: a smooth colour, and ripples from one reflection.

    Args:
        draws: standardised, [clips, 1 + PLACE_TERMS]: delay of the reflection, terms of the colour.
    """
    delay = ECHO_SECONDS * np.exp(0.63 * draws[:, :1])
    ripple = 1.0 + ECHO**2 + 2.0 * ECHO * np.cos(2 * np.pi * grid.frequency * delay)
    return smooth_colour(grid, draws[:, 1:], PLACE_DB) + 10.0 * np.log10(ripple)


@lru_cache(maxsize=4096)
def reference_rms(version: int, seed: int, machine: str, unit: str, sample_rate: int) -> float:
    """RMS of a unit in good order, run at nominal speed and load for some seconds, before any level is set."""
    kind, grid = TYPES[machine], Grid(round(REFERENCE_SECONDS * sample_rate), sample_rate)
    keys = [key_of(version, seed, machine, unit, "reference", 0)]
    zero = np.zeros((1, 1))
    count = 8 + 2 * (int(MAX_EVENTS_PER_SECOND * grid.length / sample_rate) + 2)
    operation = Operation(
        grid, np.ones((1, grid.length)), zero, uniforms(keys, "events", count), normals(keys, "turbulence", grid.length)
    )
    place = unit_steps(seed, version, machine, unit, len(kind.traits))
    values = condition(kind.traits, place, kind.spread, keys, [None], 0.0)
    run = sound(kind, operation, values, np.zeros((1, grid.frequency.size)))
    return float(np.sqrt(np.mean(run**2)))


def render(
    source: SyntheticSource,
    machine: str,
    unit: str,
    partition: Partition,
    indices: Sequence[int],
    faultless: bool = False,
) -> Parts:
    """Machine and background of the clips `indices`, in one block.

    Args:
        faultless: leave the fault out of anomalous clips and change nothing else.
    """
    kind, grid = TYPES[machine], grid_of(source.samples, source.sample_rate)
    keys = [key_of(source.version, source.seed, machine, unit, partition, index) for index in indices]
    nuisance = uniforms(keys, "nuisance", 9 + PLACE_TERMS)
    shift = np.array([[shift_of(source, partition, index)] for index in indices])
    names = ["" if faultless else fault_of(machine, partition, index) for index in indices]
    faults: list[Fault | None] = [kind.faults[name] if name else None for name in names]
    place = unit_steps(source.seed, source.version, machine, unit, len(kind.traits))
    values = condition(kind.traits, place, kind.spread, keys, faults, source.severity)
    colour = way_to_microphone(grid, nuisance[:, 8:])
    run = sound(kind, operate(source, grid, keys, nuisance[:, :6], shift), values, colour)

    gain_db = GAIN_DB * nuisance[:, 6]
    snr_db = source.snr_db + LEVEL_DB * nuisance[:, 7]
    # Below 0 dB the background is the louder part: it takes the reference level, so that the sum keeps its headroom.
    full = decibel(gain_db[:, None] + REFERENCE_DBFS + min(0.0, source.snr_db))
    run *= full / reference_rms(source.version, source.seed, machine, unit, source.sample_rate)
    level = full * decibel(-snr_db[:, None])
    background = factory(grid, keys, BACKGROUND_DB, 0.7 * shift) * level
    if source.far is not None:
        # Streams of their own: the near channel is the mono clip, to the bit.
        own_keys = [key_of(source.version, source.seed, machine, unit, partition, index, "far") for index in indices]
        own = factory(grid, own_keys, BACKGROUND_DB, 0.7 * shift) * level
        run, background = far_too(source.far, grid, own_keys, run, background, own)
    return Parts(run, background, gain_db, snr_db, names)


def far_too(
    far: FarMicrophone, grid: Grid, keys: list[int], machine: FloatArray, background: FloatArray, own: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Machine and background at both microphones, [clips, 2, samples], from what the near one hears and `own` background.

    Each way to the far microphone has a delay and a smooth colour of its own.
    """
    ways = uniforms(keys, "nuisance", 2 * (1 + PLACE_TERMS))
    there = _moved(machine, grid, ways[:, : 1 + PLACE_TERMS], far.delay_ms) * decibel(far.machine_db)
    noise = _moved(background, grid, ways[:, 1 + PLACE_TERMS :], -far.noise_delay_ms) * np.sqrt(far.shared)
    noise = (noise + own * np.sqrt(1.0 - far.shared)) * decibel(far.noise_db)
    return np.stack([machine, there], axis=1), np.stack([background, noise], axis=1)


def _moved(wave: FloatArray, grid: Grid, draws: FloatArray, delay_ms: float) -> FloatArray:
    """`wave` [clips, samples] later by `delay_ms`, its spectrum coloured by `draws` [clips, 1 + PLACE_TERMS] as on any way to a
    microphone. Circular over a run with silence behind the clip: nothing of an end is heard at the beginning."""
    padded = np.zeros((len(wave), grid.length))
    padded[:, : wave.shape[1]] = wave
    turn = np.exp(-2j * np.pi * grid.frequency * delay_ms / 1000.0)
    return grid.to_signal(grid.to_spectrum(padded) * decibel(way_to_microphone(grid, draws)) * turn)[:, : wave.shape[1]]


def generate_clips(
    source: SyntheticSource, machine: str, unit: str, partition: Partition, indices: Sequence[int]
) -> NDArray[np.int16]:
    """Clips `indices` of one unit and partition, int16 [clips, source.samples], or with a far microphone [clips, 2, samples].

    Each clip depends on the source's parameters, the machine, the unit, the partition and its index alone: not on the
    other indices, their order, or the clip counts.

    Args:
        partition: an entry of `PARTITIONS`. Indices are 0 or more; they need not lie below the clip counts.

    Raises:
        AuscultError: unknown machine, unit or partition, or a negative index.
    """
    source.require(machine, unit, partition)
    source.require_indices(indices)
    channels = () if source.far is None else (2,)
    out = np.empty((len(indices), *channels, source.samples), dtype=np.int16)
    step = max(1, BLOCK_SAMPLES // source.samples)
    for start in range(0, len(indices), step):
        parts = render(source, machine, unit, partition, indices[start : start + step])
        # Both are made where one is left out: a clip of the machine alone has the machine's level.
        clip = {"machine": parts.machine, "noise": parts.background}.get(partition, parts.machine + parts.background)
        clip = np.rint(clip * 32768.0)
        out[start : start + step] = np.clip(clip, -32768, 32767)
    return out
