"""CLAP's audio branch against the library's own model and feature extractor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from safetensors.torch import load_file, save_file
from torch import Tensor

from auscult.encoders import encoder_kind
from auscult.errors import AuscultError
from support.hubchecks import build, check_batch, check_linear_maps, check_training, edit, noise, published, stir

transformers = pytest.importorskip("transformers")

TINY = {"width": 64, "heads": 8, "stage1": 1, "stage2": 2, "stage3": 2, "stage4": 2}
AUDIO = {
    "hidden_size": 64,
    "patch_embeds_hidden_size": 8,
    "num_attention_heads": [1, 2, 4, 8],
    "depths": [1, 2, 2, 2],
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
}


def save(folder: Path, **changes: Any) -> Any:
    """A folder as on the hub: a tiny model with text branch and projections; gives its audio branch."""
    config = transformers.ClapConfig(text_config=TEXT, audio_config={**AUDIO, **changes}, projection_dim=8)
    model = stir(transformers.ClapModel(config), 0.1)
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.copy_(torch.linspace(-60, -20, 64))  # of dB values, as training leaves them
    norm.running_var.copy_(torch.linspace(50, 200, 64))
    model.save_pretrained(folder)
    return model.audio_model


def load(folder: Path, size: dict[str, Any] | None = None) -> Any:
    encoder = build("clap", size or TINY)
    encoder_kind("clap").load(encoder, folder)
    return encoder.eval()


def extracted(wave: Tensor, **options: Any) -> Tensor:
    """What the library makes of clips at 16 kHz that were resampled: [B, 1, 1001, 64]."""
    options = {"frequency_min": 50, "truncation": "rand_trunc", **options}
    extractor = transformers.ClapFeatureExtractor(**options)
    clips = torchaudio.functional.resample(wave, 16_000, 48_000)
    return extractor(list(clips.double().numpy()), sampling_rate=48_000, return_tensors="pt").input_features.float()


def in_our_order(hidden: Tensor) -> Tensor:
    """[B, D, 2 rows, 32 steps] -> [B, 32 * 2, D]."""
    return hidden.permute(0, 3, 2, 1).flatten(1, 2)


@pytest.mark.parametrize("samples", [160_000, 32_000, 70_000])
def test_tokens_of_the_library(tmp_path: Path, samples: int) -> None:
    """From the waveform on: front end, fold, windows, merging. Clips of 2 s fill 10 s five times, those of 4.4 s twice."""
    model = save(tmp_path)
    encoder = load(tmp_path)
    wave = noise(2, samples)
    last: list[Tensor] = []
    for block in model.audio_encoder.layers[-1].blocks:
        block.register_forward_hook(lambda *args: last.append(args[2][0]))
    with torch.no_grad():
        expected = model(extracted(wave)).last_hidden_state
        x = encoder.front_end(wave)
        torch.testing.assert_close(encoder.tokens(x), in_our_order(expected), rtol=1e-3, atol=1e-3)
        assert expected.std() > 0.3
        # Layers of the last stage: the library folds its output after the final norm, so ours is normed and then compared.
        after = encoder.tokens(x, encoder.depth)
        torch.testing.assert_close(encoder.network.norm(after), encoder.tokens(x), rtol=1e-5, atol=1e-5)
        first = encoder.tokens(x, encoder.depth - 1)
        torch.testing.assert_close(first.sum(1), last[0].sum(1), rtol=1e-3, atol=1e-2)
        assert not torch.allclose(first, after, atol=1e-2)


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_front_end_of_the_library(tmp_path: Path, truncation: str) -> None:
    save(tmp_path)
    edit(tmp_path / "preprocessor_config.json", frequency_min=0, frequency_max=12_000, truncation=truncation)
    encoder = load(tmp_path)
    wave = noise(2, 48_000)
    expected = extracted(wave, frequency_min=0, frequency_max=12_000, truncation=truncation)[:, 0]
    norm = encoder.network.batch_norm
    ours = encoder.front_end(wave) * torch.sqrt(norm.running_var + norm.eps) + norm.running_mean
    heard = torch.linspace(0, 12_000, 64) < 5000  # above 8 kHz there is only what rounding leaves
    torch.testing.assert_close(ours[..., heard], expected[..., heard], rtol=1e-4, atol=2e-3)
    assert (10 ** (ours[..., ~heard] / 10) - 10 ** (expected[..., ~heard] / 10)).abs().max() < 1e-3


def test_longer_clips_lose_their_end() -> None:
    encoder = build("clap", TINY)
    wave = noise(1, 200_000)
    assert torch.equal(encoder.front_end(wave), encoder.front_end(wave[:, :160_000]))


def test_running_statistics_stay_and_serve_in_training(tmp_path: Path) -> None:
    """Otherwise a clip's tokens would depend on the others in its batch, and drift though nothing is trained."""
    save(tmp_path)
    encoder = load(tmp_path)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with torch.no_grad():
        expected = encoder.tokens(encoder.front_end(noise(2, 16_000)))
        encoder.train()
        assert torch.equal(encoder.tokens(encoder.front_end(noise(2, 16_000))), expected)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_takes_on_the_folder(tmp_path: Path) -> None:
    model = save(tmp_path, layer_norm_eps=1e-2, hidden_act="relu")
    encoder = published("clap")
    encoder_kind("clap").load(encoder, tmp_path / "model.safetensors")
    encoder.eval()
    assert (encoder.width, encoder.depth, encoder.rows) == (64, 7, 2)
    wave = noise(1, 80_000)
    with torch.no_grad():
        expected = in_our_order(model(extracted(wave)).last_hidden_state)
        torch.testing.assert_close(encoder.tokens(encoder.front_end(wave)), expected, rtol=1e-3, atol=1e-3)


def test_audio_branch_saved_alone_without_constants(tmp_path: Path) -> None:
    model = save(tmp_path)
    model.save_pretrained(tmp_path / "alone")
    file = tmp_path / "alone" / "model.safetensors"
    state = {key: value for key, value in load_file(file).items() if not key.endswith("position_index")}
    save_file(state, file)
    one, other = load(tmp_path), load(tmp_path / "alone")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_shapes_places_and_batch() -> None:
    encoder = stir(build("clap", TINY), 0.1)
    assert check_batch(encoder, noise(2, 20_000)).shape == (2, 64, 64)
    check_linear_maps(encoder, encoder.front_end(noise(1, 20_000)))
    assert torch.isfinite(encoder.tokens(encoder.front_end(noise(1, encoder.min_samples)))).all()
    assert (encoder.class_token, encoder.spectrogram) == (False, True)
    for place in ("attention", "ffn", "layer"):
        with pytest.raises(AuscultError, match=f"group adapter at `{place}` is not possible"):
            encoder.blocks(place)


def test_training() -> None:
    check_training("clap", TINY, noise(1, 20_000))


def test_parameters_as_published() -> None:
    """Han et al., Table I, column "size": 194 M with the text branch; and the library's count."""
    audio = {"hidden_size": 1024, "patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}
    with torch.device("meta"):
        model = transformers.ClapModel(transformers.ClapConfig(audio_config=audio))
    own = sum(parameter.numel() for parameter in published("clap").parameters())
    assert own == sum(parameter.numel() for parameter in model.audio_model.parameters())
    assert math.isclose(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 194, rel_tol=1e-3)


def test_folders_and_sizes_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(AuscultError, match="`stage3` is 2, not 4"):
        load(tmp_path, {**TINY, "stage3": 4})
    with pytest.raises(AuscultError, match="width 60 and heads 8"):
        build("clap", {**TINY, "width": 60})
    encoder = load(tmp_path)
    x = encoder.front_end(noise(1, 16_000))
    with pytest.raises(AuscultError, match=r"layer 5 of CLAP is narrower(.|\n)*use 0, or 6 to 7"):
        encoder.tokens(x, 5)
    with pytest.raises(AuscultError, match="there is no layer 8"):
        encoder.tokens(x, 8)

    edit(tmp_path / "preprocessor_config.json", hop_length=320)
    with pytest.raises(AuscultError, match="`hop_length` of the front end is 320, not 480"):
        load(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    key = "audio_model.audio_encoder.norm.weight"
    save_file({name: value for name, value in state.items() if name != key}, tmp_path / "model.safetensors")
    with pytest.raises(AuscultError, match=r"1 missing:\n.*network.norm.weight"):
        load(tmp_path)
    edit(tmp_path / "config.json", audio_config={**AUDIO, "enable_fusion": True})
    with pytest.raises(AuscultError, match="`enable_fusion` is True"):
        load(tmp_path)
    edit(tmp_path / "config.json", model_type="clap_text_model")
    with pytest.raises(AuscultError, match="a checkpoint of `clap_text_model`"):
        load(tmp_path)
