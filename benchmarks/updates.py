"""What `auscult update` is worth: false alarms on later normal sound, and faults found, before and after.

    PYTHONPATH=src python benchmarks/updates.py     # some minutes; writes metrics/updates.csv
    PYTHONPATH=src python benchmarks/updates.py --draws 2 --csv /tmp/few.csv

Synthetic (and called that): a pump of hum and coloured noise whose resonance wanders from 900 Hz by three per cent. A bundle is
fitted to 60 recordings of a second; 100 more come while the sound moves, and 100 later ones, with as many faults (a tone, so
weak that some are missed), are judged when it has come to rest elsewhere (`moved`) or has not moved at all (`same`).

Real: the 100 normal recordings of the valve (MIMII DG, DCASE 2023 Task 2), which do not drift as far as is known: 40 drawn to
fit, 30 as new, 30 later; and its 100 faults. All with the defaults of `auscult fit`.

Compared: the bundle as it was; updated by all new recordings; by those alone that it called anomalous, given as false alarms; by
the same ones given as if they were all there was (what `--false-alarms` is for); and fitted anew to old and new. Rates over
draws, with the interval of a mean over draws (normal approximation): recordings of one draw share a threshold.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from scipy.signal import iirpeak, lfilter

from auscult.detector.bundle import Bundle, fit
from auscult.detector.score import score_file
from auscult.detector.update import update
from common import ROOT, parser_of, valve_clips, write_table

TABLE = ROOT / "metrics" / "updates.csv"
RATE = 16000
SYSTEMS = ("as it was", "updated", "false alarms", "false alarms as if all", "fitted anew")


def pump(rng: np.random.Generator, moved: float, fault: bool) -> np.ndarray:
    """A second of it, float64 [samples]; `moved` in [0, 1]."""
    time = np.arange(RATE) / RATE
    centre = 900 * (1 + 0.03 * moved) * np.exp(rng.normal(0, 0.01))
    noise = rng.standard_normal(2 * RATE)
    sound = lfilter(*iirpeak(centre, 8, RATE), noise)[-RATE:] + lfilter([1], [1, -0.95], 0.02 * noise)[-RATE:]
    for harmonic in range(1, 6):
        sound += 0.1 / harmonic * np.sin(2 * np.pi * 49.5 * harmonic * time + rng.uniform(0, 2 * np.pi))
    if fault:
        sound += 0.012 * np.sin(2 * np.pi * rng.uniform(2500, 3500) * time + rng.uniform(0, 2 * np.pi))
    return 0.1 * np.exp(rng.normal(0, 0.05)) * sound


def synthetic(folder: Path, draw: int, moved: float) -> dict[str, list[Path]]:
    """Recordings of each part, written below `folder`."""
    rng = np.random.default_rng([draw, round(100 * moved)])
    wanted = {
        "old": [(0.0, False)] * 60, "new": [(moved * place, False) for place in np.linspace(0, 1, 100)],
        "later": [(moved, False)] * 100, "faults": [(moved, True)] * 100,
    }  # fmt: skip
    parts: dict[str, list[Path]] = {}
    for part, sounds in wanted.items():
        (folder / part).mkdir(parents=True)
        parts[part] = [folder / part / f"{number:03d}.wav" for number in range(len(sounds))]
        for path, (place, fault) in zip(parts[part], sounds, strict=True):
            soundfile.write(path, pump(rng, place, fault), RATE, subtype="PCM_16")
    return parts


def valve(folder: Path, draw: int) -> dict[str, list[Path]]:
    """Links to the clips, so that a folder holds what is fitted to."""
    clips = valve_clips() / "valve"
    normal = sorted([*clips.glob("train/*.wav"), *clips.glob("test/*_normal_*.wav")])
    order = np.random.default_rng([draw, 7]).permutation(len(normal))
    chosen = {"old": order[:40], "new": order[40:70], "later": order[70:]}
    parts = {name: [normal[place] for place in places] for name, places in chosen.items()}
    (folder / "old").mkdir(parents=True)
    for path in parts["old"]:
        (folder / "old" / path.name).symlink_to(path)
    return {**parts, "faults": sorted(clips.glob("test/*_anomaly_*.wav"))}


def measured(parts: dict[str, list[Path]], folder: Path) -> list[dict[str, object]]:
    """Shares called anomalous by each system."""
    was = fit(folder / "old", folder / "was")
    alarms = [path for path in parts["new"] if score_file(was, path).anomalous]
    (folder / "all").mkdir()
    for part in ("old", "new"):
        for path in parts[part]:
            (folder / "all" / f"{part}-{path.name}").symlink_to(path)
    systems: dict[str, Bundle] = {"as it was": was, "fitted anew": fit(folder / "all", folder / "anew")}
    systems["updated"] = update(was.folder, parts["new"], folder / "updated", force=True).bundle
    for name, labelled in (("false alarms", True), ("false alarms as if all", False)):
        systems[name] = was
        if alarms:
            systems[name] = update(was.folder, alarms, folder / f"{labelled}", labelled, force=True).bundle
    rows: list[dict[str, object]] = []
    for name in SYSTEMS:
        shares = {
            part: np.mean([score_file(systems[name], path).anomalous for path in parts[part]])
            for part in ("later", "faults")
        }
        rows.append({"system": name, "alarms_in_new": len(alarms), "threshold": systems[name].threshold, **shares})
    return rows


def summed_up(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for (sound, system), of in rows.groupby(["sound", "system"], sort=False):
        line = {"sound": sound, "system": system, "draws": len(of), "alarms_in_new": of["alarms_in_new"].mean()}
        for part, name in (("later", "false_alarms"), ("faults", "faults_found")):
            half = 1.96 * of[part].std() / np.sqrt(len(of))
            line |= {
                name: of[part].mean(),
                f"{name}_low": of[part].mean() - half,
                f"{name}_high": of[part].mean() + half,
            }
            line |= {f"{name}_sd": of[part].std()}
        found.append(line)
    return pd.DataFrame(found)


def main() -> None:
    arguments = parser_of(__doc__, draws=20, csv=TABLE).parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    valve_clips()  # before the work: they may not be there
    sounds = ["synthetic, moved", "synthetic, same", "valve"]
    for draw in range(arguments.draws):
        for sound in sounds:
            with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
                folder = Path(name)
                parts = valve(folder, draw) if sound == "valve" else synthetic(folder, draw, float("moved" in sound))
                rows += [{"sound": sound, **row} for row in measured(parts, folder)]
        print(f"\r{draw + 1} of {arguments.draws} draws", end="", file=sys.stderr)
    print(file=sys.stderr)
    write_table(summed_up(pd.DataFrame(rows)), arguments.csv, digits=4)


if __name__ == "__main__":
    main()
