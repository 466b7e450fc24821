"""Self-supervised MobileNetV2: sizes, windows against a loop, and scores against their formulas in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from auscult.data.store import ClipStore
from auscult.methods import mobilenet_v2
from auscult.methods.base import Batch, Shape
from auscult.methods.mobilenet_v2 import METHOD, MobileNetV2Settings, SelfSupervisedMobileNetV2, window_scores
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.embed import embed
from support.fill import absolute_error, fill
from support.methods import small as small_settings
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2020

EPS = np.finfo(np.float64).eps
FRAMES = 12


def small(classes: int = 3, **settings: object) -> Any:
    """A quarter-width network with spread-out probabilities, for clips of 32 mels x 12 frames and windows of 8."""
    values = {"width": 0.25, "window": 8, "hop": 3, **settings}
    network = SelfSupervisedMobileNetV2(MobileNetV2Settings(**values), Shape(classes, 32, FRAMES, 6000))  # type: ignore[arg-type]
    return fill(network, "m/").eval()


def clips(count: int = 4) -> Tensor:
    return 20 * torch.randn(count, 32, FRAMES, generator=torch.Generator().manual_seed(3)) - 40


def formulas(p: np.ndarray) -> dict[str, np.ndarray]:
    """Of probabilities, float64: Giri et al.; the 2021 baseline's documentation; its code, whose bracket closes late."""
    return {
        "native": -np.log(p),
        "native_intended": np.log((1 - p) / p),
        "native_coded": np.log(np.maximum(1 - p, EPS) - np.log(np.maximum(p, EPS))),
    }


@pytest.mark.parametrize(("units", "expected"), [(7, 696_647), (6, 695_366)])
def test_parameters_at_the_size_of_the_challenge(units: int, expected: int) -> None:
    network = METHOD.build(METHOD.settings(method="mobilenet_v2"), Shape(units, 128, 313, 160_000))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == expected


def test_scores_are_their_formulas() -> None:
    logits = 4 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    exact = logits.double().numpy()
    p = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    ours = window_scores(logits)
    assert list(ours) == ["native", "native_intended", "native_coded"]
    for name, expected in formulas(p).items():
        np.testing.assert_allclose(ours[name].numpy(), expected, rtol=2e-5, atol=2e-6, err_msg=name)


def test_extreme_probabilities_stay_finite_and_ordered() -> None:
    gap = torch.linspace(-200, 200, 401)
    ours = window_scores(torch.stack([torch.zeros_like(gap), gap], 1))
    for name, values in ours.items():
        score = values[:, 0]  # of the class whose odds fall along the row
        assert torch.isfinite(score).all(), name
        assert (score.diff() >= 0).all(), name
        assert torch.equal(values[:, 1], score.flip(0)), name
    assert (ours["native_intended"][:, 0].diff() > 0).all()
    assert (ours["native"][150:, 0].diff() > 0).all()  # also where p rounds to 1 in float32
    assert ours["native_coded"].min().item() == pytest.approx(np.log(EPS), rel=1e-6)
    assert ours["native_coded"].max().item() == pytest.approx(np.log(1 - np.log(EPS)), rel=1e-6)


def test_the_late_bracket_ranks_clips_otherwise() -> None:
    """Why coded and intended scores are both kept: one surely normal window hides many improbable ones in the code's."""
    hidden, steady = np.array([1 - 1e-12, 0.05, 0.05, 0.05]), np.array([0.6, 0.6, 0.6, 0.6])
    steady_, hidden_ = formulas(steady), formulas(hidden)
    assert hidden_["native"].mean() > steady_["native"].mean()
    assert hidden_["native_coded"].mean() < steady_["native_coded"].mean()


@pytest.mark.parametrize("chunk", [256, 3])
def test_embedding_and_scores_against_a_loop_over_windows(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobilenet_v2, "CHUNK", chunk)
    network, mel = small(), clips()
    own = [2, 0, 1, 1]
    batch = Batch(mel=mel, candidates=torch.eye(3, dtype=torch.bool)[own])
    with torch.no_grad():
        embedding, scores = network.embed(batch)
        for clip in range(4):
            parts = [mel[clip, :, s : s + 8].expand(1, 3, 32, 8) for s in range(5)]
            features = [network.encoder(part) for part in parts]
            p = np.array([network.classifier(f).double().softmax(1)[0, own[clip]].item() for f in features])
            expected = torch.cat(features).double().mean(0).numpy()
            assert absolute_error(embedding[clip], expected) < 1e-5 * np.abs(expected).max()
            for name, values in formulas(p).items():
                assert scores[name][clip].item() == pytest.approx(values.mean(), rel=2e-4, abs=1e-5), name


def test_test_hop_and_training_hop() -> None:
    network, mel = small(test_hop=4), clips(1)
    first_last = Batch(mel=mel, candidates=torch.tensor([[True, False, False]]), label=torch.tensor([0]))
    with torch.no_grad():
        halves = [network.features(mel[:, :, s : s + 8]) for s in (0, 4)]
        torch.testing.assert_close(network.embed(first_last)[0], (halves[0] + halves[1]) / 2)
        thirds = [network.logits(network.features(mel[:, :, s : s + 8])).log_softmax(1)[0, 0] for s in (0, 3)]
        torch.testing.assert_close(network.valid_loss(first_last)[0], -(thirds[0] + thirds[1]) / 2)
    assert METHOD.hop(MobileNetV2Settings(hop=3)) == 3


def test_only_candidates_count() -> None:
    """The label is not read; several candidates give the least of their scores; the embedding ignores them."""
    network, mel = small(), clips()
    with torch.no_grad():
        alone = [network.embed(Batch(mel=mel, candidates=torch.eye(3, dtype=torch.bool)[[c] * 4])) for c in range(3)]
        pair = torch.tensor([[True, False, True]] * 4)
        both = network.embed(Batch(mel=mel, candidates=pair))
        told = network.embed(Batch(mel=mel, candidates=pair, label=torch.tensor([1, 1, 0, 2])))
    for name in both[1]:
        torch.testing.assert_close(both[1][name], torch.minimum(alone[0][1][name], alone[2][1][name]))
        assert not torch.equal(both[1][name], alone[1][1][name])
        assert torch.equal(both[1][name], told[1][name])
    assert torch.equal(both[0], alone[1][0])


def test_loss_is_the_cross_entropy_of_the_windows() -> None:
    network, mel = small(), clips()
    label = torch.tensor([0, 2, 1, 0])
    with torch.no_grad():
        loss = network.loss(Batch(mel=mel[:, :, :8], label=label), {})["loss"]
        p = network.classifier(network.encoder(mel[:, None, :, :8].repeat(1, 3, 1, 1))).double().softmax(1)
    assert loss.item() == pytest.approx(-p.log()[torch.arange(4), label].mean().item(), rel=1e-5)


def test_training_tells_units_apart() -> None:
    """Two units that hum in different bands; told the wrong unit, a clip must come out as more anomalous."""
    torch.manual_seed(0)
    network = SelfSupervisedMobileNetV2(MobileNetV2Settings(width=0.25), Shape(2, 64, 32, 16000)).train()
    label = torch.arange(16) % 2
    mel = torch.randn(16, 64, 32) - 60
    mel[label == 0, 8:12] += 10
    mel[label == 1, 20:24] += 10
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)
    losses = []
    for _ in range(15):
        loss = network.loss(Batch(mel=mel, label=label), {})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    for module in network.modules():  # so few steps leave the running statistics behind: take the batch's own
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network.features(mel)
        network.eval()
        own, other = (
            network.embed(Batch(mel=mel, candidates=torch.eye(2, dtype=torch.bool)[index]))[1]
            for index in (label, 1 - label)
        )
    for name, scores in own.items():
        assert (scores < other[name]).float().mean() > 0.8, name


def test_shorter_clips_have_one_window_of_all_their_frames() -> None:
    settings = MobileNetV2Settings()
    assert [METHOD.window(settings, frames) for frames in (313, 64, 63, 32)] == [64, 64, 63, 32]
    network = SelfSupervisedMobileNetV2(MobileNetV2Settings(width=0.25), Shape(2, 32, FRAMES, 6000)).eval()
    mel = clips(2)
    with torch.no_grad():
        embedding, _ = network.embed(Batch(mel=mel, candidates=torch.ones(2, 2, dtype=torch.bool)))
        torch.testing.assert_close(embedding, network.features(mel))


def test_one_network_across_types(tmp_path: Path) -> None:
    """Types of one unit each: alone they have nothing to tell apart, together they have each other."""
    write_tree_2020(tmp_path / "raw", {"fan": ["00"], "valve": ["00"]}, train=6, normal=2, anomaly=2, seconds=0.5)
    pack_tree(tmp_path / "raw", tmp_path, tiny_profile(clip_seconds=0.5), ["osscl"])
    models = {}
    for scope in ("machine", "all"):
        settings = small_settings("mobilenet_v2", 2).model_copy(update={"scope": scope})
        out = tmp_path / scope
        train_arm(settings, "unit", Train(threads=1, device="cpu"), 1, tmp_path / "train", out, tmp_path / "r", "code")
        models[scope] = modelfolder.load(out)
    assert set(models["machine"].skipped) == {"fan", "valve"}
    assert models["all"].classes == {"all": ["fan/00", "valve/00"]}
    assert not models["all"].skipped
    _, found = embed(models["all"], ClipStore(tmp_path / "test"), 4)
    assert len(found) == 8
    assert np.isfinite(found[["native", "native_coded", "native_intended"]].to_numpy()).all()


def test_one_unit_cannot_be_trained() -> None:
    assert METHOD.untrainable(MobileNetV2Settings(), {"fan": 9})
    assert not METHOD.untrainable(MobileNetV2Settings(), {"fan 0": 9, "fan 1": 9})
