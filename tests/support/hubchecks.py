"""What the tests of encoders from the hub share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auscult.encoders import encoder_kind
from auscult.encoders.base import Encoder
from auscult.settings.sections import EncoderSettings


def build(name: str, size: dict[str, Any], **settings: Any) -> Any:
    return encoder_kind(name).build(EncoderSettings(name=name, size=size, **settings)).eval()


def published(name: str, size: dict[str, Any] | None = None) -> Any:
    """The encoder in its published size, on the meta device: sizes without memory."""
    with torch.device("meta"):
        return build(name, size or {})


def stir(model: nn.Module, scale: float) -> Any:
    """Every parameter moved at random: what starts as 0 or 1 could be left out unnoticed."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def noise(clips: int, samples: int) -> Tensor:
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(3))


def edit(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **entries}))


def check_linear_maps(encoder: Encoder, x: Tensor) -> None:
    """Each named map is an nn.Linear of its own that `tokens` calls once, in the order of the layers."""
    roles = ("q", "k", "v", "out", "fc1", "fc2")
    seen: list[str] = []
    for role in roles:
        for name in encoder.linear_maps(role):
            module = encoder.get_submodule(name)
            assert isinstance(module, nn.Linear), name
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    with torch.no_grad():
        encoder.tokens(x)
    for role in roles:
        names = encoder.linear_maps(role)
        assert len(names) == encoder.depth
        assert [name for name in seen if name in names] == names
    assert len(seen) == len(set(seen)) == 6 * encoder.depth


def check_blocks(encoder: Encoder, x: Tensor) -> None:
    """Each named module takes hidden states first and gives a tensor of their shape; changing it changes the output."""
    with torch.no_grad():
        reference = encoder.tokens(x)
        for place in ("attention", "ffn", "layer"):
            names = encoder.blocks(place)
            assert len(names) == encoder.depth
            for name in names:
                shapes: list[torch.Size] = []

                def look(_: nn.Module, inputs: Any, output: Any, shapes: list[torch.Size] = shapes) -> Tensor:
                    shapes.extend((inputs[0].shape, output.shape))
                    return output + torch.linspace(-1, 1, output.shape[-1])  # not a constant: a norm would remove it

                handle = encoder.get_submodule(name).register_forward_hook(look)
                changed = encoder.tokens(x)
                handle.remove()
                assert len(shapes) == 2
                assert shapes[0] == shapes[1]
                assert shapes[0][0] == len(x)
                assert shapes[0][2] == encoder.width
                assert not torch.allclose(changed, reference, atol=1e-3), name


def check_batch(encoder: Encoder, wave: Tensor) -> Tensor:
    """A clip alone gives what it gives in a batch; returns the tokens of the batch."""
    with torch.no_grad():
        together = encoder.tokens(encoder.front_end(wave))
        alone = torch.cat([encoder.tokens(encoder.front_end(clip[None])) for clip in wave])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    return together


def check_training(name: str, size: dict[str, Any], wave: Tensor) -> None:
    """Checkpointing changes no gradient, layerdrop leaves layers out in training alone, frozen weights keep no graph."""
    plain = stir(build(name, size), 0.05).train()
    kept = build(name, size, activation_checkpointing=True).train()
    kept.load_state_dict(plain.state_dict())
    x = plain.front_end(wave)
    for encoder in (plain, kept):
        encoder.tokens(x).square().sum().backward()
    for (key, one), (_, other) in zip(plain.named_parameters(), kept.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=key)
        assert one.grad is not None, key

    drop = build(name, size, layerdrop=0.5)
    calls: list[str] = []
    maps = drop.linear_maps("fc1")
    for map_name in maps:
        drop.get_submodule(map_name).register_forward_hook(lambda *_, name=map_name: calls.append(name))
    torch.manual_seed(0)
    with torch.no_grad():
        drop.tokens(x)
        assert calls == maps
        drop.train()
        for _ in range(10):
            drop.tokens(x)
    assert len(maps) < len(calls) < 11 * len(maps)

    plain.requires_grad_(False)
    assert not plain.tokens(x).requires_grad
