"""TgramNet against golden vectors."""

from __future__ import annotations

import pytest
import torch

from auscult.models.tgram import Tgram
from support.fill import fill, golden, relative_error, statistics, tensor, v


def test_golden() -> None:
    stored = golden("tgram")
    network = fill(Tgram(313, 128), "tgram/").eval()
    with torch.no_grad():
        out = network(tensor(0.1 * v("tgram/input", (2, 1, 160_000))))
    assert list(out.shape) == stored["shape"].tolist()
    assert relative_error(out[0, ::4], stored["out_sample0_every4th_mel"]) < 2.5e-6
    assert relative_error(out[1][:, stored["frame_idx"]], stored["out_sample1_frames"]) < 2.5e-6
    for ours, expected in zip(out, stored["stats"], strict=True):
        mean, *others = statistics(ours)
        assert others == pytest.approx(expected[1:], rel=2.5e-6)
        assert mean == pytest.approx(expected[0], abs=2.5e-6 * expected[1])


def test_names_shapes_and_count() -> None:
    network = Tgram(313, 128)
    ours = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert ours == {name.split("/")[1]: shape for name, shape, _ in golden("tgram")["manifest"]}
    assert sum(p.numel() for p in network.parameters()) == 280_406


@pytest.mark.parametrize("seconds", [2, 10])
def test_frames_follow_the_clip_length(seconds: int) -> None:
    samples = 16_000 * seconds
    frames = 1 + samples // 512
    assert Tgram(frames, 128)(torch.zeros(1, 1, samples)).shape == (1, 128, frames)
