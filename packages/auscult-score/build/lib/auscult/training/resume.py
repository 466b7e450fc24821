"""Saved states of trainings, found again only by a run of the same settings, data and code.

`<folder>/<key>/<network>.pt` holds the state of the last saved epoch and, when the network is finished, its weights alone. A
finished training leaves its states: until DVC has recorded the model folder, a kill makes DVC remove that folder and run the
stage again, which then takes no more than a moment. Later trainings remove what is old.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from auscult.files import atomic_file

DAY = 24 * 3600.0
KEPT_FINISHED, KEPT_INTERRUPTED = DAY, 30 * DAY
"""Seconds since the last save for which states of other trainings stay."""
_FINISHED = "finished"


def run_key(code: str, *parts: Any) -> str:
    """Name of a run: hash of a digest of the code, of JSON-able `parts`, and of torch's version."""
    text = json.dumps([code, *parts, torch.__version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ResumeFolder:
    """The states of one run, a file per network."""

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

    def finish(self) -> None:
        """Note that all networks are trained: from now on the states are kept for a day only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _FINISHED).touch()

    def remove_old(self) -> None:
        """Remove the states of other runs that nobody has come back for."""
        now = time.time()
        for other in self.folder.parent.iterdir() if self.folder.parent.is_dir() else ():
            if other == self.folder or not other.is_dir():
                continue
            kept = KEPT_FINISHED if (other / _FINISHED).exists() else KEPT_INTERRUPTED
            last = max([other.stat().st_mtime, *(path.stat().st_mtime for path in other.glob("*.pt"))])
            if now - last > kept:
                shutil.rmtree(other, ignore_errors=True)
