"""Reproducible experiment pipeline for machine anomalous sound detection (ASD)."""

import getpass
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auscult.detector.detector import Detector as Detector

    __version__: str


def __getattr__(name: str) -> Any:
    """`from auscult import Detector`, and the version: neither torch nor the package's metadata are read before that."""
    if name == "Detector":
        from auscult.detector.detector import Detector

        return Detector
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        for name in ("auscult", "auscult-score"):
            try:
                return version(name)
            except PackageNotFoundError:
                continue
        return "0.0+unknown"  # on the path, but not installed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Threads of libgomp wait for each other by spinning. On a machine with anything else to do, the waiting thread keeps the
# core that the awaited one needs: a training step on two busy cores took 145 ms per clip; after at most a thousand spins it
# takes 21, and on an idle machine 10 either way. libgomp reads this once, when torch loads it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# torch asks for the user's name when it is first used for training, and in a container the user id may have none.
try:
    getpass.getuser()
except (KeyError, OSError, ImportError):
    os.environ["LOGNAME"] = "nobody"
