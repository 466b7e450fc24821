"""The factory around the machine: coloured noise that swells slowly, and another machine humming somewhere."""

from __future__ import annotations

import numpy as np

from auscult.data.synthetic.blocks import Grid, decibel, play, turns, waveform_of_turn, wobble
from auscult.data.synthetic.streams import FloatArray, normals, uniforms

COLOUR_TERMS = 5
NEIGHBOUR_ORDERS = 24


def smooth_colour(grid: Grid, draws: FloatArray, spread_db: float) -> FloatArray:
    """A smooth random spectrum in dB, [clips, bins]: cosines over log frequency (50 Hz to 8 kHz is half a period of the first).

    Args:
        draws: standardised, [clips, terms]; spread_db: standard deviation of each term.
    """
    place = np.clip((grid.octaves - np.log2(0.05)) / (np.log2(8.0) - np.log2(0.05)), 0.0, 1.0)
    out = np.zeros((draws.shape[0], place.size))
    for term in range(draws.shape[1]):
        out += spread_db * draws[:, term : term + 1] * np.cos(np.pi * (term + 1) * place)
    return out


def factory(grid: Grid, keys: list[int], spread_db: float, tilt: FloatArray) -> FloatArray:
    """Background sound of each clip at an RMS of exactly 1 over the clip, [clips, samples].

    Args:
        spread_db: how much its colour varies from clip to clip; tilt: dB per octave added, [clips, 1].
    """
    draws = uniforms(keys, "background_colour", COLOUR_TERMS + 4 + 3 + NEIGHBOUR_ORDERS)
    colour, slow, rest = np.split(draws, [COLOUR_TERMS, COLOUR_TERMS + 4], axis=1)
    half = grid.length // 2 + 1
    parts = normals(keys, "background", 2 * half)
    level = decibel(smooth_colour(grid, colour, spread_db) + (tilt - 4.0) * grid.octaves)
    level[:, grid.frequency < 40.0] = 0.0
    noise = grid.to_signal(level * (parts[:, :half] + 1j * parts[:, half:]))
    noise /= np.sqrt(np.mean(noise**2, axis=1, keepdims=True))
    noise *= 1.0 + wobble(grid.time, slow, 0.2)
    speed = 60.0 * np.exp(0.25 * rest[:, 0:1]) * (1.0 + 0.0 * grid.time)
    order = np.arange(1, NEIGHBOUR_ORDERS + 1)
    levels = decibel(-14.0 + 4.0 * rest[:, 1:2] - 3.0 * np.log2(order) + 4.0 * rest[:, 3:])
    neighbour = play(waveform_of_turn(levels, order**2 * 0.6180339887 + rest[:, 2:3]), turns(speed, grid.sample_rate))
    out = grid.keep(noise + neighbour)
    return np.asarray(out / np.sqrt(np.mean(out**2, axis=1, keepdims=True)))
