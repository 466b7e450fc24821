"""Pictures of log-mels, and players of clips, small enough for a page with hundreds of them.

A picture is the bare values as WebP; its axes are drawn over it as SVG in the page's own text colour, so that one picture is
right on a light page and on a dark one.
"""

from __future__ import annotations

import io
from html import escape

import matplotlib
import numpy as np
import soundfile
from PIL import Image

from auscult.pages.differences import Patch

LOUDER, QUIETER = (230, 105, 20), (45, 135, 215)  # seen on white and on black
_LEFT, _TOP, _RIGHT, _BOTTOM, _WIDTH, _HEIGHT = 54, 8, 10, 34, 360, 220  # of the drawing, in its own units
_TICKS_HZ = (16000, 8000, 4000, 2000, 1000, 500, 250, 125)
_APART = 14  # least distance of two labels

STYLE = """<style>
.pictures{display:flex;flex-wrap:wrap;gap:.5rem 1rem}
.spectrogram{flex:1 1 17rem;max-width:29rem;min-width:0;margin:0}
.spectrogram>div{position:relative}
.spectrogram img{position:absolute;max-width:none}
.spectrogram svg{position:relative;display:block;width:100%;font-size:12px;fill:currentColor}
.spectrogram .axis{fill:none;stroke:currentColor;opacity:.6}
.spectrogram .patch{fill:none;stroke:currentColor;stroke-width:2;stroke-dasharray:5 3}
.spectrogram .mid{text-anchor:middle}
.spectrogram .end{text-anchor:end}
.spectrogram figcaption{font-size:.85em;overflow-wrap:anywhere}
.spectrogram figcaption b{display:block}
.spectrogram audio{display:block;width:100%;height:2.2rem;margin-top:.3rem}
.mistake{border-top:1px solid color-mix(in srgb,currentColor 20%,transparent);padding:.6rem 0}
.mistake p{margin:.2rem 0 .5rem}
.louder,.quieter{border-bottom:.25em solid rgb(230 105 20)}
.quieter{border-color:rgb(45 135 215)}
</style>"""
"""Of the pictures and the articles they stand in; colours are the page's own text colour, in light and dark."""


def sequential(mel: np.ndarray, low: float, high: float) -> bytes:
    """Log-mel [mels, frames] in dB as WebP, low frequencies at the bottom, `low` to `high` dB from dark to bright."""
    level = np.clip((mel[::-1] - low) / max(high - low, 1e-9), 0, 1)
    return _webp(matplotlib.colormaps["magma"](level, bytes=True)[..., :3])


def diverging(diff: np.ndarray, limit: float) -> bytes:
    """Difference [mels, frames] in dB as WebP: louder orange, quieter blue, the clearer the smaller; NaN is clear.

    The middle is transparent and not white: the page's own background is what "no difference" looks like.
    """
    flipped = np.nan_to_num(diff[::-1])
    colour = np.where((flipped > 0)[..., None], np.array(LOUDER), np.array(QUIETER))
    alpha = 255 * np.clip(np.abs(flipped) / limit, 0, 1)
    return _webp(np.concatenate([colour, alpha[..., None]], axis=2).round().astype(np.uint8))


def _webp(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=70, alpha_quality=50, method=4)
    return out.getvalue()


def figure(
    source: str, caption: str, alt: str, seconds: float, edges: np.ndarray, patch: Patch | None = None, frames: int = 1
) -> str:
    """HTML of a picture with its axes, seconds and kHz, and a caption.

    Args:
        source: address of the picture.
        caption: HTML; `alt` is plain text.
        edges: Hz [mels + 1], of `differences.band_edges`.
        patch: drawn as a frame, on a picture of so many `frames`.
    """
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    place = f"left:{_LEFT / _WIDTH:.3%};top:{_TOP / _HEIGHT:.3%};width:{wide / _WIDTH:.3%};height:{tall / _HEIGHT:.3%}"
    lines = [f'<rect x="{_LEFT}" y="{_TOP}" width="{wide}" height="{tall}" class="axis"/>']
    for tick in _time_ticks(seconds):
        x, y = _LEFT + wide * tick / seconds, float(_TOP + tall)
        lines.append(
            f'<path d="M{x:.1f} {y}v4" class="axis"/><text x="{x:.1f}" y="{y + 16}" class="mid">{tick:g}</text>'
        )
    lines.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 4}" class="mid">seconds</text>')
    bands = np.arange(len(edges)) / (len(edges) - 1)
    above = -float(_APART)
    for hz in (hz for hz in _TICKS_HZ if hz <= edges[-1]):
        y = _TOP + tall * (1 - float(np.interp(hz, edges, bands)))
        if y < above + _APART or y > _TOP + tall:
            continue
        above = y
        text = f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz"
        lines.append(
            f'<path d="M{_LEFT} {y:.1f}h-4" class="axis"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" class="end">{text}</text>'
        )
    if patch is not None:
        across, up = wide / frames, tall / (len(edges) - 1)
        x, y = _LEFT + across * patch.start, _TOP + tall - up * patch.high
        size = f'width="{across * (patch.stop - patch.start):.1f}" height="{up * (patch.high - patch.low):.1f}"'
        lines.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="patch"/>')
    return (
        f'<figure class="spectrogram"><div><img src="{escape(source)}" alt="{escape(alt)}" loading="lazy" style="{place}">'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{"".join(lines)}</svg></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _time_ticks(seconds: float) -> list[float]:
    """Round times from 0 on, at most seven."""
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300) if seconds / s <= 6), seconds)
    return [float(n * step) for n in range(int(seconds / step + 1e-9) + 1)]


# ------------------------------------------------------------------------------------------------------------------ players
def gain_of(peak: int) -> float:
    """Factor that brings the loudest of some clips (largest absolute int16 value) to 0.7 of full scale."""
    return 0.7 * 32768 / max(peak, 1)


def sound(audio: np.ndarray, sample_rate: int, gain: float) -> tuple[str, bytes]:
    """(suffix, content) of a clip, int16 [samples], as a file that browsers play: MP3, about 40 kbit/s at 16 kHz.

    Lossy, for the ear alone: pictures and scores come from the samples themselves. FLAC where libsndfile was built without
    MP3.
    """
    wave, out = np.clip(audio.astype(np.float32) * (gain / 32768), -1, 1), io.BytesIO()
    if "MP3" in soundfile.available_formats() and sample_rate in (
        8000,
        11025,
        12000,
        16000,
        22050,
        24000,
        32000,
        44100,
        48000,
    ):
        soundfile.write(out, wave, sample_rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
        return "mp3", out.getvalue()
    soundfile.write(out, wave, sample_rate, format="FLAC", subtype="PCM_16")
    return "flac", out.getvalue()


def player(source: str, label: str) -> str:
    """HTML of a player; nothing is loaded before it is asked for."""
    return f'<audio controls preload="none" src="{escape(source)}" aria-label="{escape(label)}"></audio>'
