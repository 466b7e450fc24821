"""A report's context over the packed clips of the fixture, with embeddings and scores that a test chooses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from auscult.data.manifest import build_manifest
from auscult.results.page.context import Context
from auscult.settings.params import Params
from auscult.settings.paths import Paths
from support.packed import tiny_profile

SEED = 7


def evidence(packed: Path, root: Path, scores: Mapping[str, np.ndarray], dims: int = 5) -> Context:
    """Arms with native scores of the test clips (in the order of the packed index); random embeddings, and training clips
    whose own scores are 0 to 1 in each unit."""
    profile, paths = tiny_profile(), Paths("tiny", root)
    clips, labels = build_manifest(profile, packed / "raw", workers=1)
    paths.clips.parent.mkdir(parents=True)
    clips.to_parquet(paths.clips)
    labels.to_parquet(paths.labels)
    (paths.data / "features").symlink_to(packed)
    index = {part: pd.read_parquet(packed / part / "index.parquet") for part in ("train", "test")}
    tables = {}
    for number, (arm, values) in enumerate(scores.items()):
        rng = np.random.default_rng(number)
        folder = paths.embeddings(arm, SEED)
        folder.mkdir(parents=True)
        for part, of in index.items():
            meta = of[["clip_id", "set", "machine", "unit", "domain"]]
            place = meta.groupby(["machine", "unit"]).cumcount() / 4
            meta.assign(native=values if part == "test" else place).to_parquet(folder / f"{part}.parquet")
            np.save(folder / f"{part}.npy", rng.standard_normal((len(of), dims)).astype(np.float32))
        test = index["test"][["clip_id", "set", "machine", "unit", "domain"]]
        tables[arm] = test.assign(backend="native", score=values, seed=SEED).astype(
            {"machine": "category", "unit": "category"}
        )
    return Context(
        profile=profile,
        params=Params({"data": {"profile": "tiny"}, "submission": {"rate": 0.1}}, {}, {}),
        paths=paths,
        arms=tuple(scores),
        titles={arm: f"<{arm}>" for arm in scores},
        scores=tables,
        labels=labels,
        backends=dict.fromkeys(scores, "native"),
        seeds=(SEED,),
    )
