"""What the tests of the Vision Transformer encoders share: official states by the fill rule, and the encoder contract."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auscult.encoders.base import Encoder, Place, Role
from auscult.errors import AuscultError
from auscult.settings.sections import EncoderSettings
from support.fill import filled, tensor, v

TINY: dict[str, int | float] = {"layers": 3, "width": 24, "heads": 3, "ffn": 96}
ROLES: tuple[Role, ...] = ("q", "k", "v", "out", "fc1", "fc2")
PLACES: tuple[Place, ...] = ("attention", "ffn", "layer")


def tiny(name: str, **settings: Any) -> EncoderSettings:
    """Settings of the network that the golden files hold; `size` adds to it."""
    return EncoderSettings(name=name, size={**TINY, **settings.pop("size", {})}, **settings)


def waves(name: str, clips: int, samples: int, silence: slice = slice(0)) -> Tensor:
    wave = tensor(0.1 * v(name, (clips, samples)))
    wave[1:, silence] = 0
    return wave


def official(manifest: list[Any], prefix: str) -> dict[str, Tensor]:
    """State with the authors' key names: [name, shape, kind] of every tensor."""
    return {name: torch.from_numpy(filled(prefix + name, tuple(shape), kind)) for name, shape, kind in manifest}


def saved(state: dict[str, Tensor], folder: Path, name: str = "model.safetensors") -> Path:
    save_file(state, folder / name)
    return folder / name


def counted(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def stirred(encoder: Encoder) -> Encoder:
    """Every weight moved at random, so that none is small enough to be left out unnoticed."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return encoder.eval()


def check_contract(encoder: Encoder, wave: Tensor) -> None:
    """Shapes, batch invariance, layers, named parts that are really called, gradients."""
    x = stirred(encoder).front_end(wave)
    assert x.dim() == 3
    assert x.dtype == torch.float32
    with torch.no_grad():
        y = encoder.tokens(x)
        assert y.shape[::2] == (len(wave), encoder.width)
        assert (y.shape[1] - encoder.class_token) % encoder.rows == 0
        # A clip alone gives what it gives among others; so do its tokens.
        torch.testing.assert_close(encoder.front_end(wave[1:]), x[1:], atol=2e-5, rtol=0)
        torch.testing.assert_close(encoder.tokens(x[1:]), y[1:], atol=2e-5, rtol=0)
        layers = [encoder.tokens(x, layer) for layer in range(1, encoder.depth + 1)]
        assert all(z.shape == y.shape for z in layers)
        assert not torch.allclose(layers[0], layers[1])
    with pytest.raises(AuscultError, match="no layer"):
        encoder.tokens(x, encoder.depth + 1)
    check_linear_maps(encoder, x, y)
    for place in PLACES:
        check_blocks(encoder, x, place)
    encoder.train()
    encoder.tokens(encoder.front_end(wave)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def check_linear_maps(encoder: Encoder, x: Tensor, y: Tensor) -> None:
    """Each is an nn.Linear that is called: without its weight the tokens are others."""
    for role in ROLES:
        names = encoder.linear_maps(role)
        assert len(set(names)) == encoder.depth
        for name in names:
            linear = encoder.get_submodule(name)
            assert type(linear) is nn.Linear
            calls: list[int] = []
            counter = linear.register_forward_hook(lambda *_, calls=calls: calls.append(1))  # type: ignore[misc]
            kept = linear.weight.detach().clone()
            with torch.no_grad():
                linear.weight.zero_()
                assert (encoder.tokens(x) - y).abs().max() > 1e-3, name
                linear.weight.copy_(kept)
            counter.remove()
            assert calls


def check_blocks(encoder: Encoder, x: Tensor, place: Place) -> None:
    """Each is called with the hidden states alone and returns a tensor like them; what a wrapper adds arrives."""
    names = encoder.blocks(place)
    assert len(set(names)) == encoder.depth
    seen: list[str] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str) -> Tensor:
        assert len(inputs) == 1
        assert inputs[0].shape == output.shape
        assert output.shape[2] == encoder.width
        seen.append(name)
        return output + inputs[0] ** 2

    handles = [encoder.get_submodule(name).register_forward_hook(functools.partial(note, name=name)) for name in names]
    with torch.no_grad():
        wrapped = encoder.tokens(x)
    assert list(dict.fromkeys(seen)) == names
    for handle in handles:
        handle.remove()
    assert not torch.allclose(wrapped, encoder.tokens(x))
