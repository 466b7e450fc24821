"""No test name, attribute or label reaches anything upstream of evaluation: scramble them all and compare bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.evaluation.evaluate import evaluate
from auscult.methods import METHODS
from auscult.scoring.table import score_table
from auscult.settings.profile import Profile
from auscult.settings.schema import Score
from auscult.settings.sections import LabelSettings
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.classes import Known
from auscult.training.clusters import cluster_table
from auscult.training.embed import embed_arm
from support.methods import small
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2023

TRAIN = Train(threads=1, device="cpu")
pytestmark = pytest.mark.usefixtures("small_networks")


def scramble(raw: Path, out: Path) -> None:
    """A copy in which the test clips have swapped their names: every number, label, domain and attribute is another clip's."""
    shutil.copytree(raw, out)
    for folder in out.glob("*/test"):
        names = sorted(path.name for path in folder.iterdir())
        order = np.random.default_rng(5).permutation(len(names))
        for name in names:
            (folder / name).rename(folder / f"{name}.moving")
        for name, other in zip(names, order, strict=True):
            (folder / f"{name}.moving").rename(folder / names[other])


def run_all(raw: Path, out: Path, profile: Profile) -> pd.DataFrame:
    """Everything from files to scores, every method, into `out`; returns the labels."""
    _, labels = pack_tree(raw, out / "features", profile, ["osscl"])
    features = {partition: out / "features" / partition for partition in ("train", "test")}
    source = out / "embeddings" / "spectral_knn"
    for name in ("spectral_knn", *(name for name in METHODS if name != "spectral_knn")):
        train_arm(small(name, 1), profile.class_label, TRAIN, 1, features["train"], out / name, out / "resume", "code")
        embed_arm(out / name, features, out / "embeddings" / name, 8, TRAIN)
        table = score_table(out / "embeddings" / name, Score(), profile.rules.domains)
        table.to_parquet(out / f"{name}.parquet")
        if (out / "resume").exists():
            shutil.rmtree(out / "resume")  # larger than all that is compared
    cluster_arm(features, source, out, profile)
    return labels


def cluster_arm(features: dict[str, Path], source: Path, out: Path, profile: Profile) -> None:
    """A classifier whose classes are clusters of another arm's embeddings, the attributes being withheld."""
    labels = LabelSettings(missing="kmeans", embeddings="spectral_knn", clusters=2, withheld=("fan",))
    index = pd.read_parquet(features["train"] / "index.parquet")
    cluster_table(index, source, labels).to_parquet(out / "clusters.parquet")
    settings = small("cnn10", 1).model_copy(update={"labels": labels})
    known = Known(profile.class_label, out / "clusters.parquet")
    train_arm(settings, known, TRAIN, 1, features["train"], out / "clustered", out / "resume", "code")
    assert len(modelfolder.load(out / "clustered").classes["all"]) == 3
    embed_arm(out / "clustered", features, out / "embeddings" / "clustered", 8, TRAIN)


def contents(folder: Path) -> dict[str, bytes]:
    # States of trainings hold their seconds, which differ between equal runs.
    files = (path for path in folder.rglob("*") if path.is_file() and folder / "resume" not in path.parents)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_test_names_and_labels_change_nothing_but_the_evaluation(tmp_path: Path) -> None:
    profile = tiny_profile(grammar="dcase2023", class_label="attributes", rules={"scheme": "dcase2022"})
    write_tree_2023(tmp_path / "raw", source=8, target=4, test=3)
    scramble(tmp_path / "raw", tmp_path / "scrambled")
    labels = run_all(tmp_path / "raw", tmp_path / "a", profile)
    other_labels = run_all(tmp_path / "scrambled", tmp_path / "b", profile)

    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert len(first) > 5 * len(METHODS)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []

    # The scrambling did reach the answers, so the comparison above could have failed.
    merged = labels.merge(other_labels, on="clip_id", suffixes=("", "_other"))
    assert len(merged) == len(labels)
    assert (merged["anomaly"] != merged["anomaly_other"]).any()
    scores = pd.read_parquet(tmp_path / "a" / "spectral_knn.parquet").assign(arm="a")
    values = [evaluate(scores, table, profile.rules, replicates=0)["value"] for table in (labels, other_labels)]
    assert not np.allclose(values[0], values[1])


@pytest.mark.parametrize("word", ["anomaly", "labels", "test"])
def test_training_is_given_no_path_to_the_answers(word: str) -> None:
    """The stages that train, and those that make classes for it, depend on nothing that holds test clips or labels."""
    import yaml

    root = Path(__file__).parents[2]
    seen = set()
    for file in (root / "dvc.yaml", *sorted(root.glob("studies/*/dvc.yaml"))):
        for name, stage in yaml.safe_load(file.read_text())["stages"].items():
            if name == "clusters" or name.startswith("train"):
                seen.add(name)
                deps = stage["deps"]
                assert not [dep for dep in deps if dep.startswith("data/") and word in dep], (file, name)
                embedded = [dep for dep in deps if "/embeddings/" in dep]
                assert all(Path(dep).name in ("train.npy", "train.parquet") for dep in embedded), (file, name)
    assert seen == {"train", "clusters", "train_on_clusters"}
