"""BEATs as an encoder: the authors' module stage by stage, its files, and what the methods rely on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auscult.encoders.beats import ENCODERS, BeatsEncoder, authors_key, build, load
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import GOLDEN, absolute_error, golden, v

TINY: dict[str, int | float] = {
    "layers": 2,
    "width": 64,
    "ffn": 128,
    "heads": 4,
    "embed": 32,
    "position_kernel": 32,
    "position_groups": 4,
}
TOLERANCE = 2e-5
TABLE = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
CFG: dict[str, Any] = json.loads((GOLDEN / "beats_tiny_config.json").read_text())


def tiny(**settings: Any) -> BeatsEncoder:
    return build(EncoderSettings(size=TINY, **settings)).eval()


def authors_state() -> dict[str, Tensor]:
    """A whole state dict of the authors' module."""
    stored = golden("beats_tiny")
    state = {key.removeprefix("w."): torch.from_numpy(w) for key, w in stored.items() if key.startswith("w.")}
    return {**state, TABLE.format(1): state[TABLE.format(0)].clone()}


def saved(folder: Path, state: dict[str, Any], cfg: dict[str, Any] | None = None) -> Path:
    path = folder / "beats.pt"
    torch.save({"cfg": CFG if cfg is None else cfg, "model": state}, path)
    return path


@pytest.fixture
def golden_encoder(tmp_path: Path) -> BeatsEncoder:
    encoder = tiny()
    load(encoder, saved(tmp_path, authors_state()))
    return encoder


def test_every_stage_as_the_authors_module(golden_encoder: BeatsEncoder) -> None:
    stored, network = golden("beats_tiny"), golden_encoder.network
    stages = {
        "patch_conv": network.patch,
        "patch_ln": network.patch_norm,
        "post_extract_proj": network.project,
        "pos_conv": network.position,
        "encoder_ln": network.norm,
        "relbias_layer0": network.relative,
        "layer0_attn": network.layers[0].attention,
        "layer0": network.layers[0],
        "layer1_attn": network.layers[1].attention,
        "layer1": network.layers[1],
    }
    seen: dict[str, Tensor] = {}
    for name, module in stages.items():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        seen["output"] = golden_encoder.tokens(torch.from_numpy(stored["in.fbank"]))
    assert seen["output"].shape == (2, 13 * golden_encoder.rows, 64)  # three of the 211 frames are dropped
    seen["pos_conv"] = seen["pos_conv"].transpose(1, 2)
    for name, value in seen.items():
        assert absolute_error(value, stored[f"out.{name}"]) < TOLERANCE, name
    assert absolute_error(seen["relbias_layer0"], stored["out.relbias_layer0"]) == 0


def test_double_precision_as_the_authors_module(golden_encoder: BeatsEncoder) -> None:
    stored = golden("beats_tiny")
    with torch.no_grad():
        ours = golden_encoder.double().tokens(torch.from_numpy(stored["in.fbank"]).double())
    assert absolute_error(ours, stored["out.output_float64"]) < 2e-6  # theirs has one GELU in float32


def test_masked_as_the_authors_module(golden_encoder: BeatsEncoder) -> None:
    stored = golden("beats_tiny")
    x, padding = torch.from_numpy(stored["in.fbank"]), torch.from_numpy(stored["mask.frames"])
    with torch.no_grad():
        ours = golden_encoder.tokens(x, padding=padding)
    kept = torch.from_numpy(~stored["mask.tokens"])
    assert absolute_error(ours[kept], stored["out.masked_output"][kept.numpy()]) < TOLERANCE
    assert absolute_error(ours[1][kept[1]], stored["out.output"][1][kept[1].numpy()]) > 1e-3


def test_front_end() -> None:
    stored = golden("kaldi_fbank")
    ours = tiny().front_end(torch.from_numpy(stored["wav"])[None])
    assert absolute_error(ours[0], stored["beats_normalised"]) < 1e-5


def test_shortest_clip() -> None:
    encoder = tiny()
    assert encoder.min_samples == 2800
    wave = torch.from_numpy(v("beats/wave", (2, 2800))).float()
    with torch.no_grad():
        assert encoder.tokens(encoder.front_end(wave)).shape == (2, 8, 64)
    with pytest.raises(AuscultError, match=r"2799 samples.*2800"):
        encoder.front_end(wave[:, 1:])


def test_no_such_layer() -> None:
    with pytest.raises(AuscultError, match="no layer 3") as caught:
        tiny().tokens(torch.zeros(1, 16, 128), 3)
    assert caught.value.where == "encoder.layer"


def test_published_size_through_the_authors_file(tmp_path: Path) -> None:
    encoder = ENCODERS["beats"].build(EncoderSettings())
    assert isinstance(encoder, BeatsEncoder)
    assert (encoder.width, encoder.depth, encoder.rows, encoder.class_token) == (768, 12, 8, False)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 90_311_792
    state = {authors_key(key): w.detach() for key, w in encoder.network.state_dict().items()}
    state |= {TABLE.format(layer): state[TABLE.format(0)] for layer in range(1, 12)}
    assert len(state) == 250
    assert sum(w.numel() for w in state.values()) == 90_354_032
    assert state["encoder.pos_conv.0.weight_v"].shape == (768, 48, 128)
    assert state["encoder.layers.11.fc1.weight"].shape == (3072, 768)

    published = {
        **CFG,
        "encoder_layers": 12,
        "encoder_embed_dim": 768,
        "encoder_ffn_embed_dim": 3072,
        "encoder_attention_heads": 12,
        "conv_pos": 128,
        "conv_pos_groups": 16,
        "embed_dim": 512,
    }
    wave = 0.1 * torch.from_numpy(v("beats/second", (1, 16_000))).float()
    with torch.no_grad():
        x = encoder.eval().front_end(wave)
        expected = encoder.tokens(x)
    path = saved(tmp_path, state, published)
    other = ENCODERS["beats"].build(EncoderSettings()).eval()
    with torch.no_grad():
        assert not torch.equal(other.tokens(x), expected)
        ENCODERS["beats"].load(other, path)
        assert torch.equal(other.tokens(x), expected)
    assert expected.shape == (1, 6 * 8, 768)
    path.unlink()


def tokens_of(path: Path) -> Tensor:
    encoder = tiny()
    load(encoder, path)
    with torch.no_grad():
        return encoder.tokens(torch.from_numpy(golden("beats_tiny")["in.fbank"]))


def test_every_form_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = authors_state()
    expected = tokens_of(saved(tmp_path, state))

    bare = tmp_path / "bare.pt"
    torch.save(state, bare)
    assert torch.equal(tokens_of(bare), expected)

    save_file(state, tmp_path / "beats.safetensors")
    assert torch.equal(tokens_of(tmp_path / "beats.safetensors"), expected)

    once = {key: w for key, w in state.items() if key != TABLE.format(0)}  # safetensors keeps one of several names
    assert torch.equal(tokens_of(saved(tmp_path, once)), expected)

    start = "encoder.pos_conv.0."
    recent = dict(state)
    recent[f"{start}parametrizations.weight.original0"] = recent.pop(f"{start}weight_g")
    recent[f"{start}parametrizations.weight.original1"] = recent.pop(f"{start}weight_v")
    assert torch.equal(tokens_of(saved(tmp_path, recent)), expected)

    assert not caplog.records
    tuned = {**state, "predictor.weight": torch.zeros(527, 64), "predictor.bias": torch.zeros(527)}
    with caplog.at_level(logging.WARNING):
        assert torch.equal(tokens_of(saved(tmp_path, tuned, {**CFG, "finetuned_model": True})), expected)
    assert "predictor.weight, predictor.bias" in caplog.text


def refused(folder: Path, state: dict[str, Any], cfg: dict[str, Any] | None = None) -> str:
    """Message of the error; the encoder must be as before."""
    encoder = tiny()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    path = saved(folder, state, cfg)
    with pytest.raises(AuscultError) as caught:
        load(encoder, path)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_keys(tmp_path: Path) -> None:
    state = authors_state()
    for key in ("encoder.layers.1.fc1.weight", "encoder.pos_conv.0.weight_g", "layer_norm.bias"):
        rest = {name: w for name, w in state.items() if name != key}
        message = refused(tmp_path, rest)
        assert key in message
        assert "1 of 49" in message
    rest = {name: w for name, w in state.items() if "relative_attention_bias" not in name}
    assert TABLE.format(0) in refused(tmp_path, rest)


def test_unexpected_keys(tmp_path: Path) -> None:
    extra = {"encoder.layers.2.fc1.weight": torch.zeros(128, 64), "quantize.embedding": torch.zeros(3)}
    message = refused(tmp_path, {**authors_state(), **extra})
    assert "encoder.layers.2.fc1.weight" in message
    assert "quantize.embedding" in message


def test_wrong_shape(tmp_path: Path) -> None:
    message = refused(tmp_path, {**authors_state(), "encoder.layers.0.fc2.bias": torch.zeros(65)})
    assert "fc2.bias" in message
    assert "65" in message
    assert "64" in message


def test_bias_tables_that_differ(tmp_path: Path) -> None:
    state = authors_state()
    state[TABLE.format(1)][7, 2] += 1e-3
    assert TABLE.format(1) in refused(tmp_path, state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_distance", 1280),
        ("num_buckets", 640),
        ("deep_norm", False),
        ("layer_norm_first", True),
        ("gru_rel_pos", False),
        ("relative_position_embedding", False),
        ("activation_fn", "relu"),
        ("encoder_attention_heads", 8),
        ("input_patch_size", 8),
        ("encoder_layers", 12),
    ],
)
def test_another_architecture(tmp_path: Path, key: str, value: object) -> None:
    assert f"{key} is {value}" in refused(tmp_path, authors_state(), {**CFG, key: value})
    # What the authors' class makes of an absent key counts.
    message = ""
    rest = {name: setting for name, setting in CFG.items() if name != key}
    if key in ("max_distance", "deep_norm", "gru_rel_pos", "relative_position_embedding", "input_patch_size"):
        message = refused(tmp_path, authors_state(), rest)
        assert f"{key} is " in message
        assert "by default" in message


def test_another_max_distance_is_another_network(tmp_path: Path) -> None:
    """An encoder of the file's distance takes it, and its tokens show it."""
    path = saved(tmp_path, authors_state(), {**CFG, "max_distance": 100})
    encoder = build(EncoderSettings(size={**TINY, "max_distance": 100})).eval()
    load(encoder, path)
    stored = golden("beats_tiny")
    with torch.no_grad():
        ours = encoder.tokens(torch.from_numpy(stored["in.fbank"]))
    assert absolute_error(ours, stored["out.output"]) > 1e-4


def test_settings_of_training_are_not_taken_from_the_file(tmp_path: Path) -> None:
    encoder = tiny(layerdrop=0.1, gradient_decay=0.9)
    load(encoder, saved(tmp_path, authors_state(), {**CFG, "encoder_layerdrop": 0.05, "dropout": 0.1}))
    assert (encoder.network.layerdrop, encoder.network.gradient_decay) == (0.1, 0.9)


@pytest.mark.parametrize(("cfg", "model"), [(None, {}), ({}, [1, 2]), (3, {})])
def test_not_the_authors_file(tmp_path: Path, cfg: object, model: object) -> None:
    torch.save({"cfg": cfg, "model": model}, tmp_path / "odd.pt")
    with pytest.raises(AuscultError, match="mapping"):
        load(tiny(), tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"layer": 3}, "no size `layer`"),
        ({"layers": 0}, "layers is 0"),
        ({"width": 96.5}, "width is 96.5"),
        ({"heads": 7}, "heads"),
        ({"position_groups": 7}, "position_groups"),
        ({"patch": 24}, "patch"),
        ({"buckets": 30}, "30 buckets"),
        ({"max_distance": 80}, "max_distance of 80"),
    ],
)
def test_impossible_sizes(size: dict[str, int | float], words: str) -> None:
    with pytest.raises(AuscultError, match=words):
        build(EncoderSettings(size={**TINY, **size}))


def test_switches_reach_the_network() -> None:
    network = tiny(layerdrop=0.25, gradient_decay=0.5, activation_checkpointing=True).network
    assert (network.layerdrop, network.gradient_decay, network.activation_checkpointing) == (0.25, 0.5, True)


def test_linear_maps_are_called_and_replaceable() -> None:
    encoder, x = tiny(), torch.from_numpy(golden("beats_tiny")["in.fbank"])[:, :32]
    roles = ("q", "k", "v", "out", "fc1", "fc2")
    with torch.no_grad():
        plain = encoder.tokens(x)
        for role in roles:
            names = encoder.linear_maps(role)
            assert len(names) == encoder.depth
            for name in names:
                linear = encoder.get_submodule(name)
                assert isinstance(linear, nn.Linear)
                encoder.set_submodule(name, nn.Sequential(linear, nn.Linear(linear.out_features, linear.out_features)))
                changed = encoder.tokens(x)
                assert not torch.equal(changed, plain), name
                encoder.set_submodule(name, linear)
        assert torch.equal(encoder.tokens(x), plain)


class Recorder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        y: Tensor = self.inner(x, *others)
        self.seen.append((x, y))
        return y


def test_blocks_see_the_hidden_states() -> None:
    encoder, x = tiny(), torch.from_numpy(golden("beats_tiny")["in.fbank"])
    recorders: dict[str, list[Recorder]] = {"attention": [], "ffn": [], "layer": []}
    for place in ("attention", "ffn", "layer"):  # the outer one last: it keeps the inner ones
        for name in encoder.blocks(place):
            recorders[place].append(Recorder(encoder.get_submodule(name)))
            encoder.set_submodule(name, recorders[place][-1])
    with torch.no_grad():
        output = encoder.tokens(x)
    for index in range(2):
        (entering, leaving), *rest = recorders["layer"][index].seen
        assert not rest
        (hidden, attended), *_ = recorders["attention"][index].seen
        assert torch.equal(hidden, entering)
        (middle, added), *_ = recorders["ffn"][index].seen
        layer = recorders["layer"][index].inner
        alpha = (2 * 2) ** 0.25
        assert torch.allclose(layer.attention_norm(alpha * hidden + attended), middle, atol=1e-6)
        assert torch.allclose(layer.ffn_norm(alpha * middle + added), leaving, atol=1e-6)
    assert torch.equal(recorders["layer"][1].seen[0][1], output)
