"""What the Vision Transformers over spectrograms have in common: settings, names of their parts, windows, loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auscult.encoders.base import Encoder, Place, Role, sized
from auscult.encoders.weights import load_strict, read_state
from auscult.errors import AuscultError
from auscult.models.vit import Block, Transformer
from auscult.settings.sections import EncoderSettings

BASE: dict[str, int | float] = {"layers": 12, "width": 768, "heads": 12, "ffn": 3072}


class VitEncoder(Encoder):
    """An encoder whose Transformer is `self.transformer`.

    Attributes:
        published: sizes of the published architecture; `settings.size` may change any.
        norm_first, bias, bias_kv: see `auscult.models.vit`.
        sizes: those it is built with.

    Raises:
        AuscultError: an unknown size, sizes that do not fit each other, or a layer that is not there.
    """

    published: Mapping[str, int | float] = BASE
    norm_first = True
    bias = True
    bias_kv = False

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        sizes = sized(self.published, settings, settings.name)
        for key, value in sizes.items():
            if value != int(value) or value < 1:
                raise AuscultError(f"size `{key}` is {value}", "encoder.size", "give a whole number, 1 or more")
        self.sizes = {key: int(value) for key, value in sizes.items()}
        self.depth, self.width, heads, ffn = (self.sizes[key] for key in BASE)
        if self.width % heads:
            what = f"{heads} heads do not divide a width of {self.width}"
            raise AuscultError(what, "encoder.size", "choose a width that is a multiple of heads")
        self.check_layer(settings.layer)
        blocks = [Block(self.width, heads, ffn, self.norm_first, self.bias, self.bias_kv) for _ in range(self.depth)]
        self.transformer = Transformer(blocks, settings.layerdrop, settings.activation_checkpointing)

    def linear_maps(self, role: Role) -> list[str]:
        """See `Encoder.linear_maps`."""
        part = "ffn" if role in ("fc1", "fc2") else "attention"
        return [f"transformer.blocks.{i}.{part}.{role}" for i in range(self.depth)]

    def blocks(self, place: Place) -> list[str]:
        """See `Encoder.blocks`."""
        return [f"transformer.blocks.{i}" + ("" if place == "layer" else f".{place}") for i in range(self.depth)]

    def check_layer(self, layer: int) -> None:
        """Raises:
        AuscultError: there is no such layer.
        """
        if not 0 <= layer <= self.depth:
            fix = f"choose 1 to {self.depth}, or 0 for the output"
            raise AuscultError(f"there is no layer {layer}", "encoder.layer", fix)


def over_windows(
    x: Tensor, size: int, least: int, encode: Callable[[Tensor], Tensor], class_token: bool = False
) -> Tensor:
    """Encode long spectrograms window by window, all whole windows of a batch at once.

    Args:
        x: [B, frames, bins].
        size: frames of a window.
        least: frames from which on the shorter rest at the end counts; one that is the whole clip always does.
        encode: [windows, frames, bins] -> [windows, T, D].
        class_token: the first token of each window is averaged over the windows.

    Returns:
        [B, T, D], the windows' tokens one after the other (behind the class token, if any).
    """
    batch, frames, bins = x.shape
    whole = frames // size
    parts = []
    if whole:
        y = encode(x[:, : whole * size].reshape(batch * whole, size, bins))
        parts.append(y.unflatten(0, (batch, whole)))
    if frames - whole * size >= least or not whole:
        parts.append(encode(x[:, whole * size :]).unsqueeze(1))
    if not class_token:
        return torch.cat([part.flatten(1, 2) for part in parts], dim=1)
    first = torch.cat([part[:, :, 0] for part in parts], dim=1).mean(dim=1, keepdim=True)
    return torch.cat([first, *(part[:, :, 1:].flatten(1, 2) for part in parts)], dim=1)


def floored(decibels: Tensor, span: float) -> Tensor:
    """[B, frames, bins] in dB, each clip raised to at least its own maximum less `span` dB.

    torchaudio's `AmplitudeToDB(top_db)` takes one maximum for a whole batch of [B, bins, frames]; what a clip gives would then
    depend on its neighbours.
    """
    return decibels.maximum(decibels.amax(dim=(1, 2), keepdim=True) - span)


# ------------------------------------------------------------------------------------------------------------- checkpoints
def read_weights(path: Path, part: str = "") -> dict[str, Any]:
    """`read_state`, with a way out for the authors' files that hold more than weights.

    Args:
        path: .safetensors or torch file, or the folder of one model.safetensors.
        part: code that, put behind the loading of such a file as `s`, leaves its weights in `s`.

    Raises:
        AuscultError: see `read_state`.
    """
    if (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    try:
        return {str(key): value for key, value in read_state(path).items()}
    except AuscultError as error:
        if "could run code" not in error.what:
            raise
        name = path.with_suffix(".safetensors").name
        fix = (
            "on a machine where running a stranger's code does no harm, take its weights out with\n"
            f'    import torch, safetensors.torch; s = torch.load("{path.name}", map_location="cpu", weights_only=False){part}\n'
            "    safetensors.torch.save_file({k: v.contiguous().clone() for k, v in s.items() if torch.is_tensor(v)}, "
            f'"{name}")\n'
            f"  and use {name} here"
        )
        raise AuscultError(error.what, error.where, fix) from None


def load_renamed(encoder: Encoder, state: Mapping[str, Any], where: Path, names: Mapping[str, str]) -> None:
    """Load an official state whose keys follow the Vision Transformer's names.

    Args:
        encoder: gets the weights.
        state: official key -> tensor, heads already left out.
        where: file, for messages.
        names: official name -> ours, as whole keys or as prefixes that end with a dot. What no entry names keeps its
            name. Fused q, k and v maps (`.attn.qkv.`, `.attn.in_proj_`) are split.

    Raises:
        AuscultError: missing, unexpected or ill-shaped keys.
    """
    parts = {"attn.out_proj.": "attention.out.", "attn.proj.": "attention.out.", "mlp.": "ffn.", "attn.": "attention."}
    parts |= {"norm_1.": "norm1.", "norm_2.": "norm2."}
    ours: dict[str, Any] = {}
    for key, value in state.items():
        new = next((own + key[len(old) :] for old, own in names.items() if _under(key, old)), key)
        if new.startswith("transformer.blocks."):
            head, _, tail = new.removeprefix("transformer.blocks.").partition(".")
            tail = tail.replace("attn.in_proj_", "attn.qkv.")
            tail = next((own + tail[len(old) :] for old, own in parts.items() if tail.startswith(old)), tail)
            new = f"transformer.blocks.{head}.{tail}"
        if ".attention.qkv." in new and torch.is_tensor(value) and value.dim():
            for name, third in zip("qkv", value.tensor_split(3), strict=True):
                ours[new.replace(".qkv.", f".{name}.")] = third
        else:
            ours[new] = value
    load_strict(encoder, ours, str(where))


def _under(key: str, name: str) -> bool:
    return key.startswith(name) if name.endswith(".") else key == name
