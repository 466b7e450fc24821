"""IDNN and the autoencoder: golden scores through the methods themselves, and windows against a loop over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from auscult.methods import ae, idnn
from auscult.methods.base import Batch, Method, Shape
from auscult.methods.windows import mean_over_windows, windows
from support.fill import absolute_error, fill, golden, relative_error, tensor

METHODS: dict[str, Method] = {"ae": ae.METHOD, "idnn": idnn.METHOD}
ROWS = {"ae": [0, 1, 2, 3, 4], "idnn": [0, 1, 3, 4]}  # frames of a window that the network reads
TARGET = {"ae": [0, 1, 2, 3, 4], "idnn": [2]}  # and those it has to give
by_name = pytest.mark.parametrize("name", METHODS)


def build(name: str, mels: int = 128, frames: int = 313) -> Any:
    method = METHODS[name]
    return method.build(method.settings(method=name), Shape(7, mels, frames, 160_000)).eval()


def filled(name: str, mels: int, frames: int) -> Any:
    return fill(build(name, mels, frames), "x/")


@by_name
def test_golden_through_embed(name: str) -> None:
    stored = golden("ae_idnn")
    network = build(name)
    fill(network.autoencoder, f"{name}/")
    batch = Batch(mel=tensor(stored[f"{name}_spec"])[None])
    with torch.no_grad():
        embedding, scores = network.embed(batch)
    assert list(scores) == ["native"]
    assert scores["native"].item() == pytest.approx(stored[f"{name}_score"], rel=7e-7)
    assert relative_error(embedding[0], stored[f"{name}_eval_latent"].mean(0)) < 6e-6


def test_parameters_at_the_size_of_the_challenge() -> None:
    counts = {name: sum(p.numel() for p in build(name).parameters()) for name in METHODS}
    assert counts == {"ae": 267_928, "idnn": 185_496}


@by_name
def test_score_against_a_loop_over_windows(name: str) -> None:
    network = filled(name, 16, 11)
    mel = torch.randn(3, 16, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedding, scores = network.embed(Batch(mel=mel))
        for clip in range(3):
            error, latent = [], []
            for start in range(7):
                window = mel[clip, :, start : start + 5].T  # [5, mels]
                output, bottleneck = network.autoencoder(window[ROWS[name]].reshape(1, -1))
                error.append((output - window[TARGET[name]].reshape(1, -1)).double().square().mean().item())
                latent.append(bottleneck.double().numpy()[0])
            assert scores["native"][clip].item() == pytest.approx(np.mean(error), rel=1e-5)
            assert absolute_error(embedding[clip], np.mean(latent, 0)) < 1e-5


@by_name
def test_loss_is_the_mean_error_of_its_windows(name: str) -> None:
    network = filled(name, 16, 11)
    mel = torch.randn(3, 16, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = network.loss(Batch(mel=windows(mel, 5).flatten(0, 1)), {})["loss"]
        valid = network.valid_loss(Batch(mel=mel))
    torch.testing.assert_close(loss, valid.mean())


def test_idnn_does_not_read_the_frame_it_predicts() -> None:
    network = filled("idnn", 16, 5)
    clip = torch.randn(1, 16, 5, generator=torch.Generator().manual_seed(0))
    embeddings = {}
    for frame in range(5):
        changed = clip.clone()
        changed[:, :, frame] += 1
        with torch.no_grad():
            embeddings[frame] = network.embed(Batch(mel=changed))[0]
    with torch.no_grad():
        unchanged = network.embed(Batch(mel=clip))[0]
    assert [torch.equal(embeddings[frame], unchanged) for frame in range(5)] == [False, False, True, False, False]


@pytest.mark.parametrize(("width", "hop", "chunk"), [(5, 1, 4096), (5, 1, 7), (6, 4, 2), (12, 1, 3), (3, 5, 1)])
def test_mean_over_windows_against_slices(width: int, hop: int, chunk: int) -> None:
    mel = torch.randn(4, 3, 12, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []

    def evaluate(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
        sizes.append(len(part))
        return part.amax((1, 2)), part

    starts = range(0, 12 - width + 1, hop)
    cuts = np.stack([[clip[:, s : s + width] for s in starts] for clip in mel.numpy()])  # [B, W, mels, width]
    peak, mean = mean_over_windows(evaluate, mel, width, hop, chunk)
    assert absolute_error(peak, cuts.max((2, 3)).mean(1)) < 1e-6
    assert absolute_error(mean, cuts.mean(1)) < 1e-6
    assert max(sizes) <= chunk
    assert sum(sizes) == 4 * len(starts)
    np.testing.assert_array_equal(windows(mel, width, hop).numpy(), cuts)
