"""Speech models against the library's own models, on folders that the library saved."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auscult.encoders import encoder_kind, hub
from auscult.encoders.base import Encoder
from auscult.encoders.speech import PUBLISHED, position_buckets
from auscult.errors import AuscultError
from support.hubchecks import (
    build,
    check_batch,
    check_blocks,
    check_linear_maps,
    check_training,
    edit,
    noise,
    published,
    stir,
)

transformers = pytest.importorskip("transformers")

HEADED = {
    "wav2vec2": "Wav2Vec2ForPreTraining",
    "hubert": "HubertForCTC",
    "unispeech": "UniSpeechForPreTraining",
    "wavlm": "WavLMForCTC",
}
TINY = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "channels": 16, "positions": 16, "position_groups": 4}
BASE = {"layers": 12, "width": 768, "heads": 12, "ffn": 3072, "pre_norm": 0, "frame_norm": 0, "conv_bias": 0}
KINDS = [(name, large) for name in PUBLISHED for large in (True, False)]


def tiny(name: str, large: bool) -> dict[str, Any]:
    return {**TINY, **({} if large else {"pre_norm": 0, "frame_norm": 0, "conv_bias": 0})}


def save(folder: Path, name: str, large: bool, **changes: Any) -> Any:
    """A folder as on the hub: the tiny model with its heads, and the library's base model of it."""
    config = getattr(transformers, HEADED[name]).config_class(
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[16] * 7,
        conv_bias=large and name != "wavlm",
        do_stable_layer_norm=large,
        feat_extract_norm="layer" if large else "group",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        codevector_dim=8,
        proj_codevector_dim=8,
        **changes,
    )
    model = stir(getattr(transformers, HEADED[name])(config), 0.1)
    model.save_pretrained(folder)
    return getattr(model, name)


def load(encoder: Encoder, name: str, folder: Path) -> Any:
    encoder_kind(name).load(encoder, folder)
    return encoder.eval()


@pytest.mark.parametrize(("name", "large"), KINDS)
def test_tokens_of_the_library(tmp_path: Path, name: str, large: bool) -> None:
    model = save(tmp_path, name, large)
    encoder = load(build(name, tiny(name, large)), name, tmp_path)
    x = noise(2, 8000)
    after: list[Any] = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda *args: after.append(args[2]))
    with torch.no_grad():
        reference = model(x).last_hidden_state
        hidden = [out[0] if isinstance(out, tuple) else out for out in after]
        torch.testing.assert_close(encoder.tokens(x), reference, rtol=1e-4, atol=1e-5)
        for layer in (1, 2):
            torch.testing.assert_close(encoder.tokens(x, layer), hidden[layer - 1], rtol=1e-4, atol=1e-5)
    assert reference.std() > 0.1
    assert not torch.allclose(hidden[0], hidden[1], atol=1e-2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_takes_on_the_sizes_of_the_folder(tmp_path: Path, name: str) -> None:
    model = save(tmp_path, name, False, layer_norm_eps=1e-2, hidden_act="relu")
    encoder = load(published(name), name, tmp_path / "model.safetensors")
    assert (encoder.width, encoder.depth, encoder.pre_norm) == (32, 2, False)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(x := noise(1, 4000)), model(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_folders_without_prefix_with_old_norm_keys_or_as_torch_file(tmp_path: Path, name: str) -> None:
    model = save(tmp_path, name, True)
    x = noise(1, 4000)
    with torch.no_grad():
        reference = model(x)[0]
    keys = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in load_file(tmp_path / "model.safetensors").items():
        new = key.removeprefix(f"{name}.")
        for modern, old in keys.items():
            new = new.replace(modern, old)
        state[new] = value
    assert sum(key.endswith(("weight_g", "weight_v")) for key in state) == 2
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = load(build(name, tiny(name, True)), name, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(x), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "large"), KINDS)
def test_shapes_places_and_batch(name: str, large: bool) -> None:
    encoder = stir(build(name, tiny(name, large)), 0.1)
    assert check_batch(encoder, noise(3, 16_000)).shape == (3, 49, 32)  # 1 + (16000 - 400) // 320
    x = encoder.front_end(noise(2, 4000))
    check_blocks(encoder, x)
    check_linear_maps(encoder, x)
    assert encoder.min_samples == 400
    assert encoder.tokens(torch.zeros(1, 400)).shape == (1, 1, 32)
    assert (encoder.class_token, encoder.spectrogram, encoder.rows) == (False, False, 1)


@pytest.mark.parametrize("name", ["hubert", "wavlm"])
def test_training(name: str) -> None:
    check_training(name, tiny(name, True), noise(2, 4000))


@pytest.mark.parametrize(("name", "large"), KINDS)
def test_front_end_of_the_library(tmp_path: Path, name: str, large: bool) -> None:
    """Models with layer norms in the convolutions get normalised clips, those with a group norm do not; the folder decides."""
    wave = noise(2, 6000) + 0.3
    encoder = build(name, tiny(name, large))
    for normalise in (large, not large):
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise)
        expected = extractor(list(wave.numpy()), sampling_rate=16_000, return_tensors="pt").input_values
        torch.testing.assert_close(encoder.front_end(wave), expected, rtol=1e-5, atol=1e-5)
        save(tmp_path, name, large)
        edit(tmp_path / "preprocessor_config.json", do_normalize=not large)
        load(encoder, name, tmp_path)


def test_position_buckets_of_the_library() -> None:
    config = transformers.WavLMConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4)
    attention = transformers.WavLMModel(config).encoder.layers[0].attention
    offsets = torch.arange(1500)[None] - torch.arange(1500)[:, None]
    ours = position_buckets(1500, config.num_buckets, config.max_bucket_distance, torch.device("cpu"))
    assert torch.equal(ours, attention._relative_positions_bucket(offsets))


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        *((name, {}, 316) for name in PUBLISHED),
        *((name, BASE, 95) for name in ("wav2vec2", "hubert", "wavlm")),
    ],
)
def test_parameters_as_published(name: str, size: dict[str, Any], millions: int) -> None:
    """Han et al., Table I, column "size", in which the heads of pre-training are counted; and the library's count."""
    encoder = published(name, size)
    own = sum(parameter.numel() for parameter in encoder.parameters())
    assert 0.99 < own / 1e6 / millions < 1
    with torch.device("meta"):
        kind = getattr(transformers, HEADED[name])
        large = {} if size else {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        norms = {} if size else {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "intermediate_size": 4096}
        config = kind.config_class(**large, **norms, conv_bias=not size and name != "wavlm")
        model = getattr(kind(config), name)
    assert own == sum(value.numel() for key, value in model.named_parameters() if key != "masked_spec_embed")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path, "hubert", True)
    size = tiny("hubert", True)

    def refused(match: str, name: str = "hubert", path: Path = tmp_path, **other: Any) -> None:
        with pytest.raises(AuscultError, match=match):
            load(build(name, {**size, **other}), name, path)

    refused("a checkpoint of `hubert`, not of the encoder `wav2vec2`", "wav2vec2")
    refused("`width` is 32, not 64.*\n.*\n.*`encoder.size` empty", width=64)
    refused("no such checkpoint", path=tmp_path / "absent")
    refused("no such checkpoint", path=tmp_path / "absent.safetensors")

    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "hubert.encoder.surprise": torch.zeros(2)}, tmp_path / "model.safetensors")
    refused("1 unexpected:\n.*encoder.surprise")
    first = "hubert.encoder.layers.0.attention.k_proj.weight"
    save_file({key: value for key, value in state.items() if key != first}, tmp_path / "model.safetensors")
    refused("1 missing:\n.*layers.0.attention.k_proj.weight")
    save_file({**state, first: torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    refused("1 of another shape")
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused("empty")

    (tmp_path / "model.safetensors").unlink()
    refused("no model.safetensors and no pytorch_model.bin")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused("in one part")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"x": pickle.Pickler}, protocol=2))
    refused("loading it could run code|cut off or damaged")
    torch.save(state, tmp_path / "pytorch_model.bin")
    edit(tmp_path / "config.json", adapter_attn_dim=16)
    refused("`adapter_attn_dim` is 16")
    edit(tmp_path / "config.json", adapter_attn_dim=None, num_attention_heads=5)
    refused("`heads` is 5, not 4")
    edit(tmp_path / "config.json", num_attention_heads="many")
    refused("no hubert: ")
    edit(tmp_path / "config.json", num_attention_heads=4)
    edit(tmp_path / "preprocessor_config.json", sampling_rate=48_000)
    refused("a checkpoint for 48000 Hz")
    (tmp_path / "config.json").write_text("{")
    refused("not JSON")
    (tmp_path / "config.json").unlink()
    refused("no config.json")


def test_settings_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuscultError, match="no size `layer`"):
        build("wavlm", {"layer": 2})
    with pytest.raises(AuscultError, match="can have these sizes"):
        build("wavlm", {**TINY, "heads": 5})
    with pytest.raises(AuscultError, match="there is no layer 3: the encoder has 2"):
        build("hubert", TINY).tokens(torch.zeros(1, 800), 3)

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AuscultError, match=r"transformers(.*\n)*.*\[encoders\]"):
        hub.library()
