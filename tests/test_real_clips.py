"""The training-free figures stated for the 200 real valve clips (an independent computation), reproduced end to end.

The clips are licensed for use in place, not for copies: without them beside the checkout this file has nothing to test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.evaluation.evaluate import evaluate
from auscult.methods.spectral_knn import SpectralKnnSettings
from auscult.scoring.table import score_table
from auscult.settings.params import load_profile
from auscult.settings.schema import Score
from auscult.settings.training import Train
from auscult.training.arm import train_arm
from auscult.training.embed import embed_arm
from support.packed import pack_tree

ROOT = Path(__file__).parents[1]
CLIPS = ROOT.parent / "shared" / "real" / "dcase2023_valve"

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this checkout")

# AUC source / AUC target / pAUC / official, percent, 1-NN, pooled log-mel (shared/real/README.md).
STATED = {
    ("mean",): {"knn_euclidean": (53.7, 58.6, 50.8, 54.2)},
    ("mean", "std"): {"knn_euclidean": (61.5, 57.3, 49.6, 55.7)},
    ("mean", "std", "max"): {"knn_euclidean": (91.3, 87.8, 65.9, 80.0)},
    ("max",): {"knn_euclidean": (99.8, 97.4, 93.4, 96.8), "knn_cosine": (82.8, 81.8, 59.3, 72.9)},
}


@pytest.fixture(scope="module")
def clips(module_path: Path) -> tuple[Path, pd.DataFrame]:
    folder = module_path / "valve"
    profile = load_profile("dcase2023_valve", ROOT / "profiles")
    _, labels = pack_tree(CLIPS, folder, profile, ["osscl"])
    return folder, labels


@pytest.mark.parametrize("pooling", STATED, ids="+".join)
def test_stated_figures(clips: tuple[Path, pd.DataFrame], pooling: tuple[str, ...], tmp_path: Path) -> None:
    folder, labels = clips
    profile = load_profile("dcase2023_valve", ROOT / "profiles")
    settings = SpectralKnnSettings.model_validate({"pooling": pooling})
    train = Train(threads=1, device="cpu")
    train_arm(settings, profile.class_label, train, 1, folder / "train", tmp_path / "m", tmp_path / "resume", "code")
    embed_arm(tmp_path / "m", {p: folder / p for p in ("train", "test")}, tmp_path / "e", 64, train)
    scores = score_table(tmp_path / "e", Score(backends=["knn_cosine", "knn_euclidean"]), domains=True)
    summary = evaluate(scores.assign(arm="a"), labels, profile.rules, replicates=0)
    rows = summary[(summary["machine"] == "valve") & (summary["convention"] == "per_unit")]
    values = rows.set_index(["backend", "metric"])["value"]
    for backend, stated in STATED[pooling].items():
        for metric, figure in zip(("auc_source", "auc_target", "pauc", "official"), stated, strict=True):
            assert values[backend, metric] == pytest.approx(figure, abs=1.0), (backend, metric)


def test_splits_of_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the split that the clips came with it gives the stated figure; a drawn one trains on 15 normal clips of each pattern."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import valve_splits

    clips = valve_splits.read(tmp_path)
    train = valve_splits.drawn(clips.table, np.random.default_rng(1))
    chosen = clips.table.loc[train]
    assert (chosen["anomaly"] == 0).all()
    assert chosen["pattern"].value_counts().to_dict() == dict.fromkeys(["pat_00", "pat_01", "pat_02", "pat_03"], 15)
    assert set(train) != set(range(60))
    given = np.arange(60)  # the packed training clips stand first
    scores, r = valve_splits.run(clips, given, "max, Euclidean")
    rows = (
        clips.table.iloc[60:].drop(columns=["pattern", "anomaly"]).assign(backend="one", score=scores, domain="unknown")
    )
    labels = clips.table[["clip_id", "anomaly", "domain"]].iloc[60:]
    summary = evaluate(rows, labels, load_profile("dcase2023_valve", ROOT / "profiles").rules, replicates=0)
    official = summary[(summary["metric"] == "official") & (summary["machine"] == "valve")]["value"]
    assert official.to_numpy() == pytest.approx(96.8, abs=1.0)
    assert np.isnan(r)
    assert 0 <= valve_splits.run(clips, given, "by rank, r chosen by training clips, Euclidean")[1] <= 1
