"""LoRA with trainable sub-clusters: what is trained, what is mixed, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from auscult.data.store import ClipStore
from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.classifier import draw_mixing_by_clip
from auscult.methods.scac_lora import ScacLora, ScacLoraSettings
from auscult.models.lora import LoraLinear
from auscult.settings.sections import EncoderSettings
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.embed import embed
from support.methods import TINY_ENCODER
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2020

TINY_EAT = {"name": "eat", "checkpoint": "", "size": {"layers": 2, "width": 16, "ffn": 32, "heads": 2, "frames": 112}}
EAT: dict[str, Any] = {
    "encoder": TINY_EAT, "pooling": "class_token", "fused": True,
    "lora": {"rank": 3, "branches": 1, "maps": ["q", "k", "v"], "scale": 1.0},
}  # fmt: skip
SHAPE = Shape(3, 0, 0, 16000, names=("fan/00", "fan/02", "valve/00"))


def settings(**changes: Any) -> ScacLoraSettings:
    values = {
        "encoder": TINY_ENCODER,
        "embedding": 8,
        "sub_clusters": 4,
        "epochs": 2,
        "batch_size": 4,
        "warmup_steps": 2,
    }
    found = load_method("scac_lora").settings.model_validate({**values, "method": "scac_lora", "lr": 1e-3, **changes})
    assert isinstance(found, ScacLoraSettings)
    return found


def network(**changes: Any) -> ScacLora:
    torch.manual_seed(0)
    return ScacLora(settings(**changes), SHAPE)


def batch(clips: int = 6) -> Batch:
    wave = torch.randn(clips, 16000, generator=torch.Generator().manual_seed(1)) * 0.1
    return Batch(label=torch.arange(clips) % 3, clip=torch.arange(clips), wave=wave)


def test_sizes_of_the_published_recipe() -> None:
    """2,359,296 parameters of LoRA in BEATs: 12 layers, two maps, 64 x (768 + 768)."""
    with torch.device("meta"):
        made = ScacLora(ScacLoraSettings(encoder=EncoderSettings()), Shape(41, 0, 0, 160_000))
    layers = [module for module in made.modules() if isinstance(module, LoraLinear)]
    assert sum(layer.a.numel() + layer.b.numel() for layer in layers) == 2_359_296
    assert {layer.scale for layer in layers} == {8 / 64}
    assert made.pool is not None
    pool, linear, _ = made.pool  # type: ignore[misc]
    assert pool.reduce.weight.shape == (768 // 16, 3 * 768)
    assert linear.weight.shape == (768, 2 * 768)
    assert made.project.weight.shape == (256, 768)
    assert made.head.weight.shape == (41, 16, 256)
    assert made.head.scale == pytest.approx(2**0.5 * np.log(16 * 41 - 1))
    trained = {name.split(".")[0] for name, weight in made.named_parameters() if weight.requires_grad}
    assert trained == {"encoder", "pool", "project", "head"}
    assert all(".a" in name or ".b" in name for name, w in made.encoder.named_parameters() if w.requires_grad)


def test_every_part_but_the_encoder_learns() -> None:
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimiser = torch.optim.AdamW(made.parameter_groups(), lr=0.01)
    for step in range(2):  # A has no gradient before B has left zero
        optimiser.zero_grad()
        made.loss(batch(), made.draw(batch(), np.random.default_rng(step)))["loss"].backward()
        optimiser.step()
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert not changed & set(made.published())
    assert {name for name, weight in made.named_parameters() if weight.requires_grad} <= changed


def test_without_mixing_the_loss_is_that_of_the_clips() -> None:
    made = network(mix=0.0).eval()
    loss = made.loss(batch(), made.draw(batch(), np.random.default_rng(0)))["loss"]
    torch.testing.assert_close(loss, made.valid_loss(batch()).mean())


def test_waveform_and_class_are_mixed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one clip after the other."""
    made, clips, seen = network(mix=1.0).eval(), batch(), []
    monkeypatch.setattr(made, "embedding", lambda wave, *rest: seen.append(wave) or wave[:, :8])
    monkeypatch.setattr(made.head, "forward", lambda x, targets: seen.append(targets) or x.sum())
    drawn = made.draw(clips, np.random.default_rng(5))
    made.loss(clips, drawn)
    kept, partner = drawn["share"], drawn["partner"]
    assert 0 < kept.min() < kept.max() < 1
    for i, (share, other) in enumerate(zip(kept[:, 0].tolist(), partner.tolist(), strict=True)):
        wave = share * clips.wave[i] + (1 - share) * clips.wave[other]
        torch.testing.assert_close(seen[0][i], wave, rtol=0, atol=1e-6)
        target = torch.zeros(3)
        target[clips.label[i]] += share
        target[clips.label[other]] += 1 - share
        torch.testing.assert_close(seen[1][i], target)


def test_how_often_clips_are_mixed() -> None:
    kept, partner = draw_mixing_by_clip(20_000, 0.5, np.random.default_rng(0)).values()
    assert (kept < 1).float().mean() == pytest.approx(0.5, abs=0.02)
    assert kept[kept < 1].mean() == pytest.approx(0.5, abs=0.01)
    assert sorted(partner.tolist()) == list(range(20_000))


def test_fused_maps_share_one_a_as_lora_on_the_fused_map() -> None:
    """q, k and v side by side: one A and one tall B."""
    made = network(**EAT)
    layers = [module for module in made.modules() if isinstance(module, LoraLinear)]
    assert len(layers) == 6
    assert len({id(layer.a) for layer in layers}) == 2
    first = [layer for layer in layers if layer.a is layers[0].a]
    with torch.no_grad():
        for layer in first:
            layer.b.normal_()
    tall = torch.cat([layer.b[0] for layer in first])  # [3 D, r]
    torch.testing.assert_close(tall @ first[0].a[0], torch.cat([layer.delta_weight() for layer in first]))


@pytest.fixture(scope="module")
def packed(module_path: Path) -> Path:
    folder = module_path / "packed"
    write_tree_2020(folder / "raw")
    pack_tree(folder / "raw", folder, tiny_profile(), [])
    return folder


@pytest.mark.parametrize(
    "changes", [{}, {"embed_from": "rows", "rows": {"how": "rdp"}}, EAT, {"chunk_seconds": 0.5, "test_clip": "chunks"}]
)
def test_from_packed_clips_to_embeddings(changes: dict[str, Any], packed: Path, tmp_path: Path) -> None:
    chosen = settings(**changes)
    train = Train(threads=1, device="cpu", checkpoint_seconds=0)
    for folder in ("a", "b"):
        train_arm(chosen, "unit", train, 1, packed / "train", tmp_path / folder, tmp_path / "resume", "code")
        train_arm(chosen, "unit", train, 1, packed / "train", tmp_path / folder, tmp_path / f"resume_{folder}", "code")
    weights = [load_file(tmp_path / folder / "weights.safetensors") for folder in ("a", "b")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    trained = modelfolder.load(tmp_path / "a")
    before, _ = embed(trained, ClipStore(packed / "test"), 4)
    trained.networks["all"].merge()
    vectors, index = embed(trained, ClipStore(packed / "test"), 5)
    assert len(index) == len(ClipStore(packed / "test"))
    assert vectors.shape[1] == (8 * 32 if "rows" in changes else 8)
    assert getattr(trained.networks["all"], "frequency_rows") == (8 if "rows" in changes else 1)  # noqa: B009
    np.testing.assert_allclose(vectors, before, atol=2e-5)
