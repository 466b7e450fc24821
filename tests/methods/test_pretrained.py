"""Fine-tuned and frozen encoders from packed clips to scores, with a domain shift, missing attributes and a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import auscult.training.arm
from auscult.data.store import ClipStore, repeated
from auscult.data.synthetic import write_tree
from auscult.data.synthetic.source import SyntheticSource
from auscult.encoders.base import new_encoder
from auscult.encoders.beats import authors_key
from auscult.errors import AuscultError
from auscult.methods import load_method
from auscult.methods.base import Batch, Shape
from auscult.methods.finetuned import FineTuned
from auscult.methods.han import Han
from auscult.models.lora import LoraLinear
from auscult.scoring.table import score_table
from auscult.settings.params import load_profile
from auscult.settings.profile import Profile
from auscult.settings.schema import Score
from auscult.settings.sections import EncoderSettings
from auscult.settings.training import MethodSettings, Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from auscult.training.classes import class_list
from auscult.training.embed import embed, embed_arm
from support.methods import TINY_ENCODER
from support.packed import pack_tree

ROOT = Path(__file__).parents[2]
TRAIN = Train(threads=1, device="cpu", checkpoint_seconds=0)
SHORT: dict[str, Any] = {
    "encoder": TINY_ENCODER, "embedding": 16, "chunk_seconds": 0.5, "train_steps": 12, "warmup_steps": 3, "batch_size": 8,
    "lr": 1e-3,
}  # fmt: skip
SMALL_LORA = {"rank": 2, "branches": 3}


def settings(method: str, **changes: Any) -> MethodSettings:
    values = {"method": method, **({"encoder": TINY_ENCODER} if method == "frozen" else SHORT), **changes}
    if method == "han":
        values = {"lora": SMALL_LORA, "dlcl": {"start": 4, "bank": 32, "codes": 8}, "pseudo_labels": 2, **values}
    return load_method(method).settings.model_validate(values)


@pytest.fixture(scope="module")
def shift(module_path: Path) -> tuple[Profile, Path]:
    """The profile `synthetic_shift`, with fewer and shorter clips, packed."""
    folder = module_path / "shift"
    profile = load_profile("synthetic_shift", ROOT / "profiles")
    source = {**profile.source, "train_clips": 20, "test_normal": 4, "test_anomaly": 4, "clip_seconds": 1.2}
    profile = profile.model_copy(update={"clip_seconds": 1.2})
    write_tree(SyntheticSource.model_validate(source), folder / "raw", progress=False)
    pack_tree(folder / "raw", folder, profile, [])
    return profile, folder


def trained(chosen: MethodSettings, shift: tuple[Profile, Path], out: Path) -> Path:
    profile, packed = shift
    train_arm(chosen, profile.class_label, TRAIN, 1, packed / "train", out / "m", out / "resume", "code")
    return out / "m"


def scored(model: Path, shift: tuple[Profile, Path], out: Path, domains: bool = True) -> pd.DataFrame:
    features = {p: shift[1] / p for p in ("train", "test")}
    embed_arm(model, features, out / "e", 16, TRAIN)
    return score_table(out / "e", Score(), domains)


SMALL_VIT = {"layers": 2, "width": 24, "heads": 3, "ffn": 48}
SMALL_SIZES = {
    **{name: SMALL_VIT for name in ("ced", "dasheng", "m2d", "eat", "fisher", "echo")},
    "openl3": {"width": 8, "hop": 500},
}


@pytest.mark.parametrize("name", SMALL_SIZES)
@pytest.mark.parametrize("method", ["frozen", "anopatch", "han"])
def test_encoders_from_packed_clips_to_scores(
    method: str, name: str, shift: tuple[Profile, Path], tmp_path: Path
) -> None:
    """With random weights: frozen rows, all weights trained, and LoRA with the group adapter on every linear map."""
    chosen = settings(method, encoder={"name": name, "size": SMALL_SIZES[name]})
    if (method, name) == ("han", "openl3"):
        with pytest.raises(AuscultError, match="OpenL3 is a convolutional network"):
            trained(chosen, shift, tmp_path)
        return
    if method == "frozen":
        chosen = settings(method, encoder=chosen.encoder, pooling="rows")  # type: ignore[attr-defined]
    else:
        chosen = chosen.model_copy(update={"train_steps": 3})
    model = trained(chosen, shift, tmp_path)
    assert np.isfinite(scored(model, shift, tmp_path)["score"]).all()
    if method == "han":  # the second map of every LoRA begins at zero
        network = next(iter(modelfolder.load(model, "cpu").networks.values()))
        moved = {
            key: module.b.abs().max() > 0 for key, module in network.named_modules() if isinstance(module, LoraLinear)
        }
        assert len(moved) == 2 * 6
        assert all(moved.values()), moved


@pytest.mark.parametrize(
    ("method", "changes", "own_score"),
    [
        ("anopatch", {}, True),
        ("han", {}, False),
        ("han", {"unattributed": "pseudo"}, True),
        ("han", {"unattributed": "class", "lora": {"rank": 0}, "group_adapter": {"position": "none"}}, True),
        (
            "han",
            {"lora": {**SMALL_LORA, "connected": False, "frozen": False}, "group_adapter": {"position": "ffn"}},
            False,
        ),
        ("han", {"lora": {**SMALL_LORA, "dropout": 0.1}, "group_adapter": {"position": "layer"}}, False),
        ("frozen", {"pooling": "rows"}, False),
        ("frozen", {"pooling": "rows", "clean": "eat"}, False),
        ("anopatch", {"embed_from": "rows", "clean": "eat"}, True),
    ],
)
def test_from_packed_clips_to_scores(
    method: str, changes: dict[str, Any], own_score: bool, shift: tuple[Profile, Path], tmp_path: Path
) -> None:
    model = trained(settings(method, **changes), shift, tmp_path)
    scores = scored(model, shift, tmp_path)
    assert set(scores["backend"]) == {"knn_cosine"} | ({"native_arcface"} if own_score else set())
    assert np.isfinite(scores["score"]).all()
    history = pd.read_csv(model / "history.csv")
    if method != "frozen":
        assert np.isfinite(history["train_loss"]).all()
    if method == "han" and changes.get("unattributed", "contrast") == "contrast":
        assert {"train_aam", "train_dlcl", "train_code_usage"} <= set(history)
        assert history["train_dlcl"].iloc[-1] > 0
        assert history["train_code_usage"].iloc[-1] > 0
    if changes.get("unattributed") == "pseudo":
        assert set(history["scope"]) == {"all (offline)", "all"}


def test_classes_without_attributes(shift: tuple[Profile, Path], tmp_path: Path) -> None:
    """Two machines of four carry none: 2 x 2 units with five operating points, and 2 x 2 classes of their own."""
    network = modelfolder.load(trained(settings("anopatch"), shift, tmp_path / "a"))
    shape = network.shapes["all"]
    assert len(shape.unattributed) == 4
    assert all("noAttribute" in network.classes["all"][c] for c in shape.unattributed)
    assert network.networks["all"].arcface.classes == shape.classes
    contrast = modelfolder.load(trained(settings("han"), shift, tmp_path / "b")).networks["all"]
    assert contrast.arcface.classes == shape.classes - 4
    pseudo = modelfolder.load(trained(settings("han", unattributed="pseudo"), shift, tmp_path / "c")).networks["all"]
    assert pseudo.arcface.classes == shape.classes - 4 + 4 * 2
    assert pseudo.member.sum(0).eq(1).all(), "each place in the head belongs to one class"


def test_han_takes_attributes_for_classes_where_the_profile_says_units(
    shift: tuple[Profile, Path], tmp_path: Path
) -> None:
    """The profiles of 2021 and 2022 say `unit`; the paper's classes have the attributes, other systems' have not."""
    folder = shift[1] / "train"
    chosen = {"han": settings("han", train_steps=0), "profile": settings("han", train_steps=0, classes="profile")}
    chosen["anopatch"] = settings("anopatch", train_steps=0)
    found = {}
    for name, each in chosen.items():
        train_arm(each, "unit", TRAIN, 1, folder, tmp_path / name, tmp_path / "r", "code")
        found[name] = modelfolder.load(tmp_path / name).classes["all"]
    assert found["han"] == class_list(ClipStore(folder).index, "attributes")
    assert found["profile"] == found["anopatch"] == class_list(ClipStore(folder).index, "unit")
    assert len(found["han"]) > len(found["anopatch"])


def test_withheld_attributes_make_no_classes(shift: tuple[Profile, Path], tmp_path: Path) -> None:
    """As if nobody had written them down, in training; the clips and their places stay."""
    plain = modelfolder.load(trained(settings("han"), shift, tmp_path / "a"))
    hidden = modelfolder.load(trained(settings("han", labels={"withheld": ("fan",)}), shift, tmp_path / "b"))
    of_fan = [name for name in plain.classes["all"] if name.startswith("fan/")]
    units = sorted({name.rsplit("/", 1)[0] for name in of_fan})
    assert len(of_fan) > len(units)
    others = [name for name in plain.classes["all"] if not name.startswith("fan/")]
    assert hidden.classes["all"] == sorted([*others, *(f"{unit}/noAttribute" for unit in units)])
    assert len(hidden.shapes["all"].unattributed) == len(plain.shapes["all"].unattributed) + len(units)
    vectors, index = embed(hidden, ClipStore(shift[1] / "train"), 8)
    assert len(vectors) == len(index) == len(ClipStore(shift[1] / "train"))


@pytest.mark.parametrize("changes", [{}, {"lora": {**SMALL_LORA, "rank": 0}}])
def test_a_shorter_training_is_the_beginning_of_a_longer_one(
    changes: dict[str, Any], shift: tuple[Profile, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a score against the steps of training needs no states from on the way (studies/han_steps)."""
    import auscult.training.loop as loop

    update, seen = loop._update, []

    def watched(optimizer: torch.optim.Optimizer, *rest: Any) -> None:
        update(optimizer, *rest)
        seen.append([weight.detach().clone() for group in optimizer.param_groups for weight in group["params"]])

    monkeypatch.setattr(loop, "_update", watched)
    train = {}
    for steps in (25, 11):  # an epoch has 20 steps
        seen.clear()
        trained(settings("han", unattributed="class", train_steps=steps, **changes), shift, tmp_path / str(steps))
        train[steps] = seen[10]
        assert len(seen) == steps
    assert all(torch.equal(one, other) for one, other in zip(train[25], train[11], strict=True))


def test_without_enough_attributed_classes_the_arm_says_so(shift: tuple[Profile, Path], tmp_path: Path) -> None:
    profile, packed = shift
    folder = shutil.copytree(packed / "train", tmp_path / "train")
    index = pd.read_parquet(folder / "index.parquet")
    index.assign(attributes="noAttribute").to_parquet(folder / "index.parquet", index=False)
    for how, reason in (("contrast", "0 class"), ("pseudo", "0 class"), ("class", "")):
        chosen = settings("han", unattributed=how)
        train_arm(chosen, profile.class_label, TRAIN, 1, folder, tmp_path / how, tmp_path / "r", "code")
        skipped = modelfolder.load(tmp_path / how).skipped
        assert reason in skipped.get("all", ""), how
        assert bool(skipped) == bool(reason)


# -------------------------------------------------------------------------------------------------------------- checkpoint
@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with one checkpoint: a tiny BEATs in the authors' format."""
    size = TINY_ENCODER["size"]
    entry = {
        "encoder": "beats", "title": "tiny", "source": "https://example.org", "licence": "none", "size": size,
        "files": [{"name": "tiny.safetensors"}],
    }  # fmt: skip
    (tmp_path / "checkpoints.yaml").write_text(yaml.safe_dump({"checkpoints": {"tiny": entry}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("AUSCULT_CHECKPOINTS", raising=False)
    write_checkpoint(tmp_path, seed=0)
    return tmp_path


def write_checkpoint(root: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = new_encoder(EncoderSettings.model_validate(TINY_ENCODER)).network
    (root / "checkpoints" / "tiny").mkdir(parents=True, exist_ok=True)
    state = {authors_key(key): value for key, value in network.state_dict().items()}
    save_file(state, root / "checkpoints" / "tiny" / "tiny.safetensors")


FROM_FILE = {"encoder": {"name": "beats", "checkpoint": "tiny"}}


def test_frozen_weights_are_those_of_the_file_and_are_not_saved_again(
    project: Path, shift: tuple[Profile, Path]
) -> None:
    theirs = new_encoder(EncoderSettings.model_validate(FROM_FILE["encoder"]))
    file = load_file(project / "checkpoints" / "tiny" / "tiny.safetensors")
    chosen = settings("han", **FROM_FILE)
    model = trained(chosen, shift, project / "han")
    saved = load_file(model / "weights.safetensors")
    bare = {f"all/encoder.{name}" for name in theirs.state_dict()}
    assert not bare & set(saved)
    assert not [name for name in saved if name.endswith(".base.weight")]
    for part in (
        ".a",
        ".b",
        "adapter.vectors",
        "pool.norm.running_mean",
        "project.weight",
        "arcface.weight",
        "contrast.",
    ):
        assert any(part in name for name in saved), part
    network = modelfolder.load(model).networks["all"]
    assert isinstance(network, Han)
    own = network.state_dict()
    for name, moved in zip(theirs.state_dict(), network.published(), strict=True):
        torch.testing.assert_close(own[moved], file[authors_key(name.removeprefix("network."))], rtol=0, atol=0)
    layers = [m for m in network.modules() if isinstance(m, LoraLinear)]
    assert len(layers) == 12
    assert any(layer.b.abs().sum() > 0 for layer in layers), "the branches have learnt something"


def test_reloaded_scores_are_identical_and_merged_ones_equal(project: Path, shift: tuple[Profile, Path]) -> None:
    """A model whose saved folder lacks the pooling's statistics, say, scores at random after a reload."""
    model = trained(settings("han", unattributed="class", **FROM_FILE), shift, project / "han")
    store = ClipStore(shift[1] / "test")
    first = modelfolder.load(model)
    before, index = embed(first, store, 8)
    again, other = embed(modelfolder.load(model), store, 8)
    np.testing.assert_array_equal(before, again)
    np.testing.assert_array_equal(index["native_arcface"], other["native_arcface"])
    first.networks["all"].merge()
    assert not [m for m in first.networks["all"].modules() if isinstance(m, LoraLinear)]
    merged, _ = embed(first, store, 8)
    np.testing.assert_allclose(merged, before, atol=1e-5)
    assert not np.array_equal(merged, np.zeros_like(merged))


def test_a_checkpoint_that_changed_is_not_taken_for_the_old_one(project: Path, shift: tuple[Profile, Path]) -> None:
    frozen = trained(settings("han", **FROM_FILE), shift, project / "han")
    whole = trained(settings("anopatch", **FROM_FILE), shift, project / "anopatch")
    write_checkpoint(project, seed=1)
    with pytest.raises(AuscultError, match="another file than"):
        modelfolder.load(frozen)
    shutil.rmtree(project / "checkpoints")
    with pytest.raises(AuscultError, match="not in place"):
        modelfolder.load(frozen)
    assert modelfolder.load(whole).networks, "all of it was trained and saved: the checkpoint is not needed"


def test_training_starts_from_the_checkpoint(project: Path, shift: tuple[Profile, Path]) -> None:
    chosen = settings("anopatch", **FROM_FILE, lr=1e-12, lr_min=0.0, weight_decay=0.0)
    saved = load_file(trained(chosen, shift, project / "a") / "weights.safetensors")
    file = load_file(project / "checkpoints" / "tiny" / "tiny.safetensors")
    name = "network.layers.1.attention.q.weight"
    torch.testing.assert_close(saved[f"all/encoder.{name}"], file[authors_key(name.removeprefix("network."))])


def test_a_missing_checkpoint_leaves_out_its_arm_alone(
    project: Path, shift: tuple[Profile, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / "checkpoints")
    model = trained(settings("anopatch", **FROM_FILE), shift, project / "a")
    reason = modelfolder.load(model).skipped["all"]
    assert "put tiny.safetensors into checkpoints/tiny (from https://example.org)" in reason
    assert reason in capsys.readouterr().err
    assert len(scored(model, shift, project)) == 0
    assert modelfolder.load(trained(settings("anopatch"), shift, project / "b")).networks


def test_sizes_beside_a_checkpoint_and_other_encoders_are_refused(project: Path) -> None:
    with pytest.raises(AuscultError, match="sizes of their own"):
        new_encoder(EncoderSettings(name="beats", checkpoint="tiny", size={"layers": 3}))
    with pytest.raises(AuscultError, match="is one of `beats`, not of `eat`"):
        new_encoder(EncoderSettings(name="eat", checkpoint="tiny"))
    with pytest.raises(AuscultError, match="no checkpoint `tinny`"):
        new_encoder(EncoderSettings(name="beats", checkpoint="tinny"))


# ------------------------------------------------------------------------------------------------------------------ pieces
SHAPE = Shape(classes=3, mels=0, frames=0, samples=16000)


def network(**changes: Any) -> FineTuned:
    torch.manual_seed(0)
    return FineTuned(settings("anopatch", **changes), SHAPE).eval()


def test_chunks_of_clips_of_any_length_against_a_loop() -> None:
    net = network(test_clip="chunks", chunk_seconds=0.3)
    wave = 0.1 * torch.randn(4, 16000, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([16000, 9600, 9601, 2000])
    for row, length in enumerate(valid.tolist()):
        wave[row, length:] = 0
    with torch.inference_mode():
        got = net.features(Batch(wave=repeated(wave, valid), valid=valid))
        for row, length in enumerate(valid.tolist()):
            clip = wave[row, :length].repeat(16)[: max(length, 4800)]  # shorter than a chunk: repeated
            starts = [min(start, len(clip) - 4800) for start in range(0, length, 4800)]
            x = [torch.nn.functional.normalize(net.embedding(clip[None, s : s + 4800])) for s in starts]
            torch.testing.assert_close(got[row], torch.cat(x).mean(0), atol=1e-5, rtol=1e-4)
        full = net.features(Batch(wave=wave[:1]))
    torch.testing.assert_close(full[0], got[0], atol=1e-6, rtol=1e-5)


def chunk_of(net: FineTuned, batch: Batch) -> torch.Tensor:
    return net.random_chunk(batch, net.draw(batch, np.random.default_rng(0)))


def test_training_chunks_come_from_everywhere_but_not_from_the_filling() -> None:
    net = network(chunk_seconds=0.25)
    wave = torch.arange(16000.0).repeat(64, 1)
    valid = torch.full((64,), 8000)
    first = chunk_of(net, Batch(wave=wave, valid=valid))[:, 0]
    assert first.min() < 500
    assert 3500 < first.max() <= 8000 - 4000
    whole = chunk_of(net, Batch(wave=wave))[:, 0]
    assert 10000 < whole.max() <= 16000 - 4000
    assert torch.equal(whole, chunk_of(net, Batch(wave=wave))[:, 0])


def test_branches_have_their_own_learning_rate() -> None:
    chosen = settings("han", lora={**SMALL_LORA, "lr_scale": 8.0})
    net = Han(chosen, SHAPE)
    rest, branches = net.parameter_groups()
    assert branches["lr_scale"] == 8.0
    assert len(branches["params"]) == 2 * 12
    assert all(weight.requires_grad for group in (rest, branches) for weight in group["params"])
    frozen = sum(not weight.requires_grad for weight in net.parameters())
    assert len(rest["params"]) + len(branches["params"]) + frozen == len(list(net.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_seconds": 0.05}, "too short for `beats`"),
        ({"pooling": "class_token"}, "no class token"),
        ({"encoder": {"name": "beats", "size": {"layer": 2}}}, "no size `layer`"),
        ({"encoder": {**TINY_ENCODER, "layer": 3}}, "layer 3"),
        ({"encoder": {"name": "beets"}}, "did you mean `beats`"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AuscultError, match=message):
        network(**changes)


def test_weeks_of_training_are_left_to_a_gpu(shift: tuple[Profile, Path], tmp_path: Path) -> None:
    """Random weights need no checkpoint, so nothing else would keep a laptop from starting the papers' schedules."""
    long = load_method("han").settings.model_validate({"method": "han", "encoder": {"name": "beats", "checkpoint": ""}})
    reason = modelfolder.load(trained(long, shift, tmp_path / "a")).skipped["all"]
    assert "60,000 batches of 32 through 90 M parameters" in reason
    assert "train.long_on_cpu" in reason
    tiny = long.model_copy(update={"encoder": EncoderSettings.model_validate(TINY_ENCODER), "train_steps": 2})
    assert modelfolder.load(trained(tiny, shift, tmp_path / "b")).networks
    asked = TRAIN.model_copy(update={"long_on_cpu": True})
    method = load_method("han")
    assert not auscult.training.arm._too_long(method, long, asked, torch.device("cpu"), 100)
    assert not auscult.training.arm._too_long(method, long, TRAIN, torch.device("cuda"), 100)
