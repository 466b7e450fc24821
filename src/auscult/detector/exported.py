"""A bundle that was exported to one ONNX file, for scoring: onnxruntime, NumPy and soundfile are all it takes.

A score is that of the bundle to 1e-4 (onnx/export.py), in float32; p-values and verdicts follow from it as the bundle's do, by
what the file's metadata say of normal sound. The threshold is the one at the time of the export.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auscult.data.audio import Channel
from auscult.detector.signal import SignalRange
from auscult.detector.stream import long_enough, whole
from auscult.detector.thresholds import By, Threshold, p_values
from auscult.detector.verdict import Known
from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.packages import require

FORMAT = 1
"""Of the file's inputs, outputs and metadata."""
CHUNK = 8
"""Windows scored at once."""


@dataclass(frozen=True)
class Exported:
    """What `detector.score` asks of a bundle; attributes as of `folder.Bundle`."""

    folder: Path
    name: str
    sample_rate: int
    window: int
    hop: int
    channel: Channel
    rule: Threshold
    normal: Floats
    known: Known
    signal: SignalRange
    session: Any

    @property
    def threshold(self) -> float:
        return self.rule.value

    def scores(self, windows: np.ndarray) -> Floats:
        """Scores float64 [n] of windows float32 [n, window]. Those that lack a fiftieth at most are mirrored at their end: the
        file takes one length alone."""
        if windows.ndim != 2 or not long_enough(windows.shape[1], self.window):
            raise AuscultError(f"windows of shape {windows.shape}, and [n, {self.window}] is wanted", str(self.folder))
        windows = np.ascontiguousarray(whole(windows, self.window, False), np.float32)
        parts = [windows[start : start + CHUNK] for start in range(0, len(windows), CHUNK)]
        found = [self.session.run(["score"], {"waveform": part})[0] for part in parts]
        return np.concatenate(found or [np.empty(0)]).astype(np.float64)

    def p_values(self, scores: np.ndarray) -> Floats:
        """As `folder.Bundle.p_values`."""
        return p_values(self.normal, scores)


def session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU; `threads` 0 = its own choice.

    Raises:
        AuscultError: onnxruntime is not installed.
    """
    onnxruntime = require("onnxruntime", "an exported bundle")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load(path: Path) -> Exported:
    """
    Raises:
        AuscultError: no such file, none of `auscult export`, or one of an older version, which says too little.
    """
    if not path.is_file():
        raise AuscultError("there is no such file", str(path), "make one: auscult export BUNDLE -o FILE.onnx")
    try:
        made = session(path)
        facts = made.get_modelmeta().custom_metadata_map
    except AuscultError:
        raise
    except Exception as error:  # onnxruntime has its own
        reason = str(error).partition("\n")[0][:200]
        raise AuscultError(f"not a readable ONNX file ({reason})", str(path), "export the bundle again") from None
    if "auscult.normal" not in facts:
        what = "this file does not say how normal sound scores: an older version wrote it, or another program"
        raise AuscultError(what, str(path), "export the bundle again: auscult export BUNDLE -o FILE.onnx")
    try:
        return _of({key.removeprefix("auscult."): value for key, value in facts.items()}, path, made)
    except (KeyError, ValueError, TypeError) as error:
        raise AuscultError(f"its metadata make no sense ({error})", str(path), "export the bundle again") from None


def _of(facts: dict[str, str], path: Path, made: Any) -> Exported:
    if facts["format"] != str(FORMAT):
        raise ValueError(f"format {facts['format']}, and {FORMAT} is read")
    normal = np.array(json.loads(facts["normal"]), np.float64)
    alike = tuple((int(windows), float(low), float(high)) for windows, low, high in json.loads(facts["alike"]))
    by: By = "gamma" if facts["by"] == "gamma" else "quantile"
    rule = Threshold(float(facts["threshold"]), float(facts["rate"]), by)
    channel: Channel = "mean" if facts["channel"] == "mean" else int(facts["channel"])
    rate, window, hop = (int(facts[key]) for key in ("sample_rate", "window", "hop"))
    if normal.ndim != 1 or len(normal) < 2 or min(rate, window, hop) < 1 or not 0 < rule.rate < 1:
        raise ValueError("sizes, a rate or normal scores that no bundle has")
    if not np.isfinite([rule.value, *normal]).all():  # nothing is above a threshold that is no number
        raise ValueError("a threshold or normal scores that are no numbers")
    if [each.shape[-1] for each in made.get_inputs()] != [window]:
        raise ValueError(f"windows of {window} samples, and the file takes others")
    known = Known(rule.rate, len(normal), float(facts["effective"]), alike)
    signal = SignalRange(**json.loads(facts["signal"]))
    return Exported(path, facts["name"], rate, window, hop, channel, rule, normal, known, signal, made)
