"""The network of BEATs: its formulas against plain ones, and the switches of its training."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.models.beats import Attention, Beats, PositionConv, RelativeBias, Sizes, bucket_of_offset, grouped
from support.fill import golden, v

SMALL = Sizes(
    layers=3, width=32, ffn=48, heads=4, embed=16, position_kernel=8, position_groups=2, buckets=32, max_distance=40
)
CPU = torch.device("cpu")


def network(sizes: Sizes = SMALL, **switches: float) -> Beats:
    """Seeded weights, with biases, gates and relative biases that matter."""
    torch.manual_seed(0)
    off = {"layerdrop": 0.0, "gradient_decay": 1.0, "activation_checkpointing": False}
    result = Beats(sizes, **{**off, **switches})  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif "gate" in name or "table" in name:
                parameter.normal_()
    return result


def spectrogram(batch: int = 2, frames: int = 70) -> Tensor:
    return torch.from_numpy(v("beats/spectrogram", (batch, frames, 128))).float()


def plain_attention(block: Attention, x: Tensor, table: Tensor, sizes: Sizes, padding: Tensor | None) -> Tensor:
    """Head by head and query by query, from the formulas of the paper's appendix and the authors' code."""
    batch, tokens, width = x.shape
    size = width // sizes.heads
    q, k, value = (functional.linear(x, part.weight, part.bias) for part in (block.q, block.k, block.v))
    out = torch.zeros_like(x)
    for clip in range(batch):
        for head in range(sizes.heads):
            mine = slice(head * size, (head + 1) * size)
            for query in range(tokens):
                eight = block.gate.weight @ q[clip, query, mine] + block.gate.bias
                a, b = torch.sigmoid(eight[:4].sum()), torch.sigmoid(eight[4:].sum())
                gate = a * (b * block.gate_scale[0, head, 0, 0] - 1) + 2
                scores = k[clip, :, mine] @ q[clip, query, mine] / math.sqrt(size)
                for key in range(tokens):
                    scores[key] += gate * table[plain_bucket(key - query, sizes), head]
                    if padding is not None and padding[clip, key]:
                        scores[key] = -math.inf
                out[clip, query, mine] = torch.softmax(scores, 0) @ value[clip, :, mine]
    return functional.linear(out, block.out.weight, block.out.bias)


def plain_bucket(offset: int, sizes: Sizes) -> int:
    half, exact, distance = sizes.buckets // 2, sizes.buckets // 4, abs(offset)
    if distance >= exact:
        growth = math.log(distance / exact) / math.log(sizes.max_distance / exact)
        distance = min(exact + int(growth * (half - exact)), half - 1)
    return distance + (half if offset > 0 else 0)


def test_buckets() -> None:
    stored = golden("beats_tiny")["rel.bucket_of_offset_m900_p900"]
    assert np.array_equal(bucket_of_offset(901, 320, 800, CPU).numpy(), stored)


def test_bias_of_each_pair_of_tokens() -> None:
    relative = RelativeBias(4, 32, 40)
    bias = relative(50)
    assert bias.shape == (4, 50, 50)
    for query, key in ((0, 0), (0, 49), (49, 0), (17, 20), (20, 17), (3, 31)):
        assert torch.equal(bias[:, query, key], relative.table.weight[plain_bucket(key - query, SMALL)])


@pytest.mark.parametrize("padded", [False, True])
def test_attention_against_the_plain_formula(padded: bool) -> None:
    model = network()
    block, x = model.layers[1].attention.double(), torch.randn(2, 24, 32, dtype=torch.float64)
    table = model.relative.table.weight.double()
    padding = torch.zeros(2, 24, dtype=torch.bool)
    padding[1, 15:] = True
    mask = padding if padded else None
    with torch.no_grad():
        ours = block(x, model.relative.double()(24), mask)
        expected = plain_attention(block, x, table, SMALL, mask)
    assert (ours - expected).abs().max() < 1e-12


def test_position_weight_has_one_gain_per_tap() -> None:
    torch.manual_seed(0)
    ours = PositionConv(32, 8, 4)
    with torch.no_grad():
        ours.gain.uniform_(0.5, 2)
        ours.bias.normal_()
    theirs = nn.utils.parametrizations.weight_norm(nn.Conv1d(32, 32, 8, padding=4, groups=4), dim=2)
    names = {"gain": "weight.original0", "direction": "weight.original1"}
    state = {f"parametrizations.{names[key]}" if key in names else key: w for key, w in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(2, 21, 32)
    expected = functional.gelu(theirs(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
    assert (ours(x) - expected).abs().max() < 1e-6


def test_tokens_are_time_major_and_rest_frames_are_dropped() -> None:
    model = network().eval()
    seen = []
    model.patch_norm.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    x = spectrogram(1, 79)
    with torch.no_grad():
        tokens = model(x)
        assert torch.equal(tokens, model(x[:, :64]))
    assert tokens.shape == (1, 4 * 8, 32)
    patch = x[0, 2 * 16 : 3 * 16, 5 * 16 : 6 * 16]  # time 2, frequency 5
    expected = (model.patch.weight[:, 0] * patch).sum((1, 2))
    assert (seen[0][0, 8 * 2 + 5] - expected).abs().max() < 1e-5


def test_layer_by_number() -> None:
    model = network().eval()
    outputs: list[Tensor] = []
    for block in model.layers:
        block.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    with torch.no_grad():
        last = model(spectrogram())
        reached = list(outputs)
        assert torch.equal(last, reached[2])
        for number in (1, 2, 3):
            assert torch.equal(model(spectrogram(), number), reached[number - 1])


def test_clips_do_not_see_each_other() -> None:
    model, x = network().eval(), spectrogram(3)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in x])
        assert (model(x) - alone).abs().max() < 2e-6


def test_padding_rule() -> None:
    stored = golden("beats_tiny")
    frames = torch.from_numpy(stored["mask.frames"])
    assert torch.equal(grouped(frames, 104), torch.from_numpy(stored["mask.tokens"]))
    samples = torch.arange(1005).expand(2, -1) >= torch.tensor([[1005], [405]])
    assert grouped(samples, 10).tolist() == [[False] * 10, [False] * 5 + [True] * 5]


def test_what_stands_in_the_padding_does_not_matter() -> None:
    model, x = network().eval(), spectrogram(2, 80)
    frames = torch.arange(80).expand(2, -1) >= torch.tensor([[80], [48]])
    padding = grouped(frames, 40)
    assert padding.sum(1).tolist() == [0, 16]
    other = x.clone()
    other[1, 48:] = 5.0
    with torch.no_grad():
        masked = model(x, padding=frames)
        assert (masked - model(other, padding=frames))[~padding].abs().max() < 1e-6
        assert (model(x) - model(other))[~padding].abs().max() > 1e-3
        assert torch.equal(masked[0], model(x, padding=torch.zeros(2, 80, dtype=torch.bool))[0])


def test_padding_of_samples() -> None:
    model, x = network().eval(), spectrogram(2, 80)
    samples = torch.arange(13_040).expand(2, -1) >= torch.tensor([[13_040], [7_000]])
    with torch.no_grad():
        ours = model(x, padding=samples)
        # 163 samples each: frame 42 is the last that is not wholly padding, and tokens take two frames.
        frames = torch.arange(80).expand(2, -1) >= torch.tensor([[80], [43]])
        assert torch.equal(ours, model(x, padding=frames))
        assert not torch.equal(ours, model(x))


def test_bfloat16_is_close() -> None:
    model, x = network().eval(), spectrogram()
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x)
    assert rounded.dtype == torch.float32  # the residual stream
    # Tokens have unit variance; bfloat16 keeps three decimal digits.
    assert 1e-4 < (rounded - exact).abs().max() < 0.1
    assert functional.cosine_similarity(rounded, exact, dim=-1).min() > 0.999


def gradients(model: Beats, x: Tensor) -> dict[str, Tensor | None]:
    weights = torch.from_numpy(v("beats/readout", (SMALL.width,))).to(x.dtype)
    (model(x) @ weights).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_parameter_has_a_gradient() -> None:
    for name, gradient in gradients(network().train(), spectrogram()).items():
        assert gradient is not None, name
        if not name.endswith("attention.k.bias"):  # shifts all scores of a query alike: softmax undoes it
            assert gradient.abs().max() > 1e-6, name


def test_checkpointing_changes_no_gradient() -> None:
    plain, saving = network().train(), network(activation_checkpointing=True).train()
    calls = []
    saving.layers[1].ffn.fc1.register_forward_hook(lambda *_: calls.append(1))
    expected, ours = gradients(plain, spectrogram()), gradients(saving, spectrogram())
    assert len(calls) == 2  # once forward, once again for the backward pass
    for name, gradient in expected.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-5, atol=1e-7), name
    saving.eval()(spectrogram()).sum().backward()
    assert len(calls) == 3  # training only


def test_gradient_decay_is_a_power_of_the_depth() -> None:
    x = spectrogram().double()
    plain, decayed = gradients(network().double(), x), gradients(network(gradient_decay=0.6).double(), x)
    for name, gradient in plain.items():
        if name.startswith("relative") or name.endswith("k.bias"):  # enters from the side of every layer; is zero
            continue
        power = 3 - 1 - int(name.split(".")[1]) if name.startswith("layers") else 3
        assert torch.allclose(decayed[name], 0.6**power * gradient, rtol=1e-9, atol=1e-12), name
    assert gradients(network(gradient_decay=0.6).double(), x)["patch.weight"].abs().max() > 1e-6


def test_layerdrop() -> None:
    x = spectrogram()
    model = network(layerdrop=0.5)
    reached: list[int] = []
    for index, block in enumerate(model.layers):
        block.register_forward_hook(lambda _, inputs, output, index=index: reached.append(index))
    with torch.no_grad():
        torch.manual_seed(5)
        expected = [index for index, draw in enumerate(torch.rand(3)) if draw >= 0.5]
        torch.manual_seed(5)
        model.train()(x)
        assert reached == expected
        assert 0 < len(expected) < 3
        counts = 0
        for _ in range(100):
            reached.clear()
            model(x[:1, :16])
            counts += len(reached)
        assert 120 < counts < 180  # of 300; standard deviation 8.7
        reached.clear()
        model.eval()(x)
        assert reached == [0, 1, 2]


def test_layerdrop_of_none_and_of_all() -> None:
    x, full = spectrogram(), network().eval()
    before: list[Tensor] = []
    full.norm.register_forward_hook(lambda _, inputs, output: before.append(output))
    with torch.no_grad():
        tokens = full(x)
        assert torch.equal(network(layerdrop=0.0).train()(x), tokens)
        none = network(layerdrop=1.0).train()(x)
    assert torch.equal(none, before[0])


def test_first_weights() -> None:
    torch.manual_seed(0)
    sizes = replace(SMALL, layers=2, width=256, ffn=512, heads=4, position_kernel=16, position_groups=4)
    model = Beats(sizes, 0.0, 1.0, False)
    beta = (8 * 2) ** -0.25
    for block in model.layers:
        for part, gain in (("q", 1.0), ("k", 1.0), ("v", beta), ("out", beta)):
            weight = getattr(block.attention, part).weight
            assert weight.std().item() == pytest.approx(gain * math.sqrt(2 / 512), rel=0.02)
        for part in (block.ffn.fc1, block.ffn.fc2):
            assert part.weight.std().item() == pytest.approx(beta * math.sqrt(2 / 768), rel=0.02)
        assert block.attention.gate_scale.eq(1).all()
    assert model.position.direction.std().item() == pytest.approx(math.sqrt(4 / (16 * 256)), rel=0.02)
    assert torch.equal(model.position.gain, model.position.direction.norm(dim=(0, 1), keepdim=True))


def test_a_copy_is_a_network_of_its_own() -> None:
    model = network().eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        expected = model(spectrogram())
        model.position.direction.zero_()
        model.relative.table.weight.zero_()
        assert torch.equal(other(spectrogram()), expected)


def test_trains_after_inference_mode_has_filled_the_cache() -> None:
    model = network()
    bucket_of_offset.cache_clear()
    with torch.inference_mode():
        model.eval()(spectrogram())
    assert gradients(model.train(), spectrogram())["relative.table.weight"] is not None
