"""How much of a fault an input of two channels keeps, and how much noise: on synthetic machines, where both are known apart.

    PYTHONPATH=src python benchmarks/fault_retention.py            # a minute; writes metrics/fault_retention.csv

An anomalous clip of the profile `synthetic_stereo` is made three times by the same random numbers: whole, without its fault,
and without the machine. The difference of the first two is the fault's part, the third the noise. Each part goes the way that
the whole clip decides (`heard(pair, input, of=part)`: the filter of `w1` and the gains of `ss` are those of the clip), so parts
add up to what a method hears. Columns, means over clips in dB over the near channel: the fault's energy, that of the machine
without it, that of the noise; and what an anomaly detector lives on, the fault's energy over the noise's. The far microphone's
share of the machine is varied, for it decides what a cancellation takes away with the noise. A fault that shifts a speed
moves the phase of everything, so that its part holds much of the machine.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from auscult.data.synthetic import FarMicrophone, SyntheticSource
from auscult.data.synthetic.render import fault_of, render
from auscult.features.cancel import INPUTS, heard
from auscult.settings.params import load_profile
from common import ROOT, parser_of, write_table

FAR_DB = (-18.0, -12.0, -6.0)
COLUMNS = ("fault_db", "machine_db", "noise_db", "fault_over_noise_db")
CLIPS = 32  # of a unit: eight of each fault


def parts_of(source: SyntheticSource, machine: str, unit: str, clips: range) -> dict[str, NDArray[np.float64]]:
    """The sound of anomalous clips in parts that add up to it, [clips, 2, samples] each, by name."""
    whole = render(source, machine, unit, "test_anomaly", clips)
    calm = render(source, machine, unit, "test_anomaly", clips, faultless=True)
    return {"fault": whole.machine - calm.machine, "machine": calm.machine, "noise": whole.background}


def levels(parts: dict[str, NDArray[np.float64]], name: str) -> dict[str, NDArray[np.float64]]:
    """dB of each part, as heard by the input `name`, over the same part at the near microphone, [clips]."""
    tensors = {part: torch.from_numpy(wave) for part, wave in parts.items()}
    pair = torch.stack([*tensors.values()]).sum(0)
    energy = {part: heard(pair, name, of).square().sum(-1) / of[:, 0].square().sum(-1) for part, of in tensors.items()}
    return {part: 10 * np.log10(value.numpy()) for part, value in energy.items()}


def measured(source: SyntheticSource, clips: int = CLIPS) -> pd.DataFrame:
    """dB of each part by (far_db, machine, fault, input), means over clips; for "all" faults of "all" machines over these."""
    found = []
    for far_db in FAR_DB:
        far = FarMicrophone(**{**dict(source.far or FarMicrophone()), "machine_db": far_db})
        varied = source.model_copy(update={"far": far})
        for machine, units in source.machines.items():
            kinds = [fault_of(machine, "test_anomaly", clip) for clip in range(clips)]
            for unit in (*units.dev, *units.eval):
                parts = parts_of(varied, machine, unit, range(clips))
                for name in INPUTS:
                    table = pd.DataFrame({f"{part}_db": db for part, db in levels(parts, name).items()})
                    found.append(table.assign(far_db=far_db, machine=machine, fault=kinds, input=name))
    table = pd.concat(found)
    table["fault_over_noise_db"] = table["fault_db"] - table["noise_db"]
    table["input"] = pd.Categorical(table["input"], INPUTS)
    keys = ["far_db", "machine", "fault", "input"]
    by_fault = table.groupby(keys, observed=True, sort=True).mean().reset_index()
    mean = by_fault.groupby(["far_db", "input"], observed=True).mean(numeric_only=True).reset_index()
    return pd.concat([mean.assign(machine="all", fault="all"), by_fault])[[*keys, *COLUMNS]]


def main() -> None:
    arguments = parser_of(__doc__, csv=ROOT / "metrics" / "fault_retention.csv").parse_args()
    profile = load_profile("synthetic_stereo", ROOT / "profiles")
    length = {"sample_rate": profile.sample_rate, "clip_seconds": profile.clip_seconds}
    write_table(measured(SyntheticSource.model_validate({**length, **profile.source})), arguments.csv)


if __name__ == "__main__":
    main()
