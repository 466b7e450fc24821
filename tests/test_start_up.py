"""What a process loads before it starts to work: seconds that every stage and every `auscult score` would wait."""

from __future__ import annotations

import subprocess
import sys

SLOW = (
    "torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy.stats", "scipy.signal", "matplotlib", "mlflow", "dask",
    "distributed", "transformers",
)  # fmt: skip
WORK = (
    "auscult.detector.score, auscult.detector.fit, auscult.detector.update, auscult.training.arm, auscult.training.embed, "
    "auscult.encoders.beats"
)


def test_nothing_slow_is_loaded_by_fitting_scoring_or_training() -> None:
    program = f"import sys, {WORK}; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    assert {"torch", "auscult.detector.score"} <= loaded
    assert not loaded & set(SLOW)
