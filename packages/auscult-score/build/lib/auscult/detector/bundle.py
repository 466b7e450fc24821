"""A detector in one folder: fitted to recordings of normal sound, loaded without running anything it holds.

    bundle.yaml        what it is, the threshold, where it comes from, SHA-256 of every other file; its last line is its own
    model/             as modelfolder.py writes it
    reference.npy      float32 [windows, D]: embeddings of the normal sound (absent where the method scores by itself)
    normal.npy         float64 [windows], ascending: what that sound scores when its own recording is left out;
                         without what was taken in as false alarms (update.py)

The digests tell a broken or edited bundle from a whole one; they do not tell who made it. Loading executes no code of the
bundle and opens no file beside these five: a bundle of a stranger can at worst score badly.

The threshold comes from left-out scores. The windows of one recording are more alike than those of two, so a window is
compared with other recordings alone, and not with those that hold the same sound (copies.py); only where there is a single
recording, with its other windows.
A method's own score (the error of an autoencoder) has no such version: its networks have heard the training windows, which
makes the threshold somewhat low, as in the baselines of the challenge.
"""

from __future__ import annotations

from auscult.detector.fit import fit
from auscult.detector.folder import Bundle, load, set_threshold
from auscult.detector.manifest import BACKENDS, FORMAT
from auscult.detector.settings import FitSettings

__all__ = ["BACKENDS", "FORMAT", "Bundle", "FitSettings", "fit", "load", "set_threshold"]
