"""TFgramNet against golden vectors."""

from __future__ import annotations

import pytest
import torch

from auscult.models.tfgram import TFgram
from support.fill import fill, golden, relative_error, statistics, tensor, v


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(mode: str) -> None:
    stored = golden("tfgram")
    network = fill(TFgram(313, 128), "tfgram/").train(mode == "train")
    with torch.no_grad():
        out = network(tensor(0.1 * v("tfgram/input", (2, 1, 160_000))))
    assert list(out.shape) == stored["shape"].tolist()
    if mode == "eval":
        assert relative_error(out[0, ::4], stored["eval_sample0_every4th_channel"]) < 2e-6
        assert relative_error(out[1][:, stored["frame_idx"]], stored["eval_sample1_frames"]) < 2e-6
    else:
        assert relative_error(out[0, ::8], stored["train_sample0_every8th_channel"]) < 1e-5
    for ours, expected in zip(out, stored[f"{mode}_stats"], strict=True):
        assert statistics(ours) == pytest.approx(expected, rel=2e-6 if mode == "eval" else 1e-5)


def test_names_shapes_and_counts() -> None:
    network = TFgram(313, 128)
    ours = {
        name: list(value.shape)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert ours == {name.split("/")[1]: shape for name, shape, _ in golden("tfgram")["manifest"]}
    assert sum(p.numel() for p in network.parameters()) == 198_720
    # Table I of the paper, 64 channels in the second block.
    assert sum(p.numel() for p in TFgram(313, 64).parameters()) == 124_736


@pytest.mark.parametrize("samples", [16_000, 32_000])
def test_frames_follow_the_clip_length(samples: int) -> None:
    frames = 1 + samples // 512
    assert TFgram(frames, 128)(torch.zeros(2, 1, samples)).shape == (2, 128, frames)
