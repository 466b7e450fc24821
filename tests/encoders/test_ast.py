"""AST against the library's own model and feature extractor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auscult.encoders import encoder_kind
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

TINY = {"layers": 2, "width": 32, "heads": 4, "ffn": 48, "frames": 68}
ROWS, COLUMNS = 12, 6  # (128 - 16) // 10 + 1 and (68 - 16) // 10 + 1
FULL = 400 + 67 * 160  # samples of 68 frames
OLD = (  # names in the files of the hub, which were saved before the library renamed its modules
    (r"\.layers\.(\d+)\.attention\.o_proj\.", r".encoder.layer.\1.attention.output.dense."),
    (r"\.layers\.(\d+)\.attention\.q_proj\.", r".encoder.layer.\1.attention.attention.query."),
    (r"\.layers\.(\d+)\.attention\.k_proj\.", r".encoder.layer.\1.attention.attention.key."),
    (r"\.layers\.(\d+)\.attention\.v_proj\.", r".encoder.layer.\1.attention.attention.value."),
    (r"\.layers\.(\d+)\.mlp\.fc1\.", r".encoder.layer.\1.intermediate.dense."),
    (r"\.layers\.(\d+)\.mlp\.fc2\.", r".encoder.layer.\1.output.dense."),
    (r"\.layers\.(\d+)\.layernorm", r".encoder.layer.\1.layernorm"),
)


def save(folder: Path, **changes: Any) -> Any:
    """A folder as on the hub: a tiny model with its AudioSet head; gives the library's base model of it."""
    config = transformers.ASTConfig(
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=48,
        max_length=68,
        **changes,
    )
    model = stir(transformers.ASTForAudioClassification(config), 0.1)
    model.save_pretrained(folder)
    return model.audio_spectrogram_transformer


def load(folder: Path, size: dict[str, Any] | None = None) -> Any:
    encoder = build("ast", size or TINY)
    encoder_kind("ast").load(encoder, folder)
    return encoder.eval()


def in_our_order(hidden: Tensor, columns: int = COLUMNS) -> Tensor:
    """Two special tokens and frequency-major patches -> their mean and time-major patches."""
    patches = hidden[:, 2:].reshape(len(hidden), ROWS, columns, -1).transpose(1, 2).flatten(1, 2)
    return torch.cat([hidden[:, :2].mean(1, keepdim=True), patches], dim=1)


@pytest.mark.parametrize("names", ["as saved", "library", "hub"])
def test_tokens_of_the_library(tmp_path: Path, names: str) -> None:
    model = save(tmp_path)
    if names != "as saved":
        state = {f"audio_spectrogram_transformer.{key}": value for key, value in model.state_dict().items()}
        for pattern, old in OLD if names == "hub" else ():
            state = {re.sub(pattern, old, key): value for key, value in state.items()}
        assert ("audio_spectrogram_transformer.encoder.layer.1.output.dense.bias" in state) == (names == "hub")
        head = {"classifier.dense.bias": torch.zeros(2), "classifier.layernorm.bias": torch.zeros(32)}
        save_file({**state, **head}, tmp_path / "model.safetensors")
    encoder = load(tmp_path)
    after: list[Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *args: after.append(args[2]))
    x = encoder.front_end(noise(2, FULL))
    with torch.no_grad():
        output = model(x)
        tokens = encoder.tokens(x)
        torch.testing.assert_close(tokens, in_our_order(output.last_hidden_state), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tokens[:, 0], output.pooler_output, rtol=1e-4, atol=1e-5)
        for layer in (1, 2):
            torch.testing.assert_close(encoder.tokens(x, layer), in_our_order(after[layer - 1]), rtol=1e-4, atol=1e-5)
    assert output.last_hidden_state.std() > 0.1


@pytest.mark.parametrize("samples", [160_000, 16_000, 200_000])
def test_front_end_of_the_library(samples: int) -> None:
    """The library fills short clips with zeros up to 1024 frames and cuts long ones; ours keeps short ones short."""
    encoder = build("ast", {**TINY, "frames": 1024})
    wave = noise(2, samples)
    extractor = transformers.ASTFeatureExtractor()
    expected = extractor(list(wave.numpy()), sampling_rate=16_000, return_tensors="pt").input_values
    ours = encoder.front_end(wave)
    frames = min(1024, 1 + (samples - 400) // 160)
    assert ours.shape == (2, frames, 128)
    torch.testing.assert_close(ours, expected[:, :frames], rtol=1e-4, atol=1e-4)
    assert encoder.tokens(ours).shape == (2, 1 + 12 * ((frames - 16) // 10 + 1), 32)


def test_short_clips_have_the_first_places(tmp_path: Path) -> None:
    """A model whose position table holds the first steps alone gives the same tokens."""
    model = save(tmp_path)
    short = transformers.ASTModel(transformers.ASTConfig.from_dict({**model.config.to_dict(), "max_length": 36})).eval()
    state = model.state_dict()
    table = state["embeddings.position_embeddings"]
    patches = table[:, 2:].reshape(1, ROWS, COLUMNS, 32)[:, :, :3].reshape(1, ROWS * 3, 32)
    short.load_state_dict({**state, "embeddings.position_embeddings": torch.cat([table[:, :2], patches], dim=1)})
    encoder = load(tmp_path)
    x = encoder.front_end(noise(1, 400 + 35 * 160))
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(x), in_our_order(short(x)[0], 3), rtol=1e-4, atol=1e-5)


def test_takes_on_the_folder(tmp_path: Path) -> None:
    model = save(tmp_path, layer_norm_eps=1e-2, frequency_stride=16)
    edit(tmp_path / "preprocessor_config.json", mean=-1.0, std=2.0)
    encoder = published("ast")
    encoder_kind("ast").load(encoder, tmp_path)
    assert (encoder.width, encoder.depth, encoder.rows) == (32, 2, 8)
    x = noise(1, 68 * 128).reshape(1, 68, 128)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(x)[:, 0], model(x).pooler_output, rtol=1e-4, atol=1e-5)
    extractor = transformers.ASTFeatureExtractor(mean=-1.0, std=2.0, max_length=68)
    expected = extractor(noise(1, FULL)[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    torch.testing.assert_close(encoder.front_end(noise(1, FULL)), expected, rtol=1e-4, atol=1e-4)


def test_shapes_places_and_batch() -> None:
    encoder = stir(build("ast", TINY), 0.1)
    assert check_batch(encoder, noise(3, FULL + 500)).shape == (3, 1 + ROWS * COLUMNS, 32)
    x = encoder.front_end(noise(2, 6000))
    check_blocks(encoder, x)
    check_linear_maps(encoder, x)
    assert encoder.tokens(encoder.front_end(noise(1, encoder.min_samples))).shape == (1, 1 + ROWS, 32)
    with pytest.raises(RuntimeError):
        encoder.tokens(encoder.front_end(noise(1, encoder.min_samples - 1)))
    assert (encoder.class_token, encoder.spectrogram, encoder.rows) == (True, True, ROWS)


def test_training() -> None:
    check_training("ast", TINY, noise(2, 6000))


def test_parameters_as_published() -> None:
    """Han et al., Table I, column "size": 86 M; and the library's count."""
    encoder = published("ast")
    own = sum(parameter.numel() for parameter in encoder.parameters())
    assert round(own / 1e6) == 86
    with torch.device("meta"):
        assert own == sum(p.numel() for p in transformers.ASTModel(transformers.ASTConfig()).parameters())


def test_folders_and_sizes_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(AuscultError, match="`frames` is 68, not 100"):
        load(tmp_path, {**TINY, "frames": 100})
    with pytest.raises(AuscultError, match="no size `patches`"):
        build("ast", {"patches": 3})
    with pytest.raises(AuscultError, match="70 frames, but the encoder knows 68 places"):
        load(tmp_path).tokens(torch.zeros(1, 70, 128))
    with pytest.raises(AuscultError, match="there is no layer 3"):
        load(tmp_path).tokens(torch.zeros(1, 60, 128), 3)

    edit(tmp_path / "preprocessor_config.json", do_normalize=False)
    with pytest.raises(AuscultError, match="not normalised"):
        load(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "surprise": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(AuscultError, match=r"1 unexpected:\n.*surprise"):
        load(tmp_path)
    edit(tmp_path / "config.json", model_type="vit")
    with pytest.raises(AuscultError, match="a checkpoint of `vit`"):
        load(tmp_path)
