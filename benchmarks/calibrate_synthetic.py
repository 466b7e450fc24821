"""Choose the severity of the synthetic machines by rule, and print the table behind the choice.

Run from the repository's root:

    PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/calibrate_synthetic.py

The rule, which knows no trained method: with the units and the clip length of profiles/synthetic.yaml and three seeds
other than the profile's own, take the smallest severity of `SEVERITIES` at which

* each of six training-free detectors has a mean AUC over the machine types within `MEAN_BAND`, and
* each machine type has an AUC, averaged over the six detectors, within `TYPE_BAND`: no type at chance, none solved.

The detectors: Euclidean or cosine distance to the nearest training clip of the same unit, on log-mel spectrograms (n_fft
2048, hop 512, 128 Slaney bands, dB) pooled over time (mean; mean and standard deviation; maximum), each pooled value
standardised with the training clips of the machine type. AUC per unit, then averaged over units.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from auscult.data.synthetic import SyntheticSource, generate_clips
from auscult.features import spectrogram

SEVERITIES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)
SEEDS = (101, 102, 103)
TEST_CLIPS = 16  # normal and anomalous each, per unit: four of each fault kind
MEAN_BAND = (60.0, 85.0)
TYPE_BAND = (55.0, 92.0)
POOLINGS = ("mean", "mean+std", "max")
DISTANCES = ("euclidean", "cosine")
Pooled = dict[str, NDArray[np.float64]]


def pooled(source: SyntheticSource, machine: str, unit: str, partition: str, count: int) -> Pooled:
    """Pooled log-mel of `count` clips, pooling -> [count, 128 or 256]."""
    clips = generate_clips(source, machine, unit, partition, range(count))  # type: ignore[arg-type]
    mel = spectrogram(torch.from_numpy(clips).float() / 32768, "osscl").double().numpy()  # [count, 128, frames]
    mean, deviation, largest = mel.mean(2), mel.std(2), mel.max(2)
    return {"mean": mean, "mean+std": np.concatenate([mean, deviation], axis=1), "max": largest}


def nearest(test: NDArray[np.float64], train: NDArray[np.float64], distance: str) -> NDArray[np.float64]:
    """Distance of each row of `test` to the nearest row of `train`, [rows of test]."""
    if distance == "cosine":
        test = test / np.linalg.norm(test, axis=1, keepdims=True)
        train = train / np.linalg.norm(train, axis=1, keepdims=True)
    return np.linalg.norm(test[:, None] - train[None], axis=2).min(axis=1)


def aucs(source: SyntheticSource, severities: tuple[float, ...]) -> Iterator[tuple[float, str, str, float]]:
    """Rows (severity, detector, machine, AUC in percent); the normal clips, which no severity changes, are made once."""
    for machine, sets in source.machines.items():
        units = [*sets.dev, *sets.eval]
        train = {unit: pooled(source, machine, unit, "train", source.train_clips) for unit in units}
        normal = {unit: pooled(source, machine, unit, "test_normal", TEST_CLIPS) for unit in units}
        stacked = {name: np.concatenate([train[unit][name] for unit in units]) for name in POOLINGS}
        centre = {name: values.mean(0) for name, values in stacked.items()}
        scale = {name: values.std(0) for name, values in stacked.items()}
        for severity in severities:
            faulty = source.model_copy(update={"severity": severity})
            anomaly = {unit: pooled(faulty, machine, unit, "test_anomaly", TEST_CLIPS) for unit in units}
            for name in POOLINGS:
                for distance in DISTANCES:
                    scores = []
                    for unit in units:
                        known = (train[unit][name] - centre[name]) / scale[name]
                        tested = np.concatenate([normal[unit][name], anomaly[unit][name]])
                        distances = nearest((tested - centre[name]) / scale[name], known, distance)
                        scores.append(roc_auc_score([0] * TEST_CLIPS + [1] * TEST_CLIPS, distances))
                    yield severity, f"{name} {distance}", machine, 100 * float(np.mean(scores))


def meets_rule(table: dict[tuple[str, str], float], detectors: list[str], machines: list[str]) -> bool:
    """Whether one severity's table, (detector, machine) -> AUC, lies within both bands."""
    means = [np.mean([table[detector, machine] for machine in machines]) for detector in detectors]
    types = [np.mean([table[detector, machine] for detector in detectors]) for machine in machines]
    return all(MEAN_BAND[0] <= value <= MEAN_BAND[1] for value in means) and all(
        TYPE_BAND[0] <= value <= TYPE_BAND[1] for value in types
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, default=Path("profiles/synthetic.yaml"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/calibrate_synthetic.csv"))
    parser.add_argument("--severity", type=float, action="append", help="only this one (repeatable); default: the grid")
    arguments = parser.parse_args()
    profile = yaml.safe_load(arguments.profile.read_text())
    length = {key: profile[key] for key in ("sample_rate", "clip_seconds")}
    source = SyntheticSource.model_validate({**length, **profile["source"]})
    severities = tuple(arguments.severity or SEVERITIES)

    collected: dict[tuple[float, str, str], list[float]] = {}
    for seed in SEEDS:
        for severity, detector, machine, auc in aucs(source.model_copy(update={"seed": seed}), severities):
            collected.setdefault((severity, detector, machine), []).append(auc)
    machines = list(source.machines)
    detectors = [f"{name} {distance}" for name in POOLINGS for distance in DISTANCES]

    rows: list[list[str]] = [["severity", "detector", *machines, "mean"]]
    chosen: float | None = None
    for severity in severities:
        table = {(d, m): float(np.mean(collected[severity, d, m])) for d in detectors for m in machines}
        for detector in detectors:
            values = [table[detector, machine] for machine in machines]
            rows.append([f"{severity:g}", detector, *(f"{value:.1f}" for value in [*values, np.mean(values)])])
        averages = [float(np.mean([table[detector, machine] for detector in detectors])) for machine in machines]
        rows.append([f"{severity:g}", "average", *(f"{value:.1f}" for value in [*averages, np.mean(averages)])])
        if chosen is None and meets_rule(table, detectors, machines):
            chosen = severity
    with arguments.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    for row in rows:
        print("  ".join(f"{cell:>18s}" if place == 1 else f"{cell:>11s}" for place, cell in enumerate(row)))
    print(f"smallest severity that meets the rule: {chosen if chosen is not None else 'none'}")
    print(f"severity of {arguments.profile}: {source.severity:g}")


if __name__ == "__main__":
    main()
