"""Maps: the points that are shown, neighbours that stay neighbours, and the weights of adapters that are known beforehand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from auscult.data.store import ClipStore
from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.han import HanSettings
from auscult.models.group_adapter import GroupAdapter
from auscult.results.page.adapters import adapter_weights
from auscult.results.page.maps import chosen, layout, points, section
from auscult.training.modelfolder import Trained
from support.evidence import evidence
from support.methods import small


@pytest.mark.parametrize("cosine", [True, False])
def test_clips_that_lie_together_stay_together(cosine: bool) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 12)
    x = 4 * np.eye(4, 20)[group] + 0.3 * rng.standard_normal((48, 20))
    places = layout(x, cosine)
    assert places.min() >= 0
    assert places.max() <= 1
    far = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(48)
    assert (group[far.argmin(1)] == group).all()
    np.testing.assert_array_equal(places, layout(x, cosine))
    if cosine:  # lengths do not count
        np.testing.assert_array_equal(places, layout(x * 2.0 ** rng.integers(0, 5, (48, 1)), cosine))


@pytest.mark.parametrize("clips", [1, 2, 9])
def test_few_or_equal_clips_have_places_too(clips: int) -> None:
    assert np.isfinite(layout(np.random.default_rng(0).standard_normal((clips, 6)), True)).all()
    np.testing.assert_array_equal(layout(np.ones((clips + 10, 3)), False), 0.5)


def test_a_subsample_is_drawn_once_and_by_its_seed() -> None:
    rows = chosen(100, 30)
    assert len(set(rows.tolist())) == 30
    np.testing.assert_array_equal(rows, chosen(100, 30))
    assert set(rows) != set(chosen(100, 30, seed=1))
    np.testing.assert_array_equal(chosen(5, 30), np.arange(5))


def test_points_are_the_clips_with_their_labels(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    counts = points(context, "one").value_counts(["machine", "kind"]).to_dict()
    expected = {(m, k): n for m in ("fan", "valve") for k, n in (("train", 10), ("normal", 4), ("anomaly", 4))}
    assert counts == expected
    none = replace(context, labels=context.labels.iloc[:0])
    assert set(points(none, "one")["kind"]) == {"train", "unlabelled"}
    html = section(context).html
    assert len(re.findall(r'role="img" aria-label="map of 18 clips', html)) == 2
    marks = "".join(re.findall(r'<path class="\w+" stroke="var[^>]+ d="([^"]+)"', html))
    assert marks.count("h0") == 28
    assert marks.count("l20 20") == 8


def test_the_domains_of_a_single_unit_have_colours(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    for part in ("train", "test"):
        path = context.paths.embeddings("one", context.seeds[0]) / f"{part}.parquet"
        meta = pd.read_parquet(path)
        domain = np.where(np.arange(len(meta)) % 2, "target", "source") if part == "train" else "unknown"
        meta.assign(unit=meta["unit"].where(meta["machine"] == "fan", "00"), domain=domain).to_parquet(path)
    truth = context.labels.assign(domain=np.where(np.arange(len(context.labels)) % 2, "target", "source"))
    table = points(replace(context, labels=truth), "one")
    assert set(table.loc[table["machine"] == "fan", "unit"]) == {"00", "02"}
    assert set(table.loc[table["machine"] == "valve", "unit"]) == {"00 source", "00 target"}
    assert set(points(context, "one").loc[table["machine"] == "valve", "unit"]) == {"00"}  # test domains are not known


def test_clips_whose_attributes_were_withheld_have_their_colours(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    monkeypatch.setattr("auscult.results.page.maps._withheld", lambda context, arm: ("valve",))
    train = pd.read_parquet(context.paths.embeddings("one", context.seeds[0]) / "train.parquet")
    truth = train.assign(attributes=np.where(np.arange(len(train)) % 2, "slow", "fast"))[["clip_id", "attributes"]]
    context.paths.clips.parent.mkdir(parents=True, exist_ok=True)
    truth.sample(frac=1, random_state=0).to_parquet(context.paths.clips)
    table = points(context, "one")
    valve = table[table["machine"] == "valve"]
    assert set(valve["kind"]) == {"train"}
    assert valve["unit"].tolist() == truth.loc[train["machine"] == "valve", "attributes"].tolist()
    assert set(table.loc[table["machine"] == "fan", "unit"]) == {"00", "02"}


def test_section_says_that_embeddings_are_missing(packed: Path, tmp_path: Path) -> None:
    context = evidence(packed, tmp_path, {"one": np.arange(16.0)})
    (context.paths.embeddings("one", context.seeds[0]) / "test.npy").unlink()
    assert "no embeddings" in section(context).html


def test_adapter_weights_are_those_of_each_layer_and_machine(packed: Path) -> None:
    settings = small("han")
    assert isinstance(settings, HanSettings)
    settings = settings.model_copy(update={"group_adapter": settings.group_adapter.model_copy(update={"groups": 5})})
    method, store = load_method("han"), ClipStore(packed / "test")
    shape = Shape(4, 0, 0, store.samples, store.sample_rate)
    torch.manual_seed(0)
    network = method.build(settings, shape).eval()
    trained = Trained(method, settings, {"all": network}, {"all": []}, {"all": shape}, {})
    adapters = [module for module in network.modules() if isinstance(module, GroupAdapter)]
    with torch.no_grad():
        logits = torch.tensor([0.1, 0.2, -0.3, 0.0, 0.4])
        adapters[0].decision[2].weight.zero_()  # type: ignore[union-attr, operator]
        adapters[0].decision[2].bias.copy_(logits)  # type: ignore[union-attr, operator]
    found = adapter_weights(trained, store, clips=3)
    assert list(found) == ["fan", "valve"]
    share = np.exp(logits.double().numpy() / settings.group_adapter.temperature)
    for p in found.values():
        assert p.shape == (len(adapters), 5)
        np.testing.assert_allclose(p[0], share / share.sum(), rtol=1e-5)
        np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert not np.allclose(found["fan"][1], found["valve"][1], atol=1e-4)
    # All clips of a machine: the mean over clips taken one by one.
    seen: list[np.ndarray] = []
    hook = adapters[1].register_forward_pre_hook(lambda m, x: seen.append(m.weights(x[0]).detach().mean(0).numpy()))
    with torch.no_grad():
        for row in np.flatnonzero(store.index["machine"] == "fan"):
            network.features(Batch(wave=store.wave(torch.tensor([row]))))
    hook.remove()
    np.testing.assert_allclose(adapter_weights(trained, store, clips=99)["fan"][1], np.mean(seen, axis=0), atol=1e-5)
    assert not any(module._forward_pre_hooks for module in adapters)
