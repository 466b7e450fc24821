"""Training states of interrupted runs, found again only by a run of the same settings, data and code."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from auscult.files import atomic_file


def run_key(*parts: Any) -> str:
    """Hash of JSON-able `parts`, of the source of every auscult module imported so far, and of torch's version."""
    total = hashlib.sha256(json.dumps([*parts, torch.__version__], sort_keys=True, default=str).encode())
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "auscult" and getattr(module, "__file__", None):
            total.update(name.encode() + Path(str(module.__file__)).read_bytes())
    return total.hexdigest()[:32]


class ResumeFolder:
    """One file per network of a run (`<folder>/<key>/<name>.pt`); `clear` when the run's outputs are in place."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key

    def load(self, name: str) -> dict[str, Any] | None:
        """The last saved state, or None. A file that cannot be read (cut short by a crash of the machine) is ignored."""
        path = self.folder / f"{name}.pt"
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except FileNotFoundError:
            return None
        except Exception as error:  # torch raises many kinds for a damaged file; starting over is right for each
            print(f"training state {path} cannot be read ({type(error).__name__}); starting over", file=sys.stderr)
            return None

    def save(self, name: str, state: dict[str, Any]) -> None:
        with atomic_file(self.folder / f"{name}.pt") as path:
            torch.save(state, path)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
