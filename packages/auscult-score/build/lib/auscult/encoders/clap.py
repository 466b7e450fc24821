"""The audio branch of LAION's CLAP (Wu et al., ICASSP 2023): HTSAT, a Swin Transformer (Chen et al., ICASSP 2022).

A 10 s spectrogram of 64 mel bins is folded into a square image; attention works in shifted windows of 8 x 8 patches, and
between stages 2 x 2 patches are merged while the width doubles. Only the library's windows and merging are used as they
are; text branch and projections of a checkpoint are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchaudio.functional as audio
from torch import Tensor, nn

from auscult.encoders.base import Encoder, EncoderKind, Place, Role, sized
from auscult.encoders.hub import (
    built,
    check_layer,
    chosen,
    configured,
    differ,
    dropped,
    library,
    open_folder,
    renamed,
    same_sizes,
    step,
)
from auscult.encoders.weights import load_strict
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings

RATE, SECONDS, FFT, HOP, BINS = 48_000, 10, 1024, 480, 64
"""Of the model: Hz, s, samples, samples, mel bins. Every spectrogram is of a clip of this length."""

PUBLISHED: dict[str, int | float] = {
    "width": 1024,  # of the last stage; half as much in each stage before
    "heads": 32,  # of the last stage
    "stage1": 2,  # layers
    "stage2": 2,
    "stage3": 12,
    "stage4": 2,
}
"""HTSAT-base of laion/larger_clap_general. laion/clap-htsat-unfused: width 768, stage3 6."""

_KEYS = (
    *("window_size", "num_mel_bins", "spec_size", "hidden_act", "patch_size", "patch_stride", "hidden_size", "depths"),
    *("num_attention_heads", "patch_embed_input_channels", "patch_embeds_hidden_size", "enable_patch_layer_norm"),
    *("qkv_bias", "mlp_ratio", "layer_norm_eps"),
)
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0}
_UNUSED = ("text_model", "text_projection", "audio_projection", "logit_scale_a", "logit_scale_t")
_MAPS: dict[Role, str] = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "out": "attention.output.dense",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
}
_FRONT_END = {
    "sampling_rate": RATE,
    "max_length_s": SECONDS,
    "fft_window_size": FFT,
    "hop_length": HOP,
    "feature_size": BINS,
    "padding": "repeatpad",
}
"""What preprocessor_config.json has to say."""


class Clap(Encoder):
    """Tokens are 32 time steps of 2 frequency rows, 0.32 s each, whatever the clip's length.

    Shorter clips are repeated a whole number of times and padded with zeros to 10 s, as the library's extractor does; of
    longer ones the first 10 s are kept (the extractor cuts at random). The spectrogram is standardised with the running
    statistics of the checkpoint's first batch norm, in training too; that norm's scale and shift belong to `tokens`.
    Nothing of clips at 16 kHz is above 8 kHz: the upper mel bins are empty.
    """

    min_samples = 1

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        size = {key: int(value) for key, value in sized(PUBLISHED, settings, "clap").items()}
        if size["width"] % 8 or size["heads"] % 8:
            what = f"width {size['width']} and heads {size['heads']}: both are halved three times"
            raise AuscultError(what, "encoder.size", "use multiples of 8")
        values = {
            "hidden_size": size["width"],
            "patch_embeds_hidden_size": size["width"] // 8,
            "num_attention_heads": [size["heads"] // 2**i for i in (3, 2, 1, 0)],
            "depths": [size[f"stage{i}"] for i in (1, 2, 3, 4)],
        }
        self.assemble(values, "encoder.size")
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", mel_filters(50.0, 14_000.0), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT, device="cpu"), persistent=False)

    def assemble(self, values: dict[str, Any], where: str) -> None:
        """Random weights in the sizes of `values`, named as in a config.json.

        Raises:
            AuscultError: values that make no network.
        """
        config = configured(library().ClapAudioConfig, {**values, **_NO_DROPOUT}, where)
        model = built(library().ClapAudioModel, config, where).audio_encoder
        if config.num_mel_bins != BINS or model.num_features != config.hidden_size:
            what = (
                f"{config.num_mel_bins} mel bins, width {config.hidden_size} of {model.num_features} in the last stage"
            )
            raise AuscultError(what, where, f"use a checkpoint with {BINS} mel bins")
        self.config = config
        self.network = model
        self.width, self.depth = config.hidden_size, sum(config.depths)
        self.rows = model.input_resolutions[-1][0] // model.freq_ratio
        self.train(self.training)

    def front_end(self, wave: Tensor) -> Tensor:
        """[B, n] at 16 kHz -> log-mel power (dB) [B, 1001, 64], standardised per mel bin."""
        samples = RATE * SECONDS
        with torch.autocast(wave.device.type, enabled=False):  # a logarithm of sums in bfloat16 would be coarse
            wave = audio.resample(wave[:, : self.sample_rate * SECONDS], self.sample_rate, RATE)
            wave = wave.repeat(1, samples // wave.shape[1])
            wave = nn.functional.pad(wave, (0, samples - wave.shape[1]))
            spectrum = torch.stft(
                wave, FFT, HOP, window=self.window.to(wave.dtype), pad_mode="reflect", return_complex=True
            )
            power = spectrum.abs().square().transpose(1, 2) @ self.filters.to(wave.dtype)
            decibel = 10 * torch.log10(power.clamp(min=1e-10))
            norm = self.network.batch_norm
            return (decibel - norm.running_mean) * torch.rsqrt(norm.running_var + norm.eps)

    def tokens(self, x: Tensor, layer: int = 0) -> Tensor:
        """[B, 1001, 64] -> [B, 32 * 2, D], time-major; 0 = after the last layer and the final norm.

        Raises:
            AuscultError: a layer of another stage than the last: its width is not D.
        """
        net = self.network
        check_layer(layer, self.depth)
        if layer and layer <= self.depth - self.config.depths[-1]:
            what = f"layer {layer} of CLAP is narrower than its output, and has more tokens"
            fix = f"use 0, or {self.depth - self.config.depths[-1] + 1} to {self.depth}"
            raise AuscultError(what, "encoder.layer", fix)
        x = x * net.batch_norm.weight + net.batch_norm.bias
        hidden = net.patch_embed(net.reshape_mel2img(x[:, None]))
        done = 0
        for stage, resolution in zip(net.layers, net.input_resolutions, strict=True):
            for block in stage.blocks:
                done += 1
                if not dropped(self, self.settings) and (not layer or done <= layer):
                    hidden = step(self, self.settings, block, hidden, resolution)[0]
            if stage.downsample is not None:
                hidden = stage.downsample(hidden, resolution)
        if not layer:
            hidden = net.norm(hidden)
        # The image's rows are `freq_ratio` stretches of time, each with the frequency rows in it.
        rows, columns = net.input_resolutions[-1]
        image = hidden.unflatten(1, (net.freq_ratio, rows // net.freq_ratio, columns))
        return image.transpose(2, 3).flatten(1, 3)

    def linear_maps(self, role: Role) -> list[str]:
        return [f"{name}.{_MAPS[role]}" for name in self._layers()]

    def blocks(self, place: Place) -> list[str]:
        """There are none that would fit.

        Raises:
            AuscultError: always. Layers see windows, and their widths differ between stages.
        """
        what = (
            f"a group adapter at `{place}` is not possible in CLAP: its layers have different widths, and see windows"
        )
        raise AuscultError(what, "adapter.position", "use `none`, or another encoder")

    def _layers(self) -> list[str]:
        return [f"network.layers.{i}.blocks.{j}" for i, depth in enumerate(self.config.depths) for j in range(depth)]


def mel_filters(low: float, high: float, slaney: bool = True) -> Tensor:
    """Mel filters [513, 64] between two frequencies (Hz): Slaney's scale with filters of equal area, or HTK's of equal height."""
    kind = "slaney" if slaney else "htk"
    with torch.device("cpu"):  # the computation looks at values, which a network on the meta device has not
        return audio.melscale_fbanks(FFT // 2 + 1, low, high, BINS, RATE, kind if slaney else None, kind)


def build(settings: EncoderSettings) -> Clap:
    """Random weights.

    Raises:
        AuscultError: `transformers` is absent, or a size is impossible.
    """
    return Clap(settings)


def load(encoder: Clap, path: Path) -> None:
    """Audio branch of a hub folder, with or without the text branch, into `encoder`, which takes on the folder's sizes.

    preprocessor_config.json, where there is one, gives the mel scale and its limits.

    Raises:
        AuscultError: see `open_folder`, `read_state` and `load_strict`; sizes in the settings that are not the folder's; a
            checkpoint with feature fusion, or of another front end.
    """
    folder = open_folder(path, "clap", ["clap", "clap_audio_model"])
    where = str(path)
    entries = folder.config.get("audio_config", {}) if folder.config["model_type"] == "clap" else folder.config
    values = chosen(entries, _KEYS, {"enable_fusion": False}, where)
    config = configured(library().ClapAudioConfig, values, where)
    stages = {f"stage{i}": depth for i, depth in enumerate(config.depths, 1)}
    same_sizes(
        encoder.settings, {"width": config.hidden_size, "heads": config.num_attention_heads[-1], **stages}, where
    )
    prefixes = ("audio_model.audio_encoder.", "audio_encoder.")
    state = renamed(folder.weights, prefixes, _UNUSED, ((r"^", "network."),))
    if differ(config, encoder.config, _KEYS):
        encoder.assemble(values, where)
    # Constants, which not every file holds.
    index = {key: value for key, value in encoder.state_dict().items() if key.endswith("relative_position_index")}
    load_strict(encoder, {**state, **index}, str(folder.weights))
    given = folder.preprocessor
    for key, value in _FRONT_END.items():
        if given.get(key, value) != value:
            raise AuscultError(
                f"`{key}` of the front end is {given[key]}, not {value}", where, "use another checkpoint"
            )
    limits = float(given.get("frequency_min", 50)), float(given.get("frequency_max", 14_000))
    encoder.filters = mel_filters(*limits, slaney=given.get("truncation") != "fusion").to(encoder.filters)


ENCODERS = {"clap": EncoderKind(build, load)}
