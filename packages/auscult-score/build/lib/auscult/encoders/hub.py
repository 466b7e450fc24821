"""Checkpoint folders of the Hugging Face hub, and the Transformer layer that encoders from `transformers` are run with.

Folders are read where they lie: nothing is fetched, and no code of theirs is run. The library builds the networks. Their
layers are run by the classes below, since adapters need attention to be a module that returns one tensor and really calls
its four linear maps, which the library's attention does not everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from auscult.encoders.base import Encoder, Place, Role
from auscult.encoders.weights import read_state
from auscult.errors import AuscultError
from auscult.packages import require
from auscult.settings.sections import EncoderSettings

SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
}
"""Our names of sizes: the names they have in a config.json."""


def library() -> Any:
    """The package `transformers`; imported here and not before, since that takes seconds.

    Raises:
        AuscultError: not installed.
    """
    return require("transformers", "this encoder")


@dataclass(frozen=True)
class HubFolder:
    """A checkpoint as the hub stores it.

    Attributes:
        weights: model.safetensors, or pytorch_model.bin.
        config: what config.json says.
        preprocessor: what preprocessor_config.json says; empty without it.
    """

    weights: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]


def open_folder(path: Path, name: str, model_types: Sequence[str]) -> HubFolder:
    """Look into a folder as downloaded from the hub; `path` is the folder, or the weights file in it.

    Args:
        name: of the encoder, for messages.
        model_types: values of `model_type` in config.json that fit.

    Raises:
        AuscultError: no such folder, no weights in it, weights in several parts, no config.json, or of another model.
    """
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else [folder / "model.safetensors", folder / "pytorch_model.bin"]
    weights = next((file for file in files if file.is_file()), None)
    if not path.exists() or weights is None:
        what = f"no {' and no '.join(file.name for file in files)}" if path.is_dir() else "no such checkpoint"
        if list(folder.glob("*.index.json")):
            what += " in one part"
        raise AuscultError(
            what, str(path), "download config.json and model.safetensors of the checkpoint into one folder"
        )
    config = _json(folder / "config.json")
    if config.get("model_type") not in model_types:
        what = f"a checkpoint of `{config.get('model_type')}`, not of the encoder `{name}`"
        raise AuscultError(what, str(folder / "config.json"), "mend `encoder.name`, or use another checkpoint")
    extra = folder / "preprocessor_config.json"
    return HubFolder(weights, config, _json(extra) if extra.is_file() else {})


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "it comes with the weights: download it into the same folder"
        raise AuscultError(f"no {path.name} beside the weights", str(path), fix) from None
    except ValueError as error:  # bad JSON, bad UTF-8
        raise AuscultError(f"not JSON: {error}", str(path), "download it again") from None
    if not isinstance(value, dict):
        raise AuscultError("not a JSON object", str(path), "download it again")
    return value


def chosen(config: Mapping[str, Any], keys: Iterable[str], unknown: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries of `config` that say what the network is; dropouts, masking and heads are no part of it.

    Args:
        unknown: parts that the encoder does not have: key -> the value that means "without it".

    Raises:
        AuscultError: the checkpoint has such a part.
    """
    for key, without in unknown.items():
        if config.get(key, without) != without:
            fix = f"use a checkpoint with `{key}` {without}"
            raise AuscultError(f"`{key}` is {config[key]}: this encoder has no such part", where, fix)
    return {key: config[key] for key in keys if key in config}


def configured(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Configuration object `kind` of the library from `values`.

    Raises:
        AuscultError: values of a wrong type, or that contradict each other.
    """
    try:
        return kind(**values)
    except Exception as error:  # the library's validators raise their own classes
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise AuscultError(f"no {kind.model_type}: {lines[-1].strip()}", where, "mend the sizes") from None


def differ(one: Any, other: Any, keys: Iterable[str]) -> bool:
    """Whether two configuration objects differ in one of `keys`; lists and tuples (of JSON, and of the library) are alike."""

    def value(config: Any, key: str) -> Any:
        found = getattr(config, key, None)
        return list(found) if isinstance(found, tuple) else found

    return any(value(one, key) != value(other, key) for key in keys)


def built(kind: Any, config: Any, where: str) -> Any:
    """Model `kind` of the library with random weights.

    Raises:
        AuscultError: sizes that do not go together, as a width that the heads do not divide.
    """
    try:
        return kind(config)
    except (ValueError, RuntimeError) as error:
        raise AuscultError(f"no {config.model_type} can have these sizes: {error}", where, "mend the sizes") from None


def same_sizes(settings: EncoderSettings, found: Mapping[str, int | float], where: str) -> None:
    """Sizes in the settings must be those of the checkpoint.

    Raises:
        AuscultError: they are not.
    """
    wrong = [f"`{key}` is {found[key]}, not {value}" for key, value in settings.size.items() if found[key] != value]
    if wrong:
        raise AuscultError(f"the checkpoint has other sizes: {', '.join(wrong)}", where, "leave `encoder.size` empty")


def renamed(
    path: Path, prefixes: Sequence[str], unused: Sequence[str], rules: Sequence[tuple[str, str]]
) -> dict[str, Tensor]:
    """Weights of a file under the encoder's names.

    Args:
        prefixes: what stands before the name when the file holds a head too; removed where it stands.
        unused: parts that the encoder does not have; left out.
        rules: regular expression -> replacement; each is applied to every name.

    Raises:
        AuscultError: see `read_state`; or something that is no tensor.
    """
    state: dict[str, Tensor] = {}
    for key, value in read_state(path).items():
        name = next((key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix)), key)
        if any(name == part or name.startswith(f"{part}.") for part in unused):
            continue
        if not isinstance(value, Tensor):
            raise AuscultError(f"`{key}` is no tensor", str(path), "use the weights file of the hub")
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    return state


class SelfAttention(nn.Module):
    """Multi-head self-attention over existing linear maps.

    Args:
        maps: query, key, value and output map, each width -> width.
        heads: divides the width.
    """

    def __init__(self, maps: Sequence[nn.Module], heads: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = maps
        self.heads = heads

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Tokens [B, T, D], and what is added to the scores ([B, heads, T, T] or smaller) -> [B, T, D]."""
        q, k, v = (
            f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Transformer layer out of existing parts; `pre_norm`: the norms stand before attention and ffn, otherwise after the sums."""

    def __init__(
        self, attention: nn.Module, attention_norm: nn.Module, ffn: nn.Module, ffn_norm: nn.Module, pre_norm: bool
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.ffn, self.ffn_norm = ffn, ffn_norm
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, *extra: Tensor) -> Tensor:
        """Tokens [B, T, D] -> [B, T, D]; `extra` goes to the attention."""
        if self.pre_norm:
            x = x + self.attention(self.attention_norm(x), *extra)
            return x + self.ffn(self.ffn_norm(x))
        x = self.attention_norm(x + self.attention(x, *extra))
        return self.ffn_norm(x + self.ffn(x))


class HubEncoder(Encoder):
    """What encoders with one row of equal layers share: `self.layers` of `Layer`, and the settings.

    Attributes:
        maps: names of the ffn's two linear maps.
    """

    maps: tuple[str, str]

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.ModuleList()

    def through(self, x: Tensor, layer: int, *extra: Tensor) -> Tensor:
        """Hidden states entering layer 1 -> those after layer `layer`; 0 = after the last one.

        Raises:
            AuscultError: there are fewer layers.
        """
        check_layer(layer, self.depth)
        for block in self.layers[: layer or self.depth]:
            if not dropped(self, self.settings):
                x = step(self, self.settings, block, x, *extra)
        return x

    def linear_maps(self, role: Role) -> list[str]:
        names = {"fc1": f"ffn.{self.maps[0]}", "fc2": f"ffn.{self.maps[1]}"}
        return [f"layers.{i}.{names.get(role, f'attention.{role}_proj')}" for i in range(self.depth)]

    def blocks(self, place: Place) -> list[str]:
        return [f"layers.{i}" if place == "layer" else f"layers.{i}.{place}" for i in range(self.depth)]


def check_layer(layer: int, depth: int) -> None:
    """Refuse a layer that an encoder of `depth` layers does not have; 0 is its output.

    Raises:
        AuscultError: no such layer.
    """
    if not 0 <= layer <= depth:
        raise AuscultError(f"there is no layer {layer}: the encoder has {depth}", "encoder.layer", f"use 0 to {depth}")


def dropped(encoder: Encoder, settings: EncoderSettings) -> bool:
    """Whether this layer is left out of this training step (LayerDrop). Drawn on the CPU: no wait for the device."""
    chance = settings.layerdrop
    return encoder.training and chance > 0 and torch.rand((), device="cpu").item() < chance


def step(encoder: Encoder, settings: EncoderSettings, block: nn.Module, *inputs: Any) -> Any:
    """`block(*inputs)`; in training, with its activations computed again in the backward pass if the settings say so."""
    if encoder.training and settings.activation_checkpointing:
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
