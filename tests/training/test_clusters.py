"""Classes for clips without attributes: which clips they are, what they get, and what training makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from auscult.errors import AuscultError
from auscult.methods import METHODS, load_method
from auscult.settings.params import arm_settings, checked
from auscult.settings.sections import LabelSettings
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.classes import Known, centres_of, class_names, completed, without_attributes
from auscult.training.clusters import cluster_table, clusters_of
from support.methods import small
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2023

TRAIN = Train(threads=1, device="cpu")
pytestmark = pytest.mark.usefixtures("small_networks")


def index() -> pd.DataFrame:
    """Fans with attributes, pumps without (two blobs of source clips, one target clip), valves with equal ones."""
    rows = [("fan", "source", f"spd_{i % 2}") for i in range(4)]
    rows += [("pump", "source", "noAttribute")] * 6 + [("pump", "target", "noAttribute")]
    rows += [("valve", "source", "pat_00")] * 2
    table = pd.DataFrame(rows, columns=["machine", "domain", "attributes"])
    return table.assign(unit="00", clip_id=np.arange(len(table)) * 7 + 3)


def embedded(folder: Path, table: pd.DataFrame) -> tuple[Path, np.ndarray]:
    """Embeddings in another order than the clips', of any length; the direction tells the blob."""
    blob = np.arange(len(table)) % 2
    angle = blob * 1.2 + np.random.default_rng(0).normal(0, 0.01, len(table))
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1) * np.linspace(1, 50, len(table))[:, None]
    order = np.random.default_rng(1).permutation(len(table))
    np.save(folder / "train.npy", vectors[order].astype(np.float32))
    table.iloc[order][["clip_id", "machine"]].to_parquet(folder / "train.parquet", index=False)
    return folder, blob


def test_types_whose_attributes_are_empty_or_equal_have_none() -> None:
    table = index()
    assert set(table["machine"][without_attributes(table)]) == {"pump", "valve"}
    assert without_attributes(table.assign(attributes="")).all()


def test_by_default_nothing_changes() -> None:
    for missing in ("type", "subcentres"):
        table, scheme = completed(index(), "unit", LabelSettings(missing=missing), None)  # type: ignore[arg-type]
        assert scheme == "unit"
        pd.testing.assert_frame_equal(table, index())


def test_domains_are_classes_of_these_types_alone() -> None:
    table, scheme = completed(index(), "attributes", LabelSettings(missing="domain"), None)
    names = class_names(table, scheme)
    assert sorted(names.unique()) == [
        "fan/00/spd_0", "fan/00/spd_1", "pump/00/domain_source", "pump/00/domain_target", "valve/00/domain_source",
    ]  # fmt: skip
    units = class_names(*completed(index(), "unit", LabelSettings(missing="domain"), None))
    assert units[:4].unique().tolist() == ["fan/00/unit"], "a profile whose classes are units keeps them"


@pytest.mark.parametrize("missing", ["kmeans", "ward"])
def test_clusters_are_the_blobs(missing: str, tmp_path: Path) -> None:
    labels = LabelSettings.model_validate({"missing": missing, "embeddings": "x", "clusters": 2})
    table = index()[lambda t: t["machine"] != "valve"].reset_index(drop=True)
    folder, blob = embedded(tmp_path, table)
    found = cluster_table(table, folder, labels)
    pump = table["machine"] == "pump"
    assert found["clip_id"].tolist() == table["clip_id"][pump].tolist()
    pairs = set(zip(found["class"], blob[pump], strict=True))
    if missing == "kmeans":
        assert {name for name, _ in pairs} == {"source_0", "source_1", "target_0"}
    assert len({name for name, _ in pairs}) == len(pairs), "no cluster has clips of both blobs"
    assert found.equals(cluster_table(table, folder, labels)), "the same each time"


def test_ward_stops_at_the_distance(tmp_path: Path) -> None:
    x = np.array([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0]])
    for distance, clusters in ((0.5, 2), (0.01, 3), (9.0, 1)):
        labels = LabelSettings(missing="ward", distance=distance)
        assert len(set(clusters_of(x, np.zeros(3, bool), labels, "fan/00"))) == clusters
    assert clusters_of(x[:1], np.zeros(1, bool), LabelSettings(missing="ward", distance=1.0), "f").tolist() == [
        "cluster_0"
    ]


def test_a_unit_without_target_clips_has_clusters_of_the_source() -> None:
    found = clusters_of(np.eye(3), np.zeros(3, bool), LabelSettings(missing="kmeans", clusters=2), "fan/00")
    assert {word.split("_")[0] for word in found} == {"source"}


@pytest.mark.parametrize(("missing", "x"), [("kmeans", np.eye(3)), ("ward", np.eye(3)), ("kmeans", np.ones((9, 2)))])
def test_fewer_clips_than_clusters_are_refused(missing: str, x: np.ndarray) -> None:
    labels = LabelSettings.model_validate({"missing": missing})
    with pytest.raises(AuscultError, match=r"different .*clips of fan/00 are fewer than the 7 clusters"):
        clusters_of(x, np.zeros(len(x), bool), labels, "fan/00")


def test_withheld_types_are_clustered_and_missing_embeddings_are_said(tmp_path: Path) -> None:
    labels = LabelSettings(missing="kmeans", clusters=1, withheld=("fan",))
    folder, _ = embedded(tmp_path, index())
    assert set(cluster_table(index(), folder, labels)["machine"]) == {"fan", "pump", "valve"}
    (folder / "train.npy").unlink()
    with pytest.raises(AuscultError, match="no embeddings to cluster"):
        cluster_table(index(), folder, labels)


def test_several_centres_stand_for_classes_without_attributes() -> None:
    names = ["fan/00/spd_0", "fan/00/spd_1", "pump/00/noAttribute", "pump/02/noAttribute"]
    assert centres_of(names, LabelSettings(missing="subcentres", sub_centres=4)) == [1, 1, 4, 4]
    assert centres_of(["fan/00", "fan/02"], LabelSettings(missing="subcentres", sub_centres=4)) == [4, 4]
    assert centres_of(names, LabelSettings()) == [1, 1, 1, 1]


def test_a_method_without_arcface_refuses_several_centres() -> None:
    with pytest.raises(ValueError, match="needs ArcFace"):
        load_method("sc_adacos").settings.model_validate({"labels": {"missing": "subcentres"}})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_tells_classes_apart_labels_clips_without_attributes(name: str) -> None:
    method = load_method(name)
    one_class = method.untrainable(small(name), {"fan/00": 100})
    assert ("labels" in method.settings.model_fields) == bool(one_class)


@pytest.mark.parametrize("of", ["a", "b", "noisy"])
def test_clusters_of_an_arm_that_needs_clusters_are_refused(of: str) -> None:
    """Also where two arms wait for each other, and by way of an arm that tests the same weights."""
    clustered = {"method": "mfn", "labels": {"missing": "kmeans"}}
    content = {
        "arms": ["a", "b", "noisy", "knn"],
        "a": {**clustered, "labels": {"missing": "kmeans", "embeddings": of}},
        "b": {**clustered, "labels": {"missing": "ward", "embeddings": "a"}},
        "noisy": {"weights": "a", "condition": {"snr_db": 0}},
        "knn": {"method": "spectral_knn"},
    }
    params = checked({"": ("params.yaml", {"data": {"profile": "tiny"}, **content})})
    with pytest.raises(AuscultError, match=f"`{of}` itself is trained on clusters"):
        params.labels("a")
    assert params.labels("knn") == LabelSettings()


@pytest.mark.parametrize("labels", [{"missing": "ward"}, {"embeddings": "other"}])
def test_a_profile_asks_for_no_clusters(labels: dict[str, str]) -> None:
    """Its stage would be missing: the pipeline is written without a profile."""
    params = checked({"": ("params.yaml", {"data": {"profile": "tiny"}, "arms": ["a"], "a": {"method": "mfn"}})})
    for overrides in ({"labels": labels}, {"mfn": {"labels": labels}}):
        with pytest.raises(AuscultError, match="a profile cannot ask for clusters"):
            arm_settings(params, tiny_profile(overrides=overrides), "a")
    domain = tiny_profile(overrides={"labels": {"missing": "domain"}})
    assert vars(arm_settings(params, domain, "a"))["labels"].missing == "domain"


@pytest.fixture(scope="module")
def packed(module_path: Path) -> Path:
    """Fans and pumps with three attributes each."""
    folder = module_path / "packed"
    profile = tiny_profile(grammar="dcase2023", class_label="attributes", rules={"scheme": "dcase2022"})
    write_tree_2023(folder / "raw", ("fan", "pump"), source=6, target=2)
    pack_tree(folder / "raw", folder, profile, [])
    return folder


def trained(packed: Path, out: Path, clusters: Path | None = None, **labels: object) -> modelfolder.Trained:
    settings = small("cnn10", 1).model_copy(update={"labels": LabelSettings.model_validate(labels)})
    known = Known("attributes", clusters)
    train_arm(settings, known, TRAIN, 1, packed / "train", out / "m", out / "resume", "code")
    return modelfolder.load(out / "m")


def test_training_takes_the_classes(packed: Path, tmp_path: Path) -> None:
    hidden = {"withheld": ["pump"]}
    plain = trained(packed, tmp_path / "a", **hidden)
    assert plain.classes["all"][3:] == ["pump/00/noAttribute"]
    domains = trained(packed, tmp_path / "b", missing="domain", **hidden)
    assert domains.classes["all"][3:] == ["pump/00/domain_source", "pump/00/domain_target"]
    several = trained(packed, tmp_path / "c", missing="subcentres", sub_centres=5, **hidden)
    assert several.classes == plain.classes
    assert len(several.networks["all"].arcface.weight) == 3 + 5  # type: ignore[union-attr, arg-type]
    clips = pd.read_parquet(packed / "train" / "index.parquet")
    table = clips[clips["machine"] == "pump"][["clip_id", "machine"]].assign(**{"class": "source_0"})
    table.to_parquet(tmp_path / "table.parquet")
    clustered = {"missing": "kmeans", "embeddings": "other", **hidden}
    found = trained(packed, tmp_path / "d", tmp_path / "table.parquet", **clustered)
    assert found.classes["all"][3:] == ["pump/00/source_0"]
    table[:0].to_parquet(tmp_path / "empty.parquet")
    left_out = trained(packed, tmp_path / "e", tmp_path / "empty.parquet", **clustered)
    assert "8 clip(s) without attributes are in no cluster: `other` was left out" in left_out.skipped["all"]
    with pytest.raises(AuscultError, match="no table of clusters"):
        trained(packed, tmp_path / "f", tmp_path / "absent.parquet", **clustered)
