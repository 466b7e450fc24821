"""The Vision Transformer's layers against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auscult.models.vit import Attention, Block, Transformer, initialise
from support.fill import tensor, v

WIDTH, HEADS, FFN = 12, 3, 20


def perturbed(network: nn.Module) -> nn.Module:
    """Norms and shifts away from 1 and 0, so that they count."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network.eval()


def fused(attention: Attention, part: str) -> Tensor:
    return torch.cat([getattr(getattr(attention, role), part) for role in "qkv"])


@pytest.mark.parametrize("bias_kv", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_pytorchs(bias: bool, bias_kv: bool) -> None:
    ours = perturbed(Attention(WIDTH, HEADS, bias, bias_kv))
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_bias_kv=bias_kv).eval()
    theirs.in_proj_weight.data = fused(ours, "weight").data
    theirs.in_proj_bias.data = fused(ours, "bias").data if bias else torch.zeros(3 * WIDTH)
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    if bias_kv:
        theirs.bias_k.data, theirs.bias_v.data = ours.bias_k.data, ours.bias_v.data
    x = tensor(v("vit/x", (2, 7, WIDTH)))
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], atol=2e-6, rtol=0)


@pytest.mark.parametrize("norm_first", [True, False])
def test_block_is_pytorchs(norm_first: bool) -> None:
    ours = perturbed(Block(WIDTH, HEADS, FFN, norm_first))
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, FFN, 0.0, "gelu", 1e-6, batch_first=True, norm_first=norm_first
    ).eval()
    theirs.self_attn.in_proj_weight.data = fused(ours.attention, "weight").data
    theirs.self_attn.in_proj_bias.data = fused(ours.attention, "bias").data
    for mine, other in (
        (ours.attention.out, theirs.self_attn.out_proj),
        (ours.ffn.fc1, theirs.linear1),
        (ours.ffn.fc2, theirs.linear2),
        (ours.norm1, theirs.norm1),
        (ours.norm2, theirs.norm2),
    ):
        other.load_state_dict(mine.state_dict())
    x = tensor(v("vit/x", (2, 7, WIDTH)))
    torch.testing.assert_close(ours(x), theirs(x), atol=5e-6, rtol=0)


def transformer(
    layers: int, norm_first: bool = True, layerdrop: float = 0.0, checkpointing: bool = False
) -> Transformer:
    return Transformer([Block(WIDTH, HEADS, FFN, norm_first) for _ in range(layers)], layerdrop, checkpointing)


def test_layers_and_output() -> None:
    network = perturbed(transformer(3))
    x = tensor(v("vit/x", (2, 7, WIDTH)))
    y = x
    for i, block in enumerate(network.blocks):
        y = block(y)
        assert torch.equal(network(x, i + 1), y)
    assert torch.equal(network(x), network.norm(y))
    post = perturbed(transformer(2, norm_first=False))
    assert torch.equal(post(x), post(x, 2))
    assert not any(key.startswith("norm.") for key in post.state_dict())


def test_layers_above_are_not_computed() -> None:
    network = transformer(3)
    calls: list[int] = []
    for i, block in enumerate(network.blocks):
        block.register_forward_hook(lambda module, inputs, output, i=i: calls.append(i))
    network(torch.zeros(1, 2, WIDTH), 2)
    assert calls == [0, 1]


def test_checkpointing_changes_no_gradient() -> None:
    x = tensor(v("vit/x", (2, 7, WIDTH)))
    grads, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        network = perturbed(transformer(2, checkpointing=checkpointing)).train()
        count: list[int] = []
        network.blocks[0].register_forward_pre_hook(lambda module, inputs, count=count: count.append(1))
        network(x).square().sum().backward()
        grads.append([parameter.grad for parameter in network.parameters()])
        kept.append(len(count))
    assert kept == [1, 2]  # computed again on the way back
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_layerdrop_leaves_out_layers_in_training_alone() -> None:
    network = perturbed(transformer(4, layerdrop=0.5))
    x = tensor(v("vit/x", (1, 3, WIDTH)))
    assert torch.equal(network(x), network(x))
    network.train()
    torch.manual_seed(0)
    calls: list[int] = []
    for block in network.blocks:
        block.register_forward_hook(lambda module, inputs, output: calls.append(1))
    for _ in range(100):
        network(x)
    assert 160 < len(calls) < 240  # 400 chances of one half: standard deviation 10


def test_first_values() -> None:
    torch.manual_seed(0)
    network = Transformer([Block(64, 4, 256, bias_kv=True)], 0.0, False)
    initialise(network)
    assert network.blocks[0].ffn.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.blocks[0].ffn.fc1.bias.abs().max() == 0
    assert network.blocks[0].norm1.weight.min() == network.blocks[0].norm1.weight.max() == 1
    assert 0 < network.blocks[0].attention.bias_k.abs().max() < 0.1
