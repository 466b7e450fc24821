"""Speech models on waveforms: wav2vec 2.0, HuBERT, UniSpeech and WavLM.

Seven convolutions turn 16 kHz samples into frames of 25 ms every 20 ms; a Transformer with a convolutional position
embedding follows. (Baevski et al., NeurIPS 2020; Hsu et al., TASLP 2021; Wang et al., ICML 2021; Chen et al., JSTSP 2022.)
The published default is the large model of each; the size of a checkpoint comes from its config.json.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auscult.encoders.base import EncoderKind, sized
from auscult.encoders.hub import (
    SIZES,
    HubEncoder,
    Layer,
    SelfAttention,
    built,
    chosen,
    configured,
    differ,
    library,
    open_folder,
    renamed,
    same_sizes,
)
from auscult.encoders.weights import load_strict
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings

LARGE = {
    "layers": 24,
    "width": 1024,
    "heads": 16,
    "ffn": 4096,
    "channels": 512,  # of the convolutions
    "positions": 128,  # kernel of the position embedding
    "position_groups": 16,
    "pre_norm": 1,  # norms before attention and ffn; base models: 0, after the sums
    "frame_norm": 1,  # a layer norm in each convolution; base models: 0, one group norm over the clip in the first
    "conv_bias": 1,
}
PUBLISHED: dict[str, dict[str, int | float]] = {
    "wav2vec2": {**LARGE},
    "hubert": {**LARGE},
    "unispeech": {**LARGE},
    "wavlm": {**LARGE, "conv_bias": 0, "buckets": 320, "distance": 800},
}
"""Sizes of the large model of each. Base models: 12 layers, width 768, 12 heads, ffn 3072, and the last three are 0."""

CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "unispeech": "UniSpeech", "wavlm": "WavLM"}

_NAMES = {
    **SIZES,
    "positions": "num_conv_pos_embeddings",
    "position_groups": "num_conv_pos_embedding_groups",
    "buckets": "num_buckets",
    "distance": "max_bucket_distance",
}
_NO_DROPOUT = {
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "apply_spec_augment": False,
}
_KEYS = (
    *_NAMES.values(),
    *("hidden_act", "layer_norm_eps", "do_stable_layer_norm", "feat_extract_norm", "feat_extract_activation"),
    *("conv_dim", "conv_stride", "conv_kernel", "conv_bias", "feat_proj_layer_norm", "conv_pos_batch_norm"),
)
_UNUSED = (
    "masked_spec_embed",
    *("quantizer", "project_q", "project_hid", "ctc_proj", "final_proj", "label_embs_concat"),  # of pre-training
    *("lm_head", "projector", "classifier", "layer_weights"),  # of fine-tuned models
)
_RULES = (
    (r"^feature_extractor\.conv_layers\.", "convolutions."),
    (r"^feature_projection\.", "projection."),
    (r"^encoder\.pos_conv_embed\.", "positions."),
    (r"^encoder\.layer_norm\.", "norm."),
    (r"^encoder\.layers\.0\.attention\.rel_attn_embed\.", "relative."),
    (r"^encoder\.layers\.(\d+)\.attention\.", r"layers.\1.attention."),
    (r"^encoder\.layers\.(\d+)\.layer_norm\.", r"layers.\1.attention_norm."),
    (r"^encoder\.layers\.(\d+)\.feed_forward\.", r"layers.\1.ffn."),
    (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"layers.\1.ffn_norm."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),  # the older of two ways to write a weight norm
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


class GatedAttention(SelfAttention):
    """Attention of WavLM: a position bias, scaled per query and head by two gates (Chen et al. 2022, eq. 4-6).

    The gates look at the hidden state entering the attention, cut into heads.
    """

    def __init__(self, attention: Any, heads: int) -> None:
        super().__init__((attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj), heads)
        self.gru_rel_pos_linear = attention.gru_rel_pos_linear
        self.gru_rel_pos_const = attention.gru_rel_pos_const

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Tokens [B, T, D] and position bias [heads, T, T] -> [B, T, D]."""
        by_head = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        update, reset = torch.sigmoid(self.gru_rel_pos_linear(by_head).unflatten(-1, (2, 4)).sum(-1)).split(1, -1)
        gate = update * (reset * self.gru_rel_pos_const - 1) + 2  # [B, heads, T, 1]
        return super().forward(x, gate * bias)


def position_buckets(tokens: int, buckets: int, distance: int, device: torch.device) -> Tensor:
    """Bucket of every pair [query, key]: half of the buckets for each direction, in it half exact and half logarithmic."""
    place = torch.arange(tokens, device=device)
    offset = place[None, :] - place[:, None]
    half, exact = buckets // 2, buckets // 4
    far = offset.abs().float().clamp(min=1)  # log(0) never counts: it is exact
    log = exact + (torch.log(far / exact) / math.log(distance / exact) * (half - exact)).long()
    return half * (offset > 0) + torch.where(offset.abs() < exact, offset.abs(), log.clamp(max=half - 1))


class SpeechEncoder(HubEncoder):
    """wav2vec 2.0, HuBERT, UniSpeech or WavLM; one token every 320 samples, no class token."""

    spectrogram = False
    maps = ("intermediate_dense", "output_dense")

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        super().__init__(settings)
        self.name = name
        size = sized(PUBLISHED[name], settings, name)
        values: dict[str, Any] = {_NAMES[key]: int(value) for key, value in size.items() if key in _NAMES}
        values |= {
            "conv_dim": [int(size["channels"])] * 7,
            "conv_bias": bool(size["conv_bias"]),
            "do_stable_layer_norm": bool(size["pre_norm"]),
            "feat_extract_norm": "layer" if size["frame_norm"] else "group",
        }
        self.assemble(values, "encoder.size")
        self.normalise = bool(
            size["frame_norm"]
        )  # the models were trained so: fairseq's `normalize` goes with that norm

    def assemble(self, values: dict[str, Any], where: str) -> None:
        """Random weights in the sizes of `values`, named as in a config.json.

        Raises:
            AuscultError: values that make no network.
        """
        kind = CLASSES[self.name]
        config = configured(getattr(library(), f"{kind}Config"), {**values, **_NO_DROPOUT}, where)
        model = built(getattr(library(), f"{kind}Model"), config, where)
        self.config = config
        self.width, self.depth = config.hidden_size, config.num_hidden_layers
        self.pre_norm = config.do_stable_layer_norm
        # Its own forward would have the graph kept through the convolutions even when nothing in them is trained.
        self.convolutions = model.feature_extractor.conv_layers
        self.projection = model.feature_projection
        self.positions = model.encoder.pos_conv_embed
        self.norm = model.encoder.layer_norm
        self.layers = nn.ModuleList()
        for layer in model.encoder.layers:
            old, heads = layer.attention, config.num_attention_heads
            attention = (
                GatedAttention(old, heads)
                if self.name == "wavlm"
                else SelfAttention((old.q_proj, old.k_proj, old.v_proj, old.out_proj), heads)
            )
            parts = (attention, layer.layer_norm, layer.feed_forward, layer.final_layer_norm)
            self.layers.append(Layer(*parts, pre_norm=self.pre_norm))
        if self.name == "wavlm":
            self.relative = model.encoder.layers[0].attention.rel_attn_embed
            self.distance = config.max_bucket_distance
        self.min_samples = 1
        for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
            self.min_samples = (self.min_samples - 1) * stride + kernel
        self.train(self.training)

    def front_end(self, wave: Tensor) -> Tensor:
        """float32 [B, n] at 16 kHz -> [B, n]; with zero mean and unit variance per clip where the model was trained so."""
        if not self.normalise:
            return wave
        variance, mean = torch.var_mean(wave, dim=1, correction=0, keepdim=True)
        return (wave - mean) / torch.sqrt(variance + 1e-7)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """Waveform [B, n] -> [B, T, D]; 0 = after the last layer and the final norm of pre-norm models."""
        x = x[:, None]
        for convolution in self.convolutions:
            x = convolution(x)
        projected = self.projection(x.transpose(1, 2))
        x = projected[0] if isinstance(projected, tuple) else projected
        x = x + self.positions(x)
        if not self.pre_norm:
            x = self.norm(x)
        extra: tuple[Tensor, ...] = ()
        if self.name == "wavlm":
            buckets = position_buckets(x.shape[1], self.relative.num_embeddings, self.distance, x.device)
            extra = (self.relative(buckets).permute(2, 0, 1),)
        x = self.through(x, layer, *extra)
        return self.norm(x) if self.pre_norm and not layer else x


def build(name: str, settings: EncoderSettings) -> SpeechEncoder:
    """Random weights.

    Raises:
        AuscultError: `transformers` is absent, or a size is impossible.
    """
    return SpeechEncoder(name, settings)


def load(name: str, encoder: SpeechEncoder, path: Path) -> None:
    """Weights of a hub folder, with or without heads, into `encoder`, which takes on the folder's sizes.

    preprocessor_config.json, where there is one, says whether clips are normalised.

    Raises:
        AuscultError: see `open_folder`, `read_state` and `load_strict`; sizes in the settings that are not the folder's.
    """
    folder = open_folder(path, name, [name])
    where = str(path)
    values = chosen(folder.config, _KEYS, {"add_adapter": False, "adapter_attn_dim": None}, where)
    config = configured(getattr(library(), f"{CLASSES[name]}Config"), values, where)
    same_sizes(encoder.settings, _sizes(config), where)
    state = renamed(folder.weights, (f"{name}.",), _UNUSED, _RULES)
    if differ(config, encoder.config, _KEYS):
        encoder.assemble(values, where)
    load_strict(encoder, state, str(folder.weights))
    encoder.normalise = bool(folder.preprocessor.get("do_normalize", config.feat_extract_norm == "layer"))
    rate = folder.preprocessor.get("sampling_rate", encoder.sample_rate)
    if rate != encoder.sample_rate:
        raise AuscultError(f"a checkpoint for {rate} Hz", where, f"use one for {encoder.sample_rate} Hz")


def _sizes(config: Any) -> dict[str, int | float]:
    found = {key: getattr(config, name) for key, name in _NAMES.items() if hasattr(config, name)}
    norms = {"pre_norm": config.do_stable_layer_norm, "frame_norm": config.feat_extract_norm == "layer"}
    return {**found, **norms, "channels": config.conv_dim[0], "conv_bias": config.conv_bias}


ENCODERS = {name: EncoderKind(functools.partial(build, name), functools.partial(load, name)) for name in PUBLISHED}
