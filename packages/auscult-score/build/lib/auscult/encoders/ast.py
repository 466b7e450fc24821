"""AST, the Audio Spectrogram Transformer (Gong et al., Interspeech 2021): overlapping patches of a log-mel spectrogram."""

from __future__ import annotations

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
from auscult.features.kaldi import KaldiBank, kaldi_fbank
from auscult.settings.sections import EncoderSettings

NAME = "audio-spectrogram-transformer"
PUBLISHED: dict[str, int | float] = {
    "layers": 12,
    "width": 768,
    "heads": 12,
    "ffn": 3072,
    "patch": 16,  # mel bins and frames of a patch
    "frequency_stride": 10,
    "time_stride": 10,
    "frames": 1024,  # the longest spectrogram: 10.25 s
    "bins": 128,
}
"""AST-base with patches 16 x 16 every 10 x 10, as fine-tuned on AudioSet."""

_NAMES = {
    **SIZES,
    "patch": "patch_size",
    "frequency_stride": "frequency_stride",
    "time_stride": "time_stride",
    "frames": "max_length",
    "bins": "num_mel_bins",
}
_KEYS = (*_NAMES.values(), "hidden_act", "layer_norm_eps", "qkv_bias")
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_RULES = (  # the files of the hub have the names of the left, later versions of the library those of the right as well
    (r"^embeddings\.patch_embeddings\.projection\.", "patches."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(q)uery\.", r".attention.\1_proj."),
    (r"\.attention\.attention\.(k)ey\.", r".attention.\1_proj."),
    (r"\.attention\.attention\.(v)alue\.", r".attention.\1_proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attention.out_proj."),
    (r"^layers\.(\d+)\.(intermediate\.dense|mlp\.fc1)\.", r"layers.\1.ffn.fc1."),
    (r"^layers\.(\d+)\.(output\.dense|mlp\.fc2)\.", r"layers.\1.ffn.fc2."),
    (r"\.layernorm_before\.", ".attention_norm."),
    (r"\.layernorm_after\.", ".ffn_norm."),
)
_FRAME, _HOP = 400, 160  # samples of a frame of the filter bank, and from one to the next


class Ast(HubEncoder):
    """Token 0 is the mean of the class and the distillation token, which is what the authors' head reads.

    Patches follow, all frequencies of a time step together. Clips shorter than the trained length keep their length: the
    position table is cut at its end, where the authors pad with zeros. Longer ones lose their end, as the authors' do.
    """

    class_token = True
    maps = ("fc1", "fc2")

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings)
        size = sized(PUBLISHED, settings, "ast")
        self.assemble({_NAMES[key]: int(value) for key, value in size.items()}, "encoder.size")
        self.mean, self.deviation = -4.2677393, 4.5689974  # of AudioSet's filter-bank values, by the authors

    def assemble(self, values: dict[str, Any], where: str) -> None:
        """Random weights in the sizes of `values`, named as in a config.json.

        Raises:
            AuscultError: values that make no network.
        """
        config = configured(library().ASTConfig, {**values, **_NO_DROPOUT}, where)
        model = built(library().ASTModel, config, where)
        self.config = config
        self.filter_bank = KaldiBank(config.num_mel_bins, "hanning")
        self.width, self.depth = config.hidden_size, config.num_hidden_layers
        self.patches = model.embeddings.patch_embeddings.projection
        self.cls_token = model.embeddings.cls_token
        self.distillation_token = model.embeddings.distillation_token
        self.position_embeddings = model.embeddings.position_embeddings  # [1, 2 + patches, D], frequency-major
        self.rows, self.columns = model.embeddings.get_shape(config)
        self.norm = model.layernorm
        self.layers = nn.ModuleList()
        for layer in model.layers:
            old = layer.attention
            attention = SelfAttention((old.q_proj, old.k_proj, old.v_proj, old.o_proj), config.num_attention_heads)
            self.layers.append(
                Layer(attention, layer.layernorm_before, layer.mlp, layer.layernorm_after, pre_norm=True)
            )
        self.min_samples = _FRAME + (self.patches.kernel_size[1] - 1) * _HOP
        self.train(self.training)

    def front_end(self, wave: Tensor) -> Tensor:
        """float32 [B, n] at 16 kHz -> log-mel filter bank [B, at most `frames`, bins], normalised as the authors do."""
        longest = _FRAME + (self.config.max_length - 1) * _HOP
        mel = kaldi_fbank(wave[:, :longest], self.filter_bank)
        return (mel - self.mean) / (2 * self.deviation)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """[B, frames, bins] -> [B, 1 + time steps * rows, D]; 0 = after the last layer and the final norm."""
        if x.shape[1] > self.config.max_length:
            what = f"{x.shape[1]} frames, but the encoder knows {self.config.max_length} places"
            raise AuscultError(what, "Ast.tokens", "cut the clips")
        patches = self.patches(x.transpose(1, 2)[:, None])  # [B, D, rows, time steps]
        special, places = self.position_embeddings.split([2, self.rows * self.columns], dim=1)
        places = places.unflatten(1, (self.rows, self.columns))[:, :, : patches.shape[-1]]
        patches = patches.permute(0, 3, 2, 1) + places.transpose(1, 2)
        first = (torch.cat([self.cls_token, self.distillation_token], dim=1) + special).expand(len(x), -1, -1)
        hidden = self.through(torch.cat([first, patches.flatten(1, 2)], dim=1), layer)
        if not layer:
            hidden = self.norm(hidden)
        return torch.cat([hidden[:, :2].mean(dim=1, keepdim=True), hidden[:, 2:]], dim=1)


def build(settings: EncoderSettings) -> Ast:
    """Random weights.

    Raises:
        AuscultError: `transformers` is absent, or a size is impossible.
    """
    return Ast(settings)


def load(encoder: Ast, path: Path) -> None:
    """Weights of a hub folder, with or without the AudioSet head, into `encoder`, which takes on the folder's sizes.

    preprocessor_config.json, where there is one, gives the mean and standard deviation of the filter-bank values.

    Raises:
        AuscultError: see `open_folder`, `read_state` and `load_strict`; sizes in the settings that are not the folder's.
    """
    folder = open_folder(path, "ast", [NAME])
    where = str(path)
    values = chosen(folder.config, _KEYS, {}, where)
    config = configured(library().ASTConfig, values, where)
    same_sizes(encoder.settings, {key: getattr(config, name) for key, name in _NAMES.items()}, where)
    state = renamed(folder.weights, ("audio_spectrogram_transformer.",), ("classifier",), _RULES)
    if differ(config, encoder.config, _KEYS):
        encoder.assemble(values, where)
    load_strict(encoder, state, str(folder.weights))
    if not folder.preprocessor.get("do_normalize", True):
        raise AuscultError("a checkpoint for values that are not normalised", where, "use the authors' checkpoint")
    encoder.mean = float(folder.preprocessor.get("mean", encoder.mean))
    encoder.deviation = float(folder.preprocessor.get("std", encoder.deviation))


ENCODERS = {"ast": EncoderKind(build, load)}
