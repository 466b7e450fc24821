"""What a part of the program needs beyond what is always installed, and the command that installs it: known here alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from auscult.errors import AuscultError

EXTRAS = {
    "dvc": "experiments", "mlflow": "experiments", "matplotlib": "experiments", "plotly": "experiments",
    "requests": "experiments", "imblearn": "experiments",
    "onnx": "export", "onnxscript": "export", "onnxruntime": "export",
    "paho": "mqtt", "sounddevice": "listen", "av": "listen",
    "distributed": "cluster", "dask": "cluster", "fsspec": "cluster", "s3fs": "cluster", "cryptography": "cluster",
    "transformers": "encoders",
}  # fmt: skip
"""Module -> the group of dependencies in pyproject.toml that brings it."""
NAMES = {"paho": "paho-mqtt", "av": "PyAV", "distributed": "Dask", "imblearn": "imbalanced-learn"}
"""Of packages that are not called as their modules."""
_BASE = (
    "torch", "torchaudio", "scipy", "pandas", "pyarrow", "sklearn", "safetensors", "pydantic", "yaml", "jinja2", "PIL", "tqdm",
)  # fmt: skip
_SOURCE = Path(__file__).parents[2]
"""The source tree, where this is one."""


def require(module: str, purpose: str) -> Any:
    """The module, imported.

    Args:
        purpose: what needs it, as a message begins: `--html`.

    Raises:
        AuscultError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise (missing(error, purpose) or error) from None


def missing(error: ModuleNotFoundError, purpose: str = "this") -> AuscultError | None:
    """What to say of a package that is not there; None = it is none of ours to install."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS and module not in _BASE:
        return None
    what = f"{purpose} needs {NAMES.get(module, module)}, which is not installed"
    return AuscultError(what, fix=command(EXTRAS.get(module, "")))


def command(extra: str) -> str:
    """That installs a group of dependencies ("": what every installation has): from the source tree if this runs in one."""
    group = f"[{extra}]" if extra else ""
    if (_SOURCE / "pyproject.toml").is_file():
        return f"pip install -c '{_SOURCE / 'constraints.txt'}' -e '{_SOURCE}{group}'"
    return f"pip install 'auscult{group}'"
