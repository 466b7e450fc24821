"""A bundle as one ONNX file: waveform [n, window] in, score [n] out; front-end, network and back-end are inside.

A file is kept only after onnxruntime has given the scores that torch gives.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from auscult.detector.exported import FORMAT, session
from auscult.detector.manifest import BACKENDS
from auscult.detector.onnx.network import Scorer, scorer
from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.packages import require

if TYPE_CHECKING:
    from auscult.detector.bundle import Bundle

TOLERANCE = 1e-4
"""Largest difference from torch: absolute below a score of one, relative above."""
CHECKED = 8
"""Windows of noise, tones, clicks and silence that both must score alike."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """What was written, and how well it agrees: `difference` is the largest |onnx - torch| / max(1, |torch|) of `checked`
    windows."""

    path: Path
    difference: float
    checked: int


def export(bundle: Bundle, path: Path) -> Export:
    """Write a bundle as an ONNX file and compare it with the bundle; a file that differs is not kept.

    Input `waveform` float32 [n, window] in [-1, 1), output `score` float32 [n]. What else a device must know (sample rate,
    window, hop, channel, threshold) is in the file's metadata, see `metadata_of`.

    Raises:
        AuscultError: packages are missing, the method cannot be exported, or the scores differ.
    """
    require_packages()
    if bundle.backend not in BACKENDS:
        what, fix = f"the back-end `{bundle.backend}` cannot be exported", f"fit with one of: {', '.join(BACKENDS)}"
        raise AuscultError(what, str(bundle.folder), fix)
    metric = bundle.backend.removeprefix("knn_")
    bank = None if bundle.backend == "native" else bundle.reference
    model = scorer(bundle.trained, bundle.sample_rate, bank, bundle.k, metric)
    waves = probes(bundle.window, CHECKED)
    expected = bundle.scores(waves)
    with atomic_file(path) as part:
        write(model, bundle.window, part, metadata_of(bundle))
        try:
            worst = difference(part, expected, waves)
        except Exception as error:  # onnxruntime has its own
            what = f"onnxruntime does not run what was exported: {first_line(error)}"
            raise AuscultError(what, str(bundle.folder), "nothing was written; use the bundle itself") from error
        if worst > TOLERANCE:
            what = f"the exported network scores otherwise: by {worst:.1e}, and {TOLERANCE:g} is allowed"
            raise AuscultError(what, str(bundle.folder), "nothing was written; use the bundle itself")
    return Export(path, worst, CHECKED)


def metadata_of(bundle: Bundle) -> dict[str, str]:
    """What stands in the file beside the network (ONNX `metadata_props`); every value is text."""
    from auscult import __version__

    facts: dict[str, object] = {
        "format": FORMAT,
        "name": bundle.name,
        "method": bundle.method,
        "backend": bundle.backend,
        "k": bundle.k,
        "sample_rate": bundle.sample_rate,
        "window": bundle.window,
        "hop": bundle.hop,
        "channel": bundle.channel,
        "gain": repr(bundle.signal.gain),
        "threshold": repr(float(bundle.threshold)),
        "rate": repr(float(bundle.rule.rate)),
        "by": bundle.rule.by,
        # What verdicts and p-values take beyond a score (detector/exported.py), as JSON.
        "signal": json.dumps(asdict(bundle.signal)),
        "effective": repr(bundle.known.effective),
        "alike": json.dumps(bundle.known.alike),
        "normal": json.dumps(bundle.normal.tolist()),
        "score": "higher is more anomalous; anomalous if above the threshold",
        "bundle_sha256": hashlib.sha256((bundle.folder / "bundle.yaml").read_bytes()).hexdigest(),
        "auscult": __version__,
    }
    return {f"auscult.{key}": str(value) for key, value in facts.items()}


def require_packages() -> None:
    """
    Raises:
        AuscultError: what writes and runs ONNX files is not installed.
    """
    for name in PACKAGES:
        require(name, "an export")


def write(model: Scorer, window: int, path: Path, metadata: dict[str, str]) -> None:
    """Write `model` as an ONNX file for any number of windows of `window` samples.

    Raises:
        AuscultError: the network does something that ONNX, or the exporter, has no words for; the reason is in it.
    """
    require_packages()
    import onnx

    # Three: not equal to a size that means something else, such as the halves of a coupling.
    example = torch.from_numpy(probes(window, 3))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of packages that nobody needs
    dimension = torch.export.Dim("n", min=1, max=65536)
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: dimension},),
                input_names=["waveform"],
                output_names=["score"],
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:  # the exporter raises whatever it meets
        raise AuscultError(f"cannot be exported: {first_line(error)}", fix="docs/deploy.md lists what can") from error
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        what = "cannot be exported: the network makes a constant of the number of windows"
        raise AuscultError(what, fix="docs/deploy.md lists what can")
    del proto.graph.value_info[:]  # shapes of weights, too, which quantizers transpose and then find to differ
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, str(path))


def first_line(error: BaseException) -> str:
    """Of the innermost cause: the exporter wraps what it meets in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def probes(window: int, count: int, seed: int = 0) -> np.ndarray:
    """Windows float32 [count, window] to compare on: noise, tones, clicks and silence in turn, at levels over 60 dB.

    On the 16-bit grid, as all that a bundle hears, and tones 37 dB above noise: beside a purer one lies the rounding of
    float32 alone, by which two transforms differ that are both right.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(window)
    kinds = (
        lambda: rng.standard_normal(window),
        lambda: np.sin(time * rng.uniform(0.01, 3)) + 1e-2 * rng.standard_normal(window),
        lambda: (rng.random(window) < 1e-3) * rng.standard_normal(window) * 4,
        lambda: np.zeros(window),
    )
    level = 10.0 ** rng.uniform(-3.6, -0.6, count)
    sounds = np.stack([kinds[i % len(kinds)]() for i in range(count)]) * level[:, None]
    return (np.clip(np.round(sounds * 32768), -32768, 32767) / 32768).astype(np.float32)


def difference(path: Path, expected: np.ndarray, waves: np.ndarray) -> float:
    """Largest |onnx - torch| / max(1, |torch|) over windows [n, window], in batches and alone.

    A window must score alike in both; infinite or missing where torch's score is finite counts as infinite.
    """
    run = session(path)
    together = run.run(["score"], {"waveform": waves})[0]
    alone = np.concatenate([run.run(["score"], {"waveform": wave[None]})[0] for wave in waves])
    worst = 0.0
    for got in (together, alone):
        error = np.abs(got.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
        worst = max(worst, float(np.where(np.isnan(error), np.inf, error).max()))
    return worst
