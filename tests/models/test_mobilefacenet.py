"""MobileFaceNet against golden vectors of both plans, and its behaviour on other clip lengths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auscult.models.mobilefacenet import MobileFaceNet
from support.fill import absolute_error, fill, golden, relative_error, statistics, tensor, v


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def record_stages(network: nn.Module) -> dict[str, Tensor]:
    stages: dict[str, Tensor] = {}
    for name, child in network.named_children():
        child.register_forward_hook(lambda _, __, output, name=name: stages.__setitem__(name, output))
    return stages


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_current_plan(channels: int, mode: str) -> None:
    stored = golden("mfn")
    network = fill(MobileFaceNet(channels, 128, 313, 128, "current", 41), f"mfn{channels}/").train(mode == "train")
    stages = record_stages(network)
    image = tensor(v(f"mfn{channels}/input", (4, channels, 128, 313)))
    embedding = network(image)

    assert relative_error(embedding, stored[f"c{channels}_{mode}_embedding"]) < (6e-6 if mode == "eval" else 1e-4)
    for name, expected in stored[f"c{channels}_{mode}_stage_stats"].items():
        mean, *others = statistics(stages[name].flatten(1) if name == "embed" else stages[name])
        # Deviation, maximum and norm are themselves scales; the mean, near zero, is held against the deviation.
        assert others == pytest.approx(expected[1:], rel=5e-6), name
        assert mean == pytest.approx(expected[0], abs=5e-6 * expected[1]), name
    if mode == "train":
        for stage in ("stem", "embed"):
            norm = getattr(network, stage).bn
            for ours, key in ((norm.running_mean, "mean"), (norm.running_var, "var")):
                assert relative_error(ours, stored[f"c{channels}_after_train_{stage}_bn_{key}"]) < 5e-6
    else:
        assert relative_error(network.aux_fc(embedding), stored[f"c{channels}_eval_aux_logits"]) < 6e-6


def test_golden_original_plan() -> None:
    stored = golden("mfn_original_plan")
    network = fill(MobileFaceNet(2, 128, 313, 128, "original", 41), "mfnorig/").eval()
    embedding = network(tensor(v("mfnorig/input", (2, 2, 128, 313))))
    assert relative_error(embedding, stored["eval_embedding"]) < 1.2e-5
    assert relative_error(network.aux_fc(embedding), stored["eval_aux_logits"]) < 1.2e-5


@pytest.mark.parametrize(
    ("file", "key", "network"),
    [
        ("mfn", "c3_manifest", lambda: MobileFaceNet(3, 128, 313, 128, "current", 41)),
        ("mfn_original_plan", "manifest", lambda: MobileFaceNet(2, 128, 313, 128, "original", 41)),
    ],
)
def test_names_and_shapes_are_the_golden_ones(file: str, key: str, network: type) -> None:
    ours = {
        name: list(value.shape)
        for name, value in network().state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert ours == {name.split("/")[1]: shape for name, shape, _ in golden(file)[key]}


def test_parameter_counts_as_published() -> None:
    counts = [parameters(MobileFaceNet(channels, 128, 313, 128, "current", 41)) for channels in (1, 2, 3)]
    assert counts == [875_049, 875_625, 876_201]
    assert parameters(MobileFaceNet(1, 128, 313, 128, "current")) == 875_049 - 5_289
    original = parameters(MobileFaceNet(2, 128, 313, 128, "original", 41))
    assert original == 1_064_681


@pytest.mark.parametrize(("mels", "frames"), [(128, 63), (64, 32), (128, 313), (17, 33)])
def test_any_image_size(mels: int, frames: int) -> None:
    network = MobileFaceNet(1, mels, frames, 128, "current").eval()
    assert network(torch.zeros(1, 1, mels, frames)).shape == (1, 128)


def test_clips_do_not_influence_each_other_at_test_time() -> None:
    network = fill(MobileFaceNet(2, 32, 48, 128, "current"), "x/").eval()
    image = torch.randn(5, 2, 32, 48, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([network(clip[None]) for clip in image])
    assert absolute_error(network(image), alone.detach().double().numpy()) < 1e-4 * alone.abs().max().item()


def test_initial_values() -> None:
    network = MobileFaceNet(1, 128, 313, 128, "current")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            expected = (2 / (height * width * module.out_channels)) ** 0.5
            tolerance = 5 / (2 * module.weight.numel()) ** 0.5  # five standard errors
            assert module.weight.std().item() == pytest.approx(expected, rel=tolerance)
        if isinstance(module, nn.PReLU):
            assert torch.equal(module.weight, torch.full_like(module.weight, 0.25))
