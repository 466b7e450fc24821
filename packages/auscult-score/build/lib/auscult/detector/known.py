"""Recordings of known faults, heard as the normal ones are, to compare detectors by: never to fit one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from auscult.data.audio import Channel
from auscult.detector.copies import find_shared_sound
from auscult.detector.normals import Normals
from auscult.detector.recordings import files_below, labelled, look_at
from auscult.detector.windows import Windows, cut_alike
from auscult.detector.words import with_reasons
from auscult.errors import AuscultError, listed


def fault_files(folder: Path, faults: Path | None, labels: Path | None) -> tuple[Path, dict[str, Path]]:
    """The folder, and the recordings of faults in it by name: those of `faults`, or what the table `labels` calls anomaly.

    Raises:
        AuscultError: there are none; the table does not fit.
    """
    if labels is None:
        assert faults is not None
        return faults, files_below(faults, "recordings of known faults")[0]
    files, _ = files_below(folder, "recordings of normal sound and of faults")
    known = labelled(files, folder, labels)
    found = {name: path for name, path in files.items() if known[name].label == "anomaly"}
    if not found:
        what = "the table calls no recording an anomaly, so there is nothing to compare by"
        raise AuscultError(what, str(labels), "say `anomaly` in the column `label`, or leave out --labels")
    return folder, found


def gather_faults(where: Path, files: Mapping[str, Path], normals: Normals, channel: Channel, file: Path) -> Windows:
    """Cut recordings of faults into windows like the normal ones, which lie in `file`.

    Raises:
        AuscultError: some cannot be read, none can be used, or some hold the same sound as a normal recording.
    """
    found = look_at(files, channel, str(where))
    gain = normals.windows.signal.gain
    windows = cut_alike(found, file, normals.sample_rate, normals.samples, channel, gain)
    if not len(windows.table):
        what = f"none of {len(files)} recording(s) of faults can be used:{with_reasons(windows.left_out, 10)}"
        raise AuscultError(what, str(where), "record faults as the normal sound was: same microphone, place and rate")
    _refuse_shared(windows, normals, where)
    return windows


def _refuse_shared(faults: Windows, normals: Normals, where: Path) -> None:
    """A fault that is among the normal recordings, too, would be its own nearest neighbour."""
    sounds, names = [], []
    for windows in (normals.windows, faults):
        for name, rows in windows.table.groupby("name", sort=False).indices.items():
            sounds.append(np.asarray(windows.audio[rows]).reshape(-1))
            names.append(str(name))
    places = find_shared_sound(sounds, normals.sample_rate)
    count = normals.windows.table["name"].nunique()
    holder = {place.group: name for place, name in reversed(list(zip(places[:count], names[:count], strict=True)))}
    shared = [
        f"{name}: as {holder[place.group]}"
        for place, name in zip(places[count:], names[count:], strict=True)
        if place.group in holder
    ]
    if shared:
        what = f"{len(shared)} recording(s) of faults hold the same sound as normal ones:{listed(shared, 10)}"
        raise AuscultError(what, str(where), "a recording is one or the other: take it out of one of both")
