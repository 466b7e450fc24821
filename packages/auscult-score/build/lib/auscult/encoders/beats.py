"""BEATs as an encoder: its filter bank, its network (auscult.models.beats), and its authors' checkpoint files."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auscult.encoders.base import Encoder, EncoderKind, Place, Role, sized
from auscult.encoders.weights import load_strict, read_state
from auscult.errors import AuscultError, listed
from auscult.features.kaldi import KaldiBank, kaldi_fbank
from auscult.models.beats import Beats, Sizes
from auscult.settings.sections import EncoderSettings

log = logging.getLogger(__name__)

FRONT_END = KaldiBank()
MEAN, DEVIATION = 15.41663, 6.55582  # of the filter bank over the pre-training data; authors' code


class BeatsEncoder(Encoder):
    """Tokens are 16 frames x 16 bins, time-major: token = 8 * time + frequency."""

    class_token = False
    spectrogram = True

    def __init__(self, network: Beats) -> None:
        super().__init__()
        self.network = network
        sizes = network.sizes
        self.width, self.depth, self.rows = sizes.width, sizes.layers, FRONT_END.mels // sizes.patch
        self.min_samples = FRONT_END.size + (sizes.patch - 1) * FRONT_END.hop  # 2800: one column of patches

    def front_end(self, wave: Tensor) -> Tensor:
        """float32 [B, samples] in [-1, 1) at 16 kHz -> normalised filter bank [B, 1 + (samples - 400) // 160, 128].

        Raises:
            AuscultError: clips that give less than one column of patches.
        """
        if wave.shape[-1] < self.min_samples:
            raise AuscultError(
                f"a clip of {wave.shape[-1]} samples is too short for BEATs, which needs {self.min_samples}",
                fix="leave out clips this short, or repeat them to the clip length of the profile",
            )
        return (kaldi_fbank(wave * 32768, FRONT_END) - MEAN) / (2 * DEVIATION)

    def tokens(self, x: Tensor, layer: int = 0, padding: Tensor | None = None) -> Tensor:
        """[B, frames, 128] -> tokens [B, 8 * (frames // 16), D] after Transformer layer `layer`; 0 = the encoder's output.

        Args:
            padding: bool [B, n], true where a clip has ended, per sample or per frame; None: all clips are whole.

        Raises:
            AuscultError: no such layer.
        """
        if not 0 <= layer <= self.depth:
            what = f"there is no layer {layer}: this encoder has {self.depth}"
            raise AuscultError(what, "encoder.layer", f"use 1 to {self.depth}, or 0 for the encoder's output")
        tokens: Tensor = self.network(x, layer, padding)
        return tokens

    def linear_maps(self, role: Role) -> list[str]:
        """Dotted names of the `nn.Linear` modules of a role, first layer first."""
        block = "ffn" if role in ("fc1", "fc2") else "attention"
        return [f"network.layers.{index}.{block}.{role}" for index in range(self.depth)]

    def blocks(self, place: Place) -> list[str]:
        """Dotted names of the attention or feed-forward blocks, or of the whole layers."""
        inner = "" if place == "layer" else f".{place}"
        return [f"network.layers.{index}{inner}" for index in range(self.depth)]


def build(settings: EncoderSettings) -> BeatsEncoder:
    """Encoder with random weights.

    Raises:
        AuscultError: `settings.size` has a name that is none of `Sizes`, or values that do not go together.
    """
    values = sized(asdict(Sizes()), settings, "beats")
    for key, value in values.items():
        if value < 1 or value != int(value):
            raise AuscultError(f"{key} is {value}, not a positive whole number", f"encoder.size.{key}")
    sizes = Sizes(**{key: int(value) for key, value in values.items()})
    for part, whole, unit in (
        ("heads", "width", sizes.width),
        ("position_groups", "width", sizes.width),
        ("patch", "number of mel bins", FRONT_END.mels),
    ):
        if unit % getattr(sizes, part):
            what = f"the {whole} ({unit}) is not a multiple of {part} ({getattr(sizes, part)})"
            raise AuscultError(what, f"encoder.size.{part}")
    if sizes.buckets % 4 or sizes.max_distance <= sizes.buckets // 4:
        what = f"{sizes.buckets} buckets do not go with a max_distance of {sizes.max_distance}"
        fix = "use a multiple of four, and a max_distance above a quarter of it"
        raise AuscultError(what, "encoder.size.buckets", fix)
    return BeatsEncoder(
        Beats(sizes, settings.layerdrop, settings.gradient_decay, settings.activation_checkpointing),
    )


def load(encoder: BeatsEncoder, path: Path) -> None:
    """Weights of the authors' file {"cfg": ..., "model": ...}, or of its state dict alone (torch file or safetensors).

    The file's layerdrop, gradient decay and dropouts are not taken over: they are settings of a training, not of the
    network, and those of `EncoderSettings` hold (no dropout). Without a `cfg`, the sizes that no shape shows are taken to
    be those of the encoder. The classifier of a fine-tuned file is left out, with a warning that names it.

    Raises:
        AuscultError: not a readable file of weights; another architecture; keys missing, unexpected or of another shape;
            or copies of the shared bias table that differ.
    """
    network, where = encoder.network, str(path)
    file = read_state(path)
    if "model" in file:
        state = _mapping(file["model"], "model", where)
        _check_architecture(_mapping(file.get("cfg"), "cfg", where), network.sizes, where)
    else:
        state = file
    state = _one_table(_old_weight_norm(state), where)
    classifier = [key for key in state if key.startswith("predictor.")]
    if classifier:
        log.warning("%s: left out, the classifier of a fine-tuned file: %s", path, ", ".join(classifier))
    theirs = {key: authors_key(key) for key in network.state_dict()}  # our key -> the file's
    missing = [key for key in theirs.values() if key not in state]
    if missing:
        fix = "use a BEATs file of these sizes, as its authors publish it"
        raise AuscultError(f"{len(missing)} of {len(theirs)} keys are missing:{listed(missing, 5)}", where, fix)
    ours = {key: state[name] for key, name in theirs.items()}
    rest = {key: state[key] for key in state.keys() - set(theirs.values()) - set(classifier)}
    load_strict(network, {**ours, **rest}, where)


ENCODERS = {"beats": EncoderKind(build, load)}


_OUTSIDE = {  # the state dict of auscult.models.beats.Beats -> that of the authors
    "patch.": "patch_embedding.",
    "patch_norm.": "layer_norm.",
    "project.": "post_extract_proj.",
    "position.gain": "encoder.pos_conv.0.weight_g",
    "position.direction": "encoder.pos_conv.0.weight_v",
    "position.bias": "encoder.pos_conv.0.bias",
    "norm.": "encoder.layer_norm.",
    "relative.table.": "encoder.layers.0.self_attn.relative_attention_bias.",
}
_INSIDE = {  # of a layer
    **{f"attention.{part}.": f"self_attn.{part}_proj." for part in ("q", "k", "v", "out")},
    "attention.gate.": "self_attn.grep_linear.",
    "attention.gate_scale": "self_attn.grep_a",
    "attention_norm.": "self_attn_layer_norm.",
    "ffn.": "",
    "ffn_norm.": "final_layer_norm.",
}


def authors_key(key: str) -> str:
    """Name that the authors' files give to a tensor of `Beats.state_dict()`."""
    layer = re.match(r"layers\.\d+\.", key)
    start = layer.group() if layer else ""
    rest = key.removeprefix(start)
    names = _INSIDE if layer else _OUTSIDE
    ours = next(name for name in names if rest.startswith(name))
    return ("encoder." + start if layer else "") + names[ours] + rest.removeprefix(ours)


def _mapping(value: Any, key: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        fix = 'use a file {"cfg": {...}, "model": {...}} as its authors publish it, or a state dict alone'
        raise AuscultError(f"`{key}` in this file is a {type(value).__name__}, not a mapping", where, fix)
    return value


def _check_architecture(cfg: dict[str, Any], sizes: Sizes, where: str) -> None:
    """Refuse a file whose weights would fit but mean another network; what its `cfg` leaves out has the authors' default."""
    # Key of the file: (what it must be, what the authors' class makes of its absence).
    needed: dict[str, tuple[Any, Any]] = {
        "encoder_layers": (sizes.layers, 12),
        "encoder_embed_dim": (sizes.width, 768),
        "encoder_ffn_embed_dim": (sizes.ffn, 3072),
        "encoder_attention_heads": (sizes.heads, 12),
        "embed_dim": (sizes.embed, 512),
        "input_patch_size": (sizes.patch, -1),
        "conv_pos": (sizes.position_kernel, 128),
        "conv_pos_groups": (sizes.position_groups, 16),
        "num_buckets": (sizes.buckets, 320),
        "max_distance": (sizes.max_distance, 1280),
        "activation_fn": ("gelu", "gelu"),
        "layer_norm_first": (False, False),
        "conv_bias": (False, False),
        "relative_position_embedding": (True, False),
        "gru_rel_pos": (True, False),
        "deep_norm": (True, False),
    }
    wrong = [
        f"{key} is {cfg.get(key, default)}{'' if key in cfg else ' (by default)'}, must be {value}"
        for key, (value, default) in needed.items()
        if cfg.get(key, default) != value
    ]
    if wrong:
        fix = "use a file of this architecture, or give its sizes: `size` of its entry in checkpoints.yaml"
        raise AuscultError(f"the file's `cfg` describes another network:{listed(wrong)}", where, fix)


def _old_weight_norm(state: dict[str, Any]) -> dict[str, Any]:
    """torch's second way of writing a weight norm into a state dict, renamed to its first."""
    renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    start = "encoder.pos_conv.0."
    names = {start + new: start + old for new, old in renamed.items()}
    return {names.get(key, key): value for key, value in state.items()}


def _one_table(state: dict[str, Any], where: str) -> dict[str, Any]:
    """The authors' files repeat the table of relative biases in every layer: keep one, under the name of layer 0."""
    pattern = re.compile(r"encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight")
    tables = {key: value for key, value in state.items() if pattern.fullmatch(key)}
    if not tables:
        return state
    first, table = next(iter(tables.items()))
    differing = [key for key, value in tables.items() if not _equal(value, table)]
    if differing:
        what = f"the layers do not share one bias table: {first} differs from{listed(differing, 5)}"
        raise AuscultError(what, where, "use a file as its authors publish it")
    others = {key: value for key, value in state.items() if key not in tables}
    return {**others, authors_key("relative.table.weight"): table}


def _equal(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
