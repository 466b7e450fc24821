"""A project with results, small enough to be drawn in a second: made-up scores on a packed data set of noise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from auscult.results import results
from auscult.results.arms import arm_files
from auscult.scoring.made_from import scores_settings
from auscult.settings.project import Project
from support.projects import make_project

SEED = 2024
Run = tuple[str, float, tuple[str, ...]]
"""An arm, by how much it lifts anomalies, and its back-ends."""


def put_arm(project: Project, arm: str, gain: float, backends: tuple[str, ...], anomaly: dict[int, int]) -> None:
    """Scores, embeddings, history and costs of an arm that lifts anomalies by `gain` deviations."""
    paths, rng = project.paths, np.random.default_rng(len(arm))
    project.scores().mkdir(parents=True, exist_ok=True)
    folder, model = paths.embeddings(arm, SEED), paths.model(arm, SEED)
    folder.mkdir(parents=True)
    model.mkdir(parents=True)
    parts = {}
    for partition in ("train", "test"):
        index = pd.read_parquet(paths.features(partition) / "index.parquet")
        meta = index[["clip_id", "machine", "unit"]].assign(set="dev", domain="unknown")
        lift = np.array([anomaly.get(clip, 0) for clip in meta["clip_id"]])
        np.save(folder / f"{partition}.npy", rng.normal(size=(len(meta), 6)).astype(np.float32) + gain * lift[:, None])
        native = {"native": rng.normal(size=len(meta)) + gain * lift} if "native" in backends else {}
        parts[partition] = meta.assign(**native)
        parts[partition].to_parquet(folder / f"{partition}.parquet")
    test = parts["test"]
    scores = [
        test.drop(columns="native", errors="ignore").assign(
            backend=backend, seed=SEED, score=test["native"] if backend == "native" else rng.normal(size=len(test))
        )
        for backend in backends
    ]
    pd.concat(scores).to_parquet(project.scores_of(arm))
    lines = "".join(f"all,{epoch},0.1,{3 / epoch},{4 / epoch}\n" for epoch in range(1, 6))
    trained = "" if arm == "spectral_knn" else lines
    (model / "history.csv").write_text("scope,epoch,lr,train_loss,valid_loss\n" + trained)
    config = {"settings": project.arm(arm).model_dump(mode="json"), "skipped": {}, "code": "c0de"}
    (model / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "made_from.txt").write_text(arm)
    size = {"parameters": 0 if arm == "spectral_knn" else 1000 * len(arm), "macs_per_clip": 1e6}
    (folder / "network.json").write_text(json.dumps(size))
    for step, cost in (
        ("train", {"train_seconds": 3.0, "device": "a desk", "torch": "2.11"}), ("embed", {"clips_per_second": 90.0}),
    ):  # fmt: skip
        path = paths.cost(step, arm, SEED)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cost))


def reported(folder: Path, packed: Path, runs: Sequence[Run], not_run: Sequence[str] = ()) -> Project:
    """The project in `folder`, with scores, embeddings, histories, costs and results of the arms of `runs`.

    Args:
        packed: the data set of the fixture of this name.
        not_run: further arms of the project.
    """
    arms = [arm for arm, _, _ in runs]
    make_project(
        folder,
        {"title": "Noise <of> a fan & a valve"},
        {"arms": [*arms, *not_run], "train": {"threads": 1, "seeds": [SEED]}, "evaluate": {"replicates": 20}},
    )
    made = Project.open(folder)
    for partition in ("train", "test"):
        shutil.copytree(packed / partition, made.paths.features(partition))
    indices = [pd.read_parquet(made.paths.features(p) / "index.parquet").assign(partition=p) for p in ("train", "test")]
    made.paths.clips.parent.mkdir(parents=True, exist_ok=True)
    clips = pd.concat(indices, ignore_index=True).assign(set="dev", path="clip.wav")
    clips.to_parquet(made.paths.clips)
    test = clips[clips["partition"] == "test"]
    mark = test.groupby(["machine", "unit"]).cumcount() % 2  # two of each class in every unit
    pd.DataFrame({"clip_id": test["clip_id"], "anomaly": mark, "domain": "unknown"}).to_parquet(made.paths.labels)
    anomaly = dict(zip(test["clip_id"], mark, strict=True))
    for arm, gain, backends in runs:
        put_arm(made, arm, gain, backends, anomaly)
    record = {"settings": scores_settings(made), "arms": {arm: {str(SEED): arm} for arm in arms}}
    (made.scores() / "made_from.json").write_text(json.dumps(record))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "write_pictures", lambda *_: None)  # the page draws its own
        results.write_results(
            made.profile,
            made.section("evaluate"),
            arm_files(made, [*arms, *not_run]),
            made.paths.labels,
            results.Folders(made.paths.metrics(), made.paths.results()),
            made.params.tables(),
        )
    return made
