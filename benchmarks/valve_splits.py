"""How much a number of the 200 real valve clips hangs on which normal clips are trained on, and what poolings are worth there.

    PYTHONPATH=src python benchmarks/valve_splits.py              # a minute or two; writes metrics/valve_splits.csv
    PYTHONPATH=src python benchmarks/valve_splits.py --splits 5 --csv /tmp/few.csv

The profile `dcase2023_valve` has one split: of the 25 normal clips of each of four working patterns 15 train. Here they are
drawn anew, 200 times by a fixed seed; the other 40 normal clips and all 100 anomalies are scored, and the official score is
formed as ever. Methods and back-ends are those of the arms; r of the rank-weighted poolings is chosen by each split's 60 training
clips, whose patterns are their classes. No test clip and no anomaly has a part in it. The clips are used in place
(`source.path` of the profile) and not copied into anything that stays.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from auscult.data.manifest import build_manifest
from auscult.data.pack import pack
from auscult.evaluation.evaluate import evaluate
from auscult.features import FRONTENDS, frames
from auscult.files import atomic_file
from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.scoring.table import knobs, scored
from auscult.settings.params import load_profile
from auscult.settings.schema import Data, Score
from common import ROOT, parser_of, valve_clips

TABLE = ROOT / "metrics" / "valve_splits.csv"
TRAINED = 15  # normal clips of a pattern
# What is compared: words -> method, its settings, back-end.
SYSTEMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "mean + deviation + max, cosine": ("spectral_knn", {}, "knn_cosine"),
    "mean + deviation + max, Euclidean": ("spectral_knn", {}, "knn_euclidean"),
    "mean, Euclidean": ("spectral_knn", {"pooling": ("mean",)}, "knn_euclidean"),
    "max, cosine": ("spectral_knn", {"pooling": ("max",)}, "knn_cosine"),
    "max, Euclidean": ("spectral_knn", {"pooling": ("max",)}, "knn_euclidean"),
    "by rank, r chosen by training clips, cosine": ("spectral_knn", {"pooling": ("gwrp",)}, "knn_cosine"),
    "by rank, r chosen by training clips, Euclidean": ("spectral_knn", {"pooling": ("gwrp",)}, "knn_euclidean"),
    "TWFR-GMM, r chosen by training clips": ("twfr_gmm", {}, "native"),
    "TWFR-GMM, r and components of its authors": ("twfr_gmm", {"r": 0.46, "components": 2}, "native"),
}
NUMBERS = ("auc_source", "auc_target", "pauc", "official")


@dataclass(frozen=True)
class Clips:
    """The 200 clips: a table (clip_id, machine, unit, domain, pattern, anomaly), and their log-mels by front-end."""

    table: pd.DataFrame
    mels: dict[str, torch.Tensor]
    samples: int


def read(folder: Path) -> Clips:
    """Decode all clips into `folder`, and tell from their official names what they are."""
    profile = load_profile("dcase2023_valve", ROOT / "profiles")
    root = valve_clips()
    index, _ = build_manifest(profile, root, workers=1)
    frontends = sorted({load_method(name).mel(load_method(name).settings()) for name, _, _ in SYSTEMS.values()})
    tables, mels = [], []
    for partition in ("train", "test"):
        pack(
            index[index["partition"] == partition],
            root,
            folder / partition,
            profile,
            Data(profile=profile.name),
            frontends,
        )
        tables.append(pd.read_parquet(folder / partition / "index.parquet"))
        mels.append({name: np.load(folder / partition / name / "valve.npy") for name in frontends})
    table = pd.concat(tables, ignore_index=True)[["clip_id", "set", "machine", "unit"]]
    official = pd.read_csv(root / "provenance.csv").merge(index[["path", "clip_id"]], on="path")
    name = official.set_index("clip_id").loc[table["clip_id"], "official_name"].to_numpy(str)
    found = pd.Series(name).str.extract(
        r"_(?P<domain>source|target)_test_(?P<kind>normal|anomaly)_.*(?P<pattern>pat_\d\d)"
    )
    table = table.assign(
        domain=found["domain"], pattern=found["pattern"], anomaly=(found["kind"] == "anomaly").astype(int)
    )
    joined = {key: torch.from_numpy(np.concatenate([part[key] for part in mels])) for key in frontends}
    return Clips(table, joined, round(profile.clip_seconds * profile.sample_rate))


def drawn(table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Positions of the training clips of a split: `TRAINED` normal ones of each pattern."""
    normal = table[table["anomaly"] == 0]
    chosen = [rng.permutation(of.index.to_numpy())[:TRAINED] for _, of in normal.groupby("pattern", sort=True)]
    return np.sort(np.concatenate(chosen))


def run(clips: Clips, train: np.ndarray, system: str) -> tuple[np.ndarray, float]:
    """Scores of all clips that were not trained on, in order, and the r that was used (NaN: none)."""
    name, changes, backend = SYSTEMS[system]
    method = load_method(name)
    settings = method.settings.model_validate({"method": name, **changes})
    frontend = method.mel(settings)
    test = np.setdiff1d(np.arange(len(clips.table)), train)
    patterns = sorted(clips.table["pattern"].unique())
    labels = torch.tensor([patterns.index(pattern) for pattern in clips.table["pattern"].iloc[train]])
    sizes = (len(patterns), FRONTENDS[frontend].mels, frames(clips.samples, frontend), clips.samples)
    network = method.build(settings, Shape(*sizes, names=tuple(f"valve/00/{pattern}" for pattern in patterns))).eval()
    seen, new = clips.mels[frontend][train], clips.mels[frontend][test]
    with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):  # that r is chosen is said 200 times
        network.prepare([Batch(mel=seen, label=labels)])
        network.finish([Batch(mel=seen, label=labels)])
        bank, _ = network.embed(Batch(mel=seen, candidates=torch.ones(len(train), len(patterns), dtype=torch.bool)))
        queries, own = network.embed(Batch(mel=new, candidates=torch.ones(len(test), len(patterns), dtype=torch.bool)))
    r = float(getattr(network, "r", torch.tensor([np.nan]))[0])
    if backend == "native":
        return own["native"].double().numpy(), r
    meta = clips.table[["machine", "unit", "domain"]]
    settings_of = knobs(backend, Score(), domains=True)
    blind = meta.iloc[test].assign(domain="unknown")
    return scored(settings_of, bank.numpy(), meta.iloc[train], queries.numpy(), blind), r


def splits(clips: Clips, count: int, seed: int) -> pd.DataFrame:
    """One row per split and system: the numbers in percent, and r."""
    rules = load_profile("dcase2023_valve", ROOT / "profiles").rules
    labels = clips.table[["clip_id", "anomaly", "domain"]]
    rows = []
    for split in range(count):
        train = drawn(clips.table, np.random.default_rng([seed, split]))
        test = clips.table.drop(index=train)[["clip_id", "set", "machine", "unit"]]
        chosen, tables = {}, []
        for system in SYSTEMS:
            score, chosen[system] = run(clips, train, system)
            tables.append(test.assign(arm=system, backend="one", score=score, domain="unknown"))
        summary = evaluate(pd.concat(tables), labels[labels["clip_id"].isin(test["clip_id"])], rules, replicates=0)
        numbers = summary[(summary["machine"] == "valve") & (summary["convention"] == "per_unit")]
        for system, of in numbers.groupby("arm", sort=False):
            found = of.set_index("metric")["value"]
            rows.append(
                {"system": system, "split": split, "r": chosen[str(system)], **{key: found[key] for key in NUMBERS}}
            )
        print(f"\r{split + 1} of {count} splits", end="", file=sys.stderr)
    print(file=sys.stderr)
    return pd.DataFrame(rows)


def summed_up(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per system: mean and deviation over the splits, the lowest and the highest official score, and which r how often."""
    found = []
    for system, of in rows.groupby("system", sort=False):
        line: dict[str, Any] = {"system": system, "splits": len(of)}
        for name in NUMBERS:
            line |= {f"{name}_mean": of[name].mean(), f"{name}_sd": of[name].std()}
        line |= {"official_lowest": of["official"].min(), "official_highest": of["official"].max()}
        counts = sorted(Counter(of["r"].dropna().round(4)).items())
        line["r"] = "; ".join(f"{r:g}: {times}" for r, times in counts)
        found.append(line)
    return pd.DataFrame(found)


def main() -> None:
    arguments = parser_of(__doc__, splits=200, seed=0, csv=TABLE).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = read(Path(folder))
    table = summed_up(splits(clips, arguments.splits, arguments.seed))
    with atomic_file(arguments.csv) as part:
        table.to_csv(part, index=False, float_format="%.2f", lineterminator="\n")
    for line in table.to_dict("records"):
        print(f"{line['system']:48s} {line['official_mean']:5.1f} ± {line['official_sd']:.1f}   {line['r']}")


if __name__ == "__main__":
    main()
