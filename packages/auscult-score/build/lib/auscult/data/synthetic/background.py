"""The factory around the machine: coloured noise that swells slowly, and another machine humming somewhere."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from auscult.data.synthetic.blocks import (
    ComplexArray,
    Grid,
    decibel,
    impulses,
    play,
    resonator,
    turns,
    waveform_of_turn,
    wobble,
)
from auscult.data.synthetic.streams import FloatArray, normals, uniforms

COLOUR_TERMS = 5
NEIGHBOUR_ORDERS = 24
CLANGS = 3
CLANG_DB = 28.0  # height of the mean strike over the RMS of the noise, before it rings


@lru_cache(maxsize=8)
def cosines(grid: Grid, terms: int) -> FloatArray:
    """cos(pi k x), k = 1.., over x = log frequency between 50 Hz and 8 kHz as 0 to 1, [terms, bins]."""
    place = np.clip((grid.octaves - np.log2(0.05)) / (np.log2(8.0) - np.log2(0.05)), 0.0, 1.0)
    return np.stack([np.cos(np.pi * (term + 1) * place) for term in range(terms)])


def smooth_colour(grid: Grid, draws: FloatArray, spread_db: float) -> FloatArray:
    """A smooth random spectrum in dB, [clips, bins]: cosines over log frequency (see `cosines`).

    Args:
        draws: standardised, [clips, terms]; spread_db: standard deviation of each term.
    """
    out = np.zeros((draws.shape[0], grid.frequency.size))
    for term, cosine in enumerate(cosines(grid, draws.shape[1])):  # a sum, not a matrix product: see blocks.py
        out += spread_db * draws[:, term : term + 1] * cosine
    return out


def clangs(grid: Grid, draws: FloatArray) -> FloatArray:
    """Somebody drops something: ringing strikes at random times, some loud and some inaudible, [clips, length].

    Args:
        draws: standardised, [clips, 4 CLANGS]: time, level, pitch and damping of each.
    """
    seconds = grid.samples / grid.sample_rate
    spectrum = np.zeros((draws.shape[0], grid.frequency.size), dtype=np.complex128)
    for number in range(CLANGS):
        when, level, pitch, ring = (draws[:, 4 * number + place : 4 * number + place + 1] for place in range(4))
        strike = impulses((when / (2 * np.sqrt(3.0)) + 0.5) * seconds, decibel(CLANG_DB + 8.0 * level), grid)
        quality = 12.0 * np.exp(0.5 * ring)
        spectrum += grid.to_spectrum(strike) * resonator(grid.frequency, 1500.0 * np.exp(0.6 * pitch), quality)
    return grid.to_signal(spectrum)


def factory(grid: Grid, keys: list[int], spread_db: float, tilt: FloatArray) -> FloatArray:
    """Background sound of each clip at an RMS of exactly 1 over the clip, [clips, samples].

    Args:
        spread_db: how much its colour varies from clip to clip; tilt: dB per octave added, [clips, 1].
    """
    draws = uniforms(keys, "background_colour", COLOUR_TERMS + 4 + 4 * CLANGS + 3 + NEIGHBOUR_ORDERS)
    ends = np.cumsum([COLOUR_TERMS, 4, 4 * CLANGS])
    colour, slow, struck, rest = np.split(draws, ends, axis=1)
    half = grid.length // 2 + 1
    parts = normals(keys, "background", 2 * half)
    level = decibel(smooth_colour(grid, colour, spread_db) + (tilt - 4.0) * grid.octaves)
    level[:, grid.frequency < 40.0] = 0.0
    spectrum: ComplexArray = np.empty((len(keys), half), dtype=np.complex128)
    spectrum.real, spectrum.imag = level * parts[:, :half], level * parts[:, half:]
    noise = grid.to_signal(spectrum)
    noise /= np.sqrt(np.mean(noise**2, axis=1, keepdims=True))
    noise *= 1.0 + wobble(grid.time, slow, 0.2)
    speed = 60.0 * np.exp(0.25 * rest[:, 0:1]) * (1.0 + 0.0 * grid.time)
    order = np.arange(1, NEIGHBOUR_ORDERS + 1)
    levels = decibel(-15.0 + 5.0 * rest[:, 1:2] - 3.0 * np.log2(order) + 4.0 * rest[:, 3:])
    neighbour = play(waveform_of_turn(levels, order**2 * 0.6180339887 + rest[:, 2:3]), turns(speed, grid.sample_rate))
    out = grid.keep(noise + neighbour + clangs(grid, struck))
    return np.asarray(out / np.sqrt(np.mean(out**2, axis=1, keepdims=True)))
