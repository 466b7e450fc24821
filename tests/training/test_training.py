"""The training loop's own arithmetic, on a network small enough to be followed by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscult.data.store import ClipStore
from auscult.errors import AuscultError
from auscult.methods.base import Batch, Drawn, Method, Network, Phase, Shape
from auscult.settings.training import MethodSettings, Train
from auscult.training.loop import TrainingSet, fit
from auscult.training.resume import ResumeFolder


class Line(Network):
    """One weight per mel band, told to say the class."""

    def __init__(self, shape: Shape, noisy: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(shape.mels, 1)
        self.still = nn.Linear(1, 1).requires_grad_(False)
        self.noisy, self.scale = noisy, scale
        self.seen: list[Tensor] = []

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        assert batch.mel is not None
        assert batch.label is not None
        assert batch.clip is not None
        self.seen.append(batch.clip)
        x = batch.mel.mean(2) / 50
        if self.noisy:
            x = nn.functional.dropout(x, 0.3)
        return {"loss": (self.fc(x)[:, 0] - batch.label).square().mean()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.fc.weight], "lr_scale": self.scale}, {"params": [self.fc.bias]}]


METHOD = Method(MethodSettings, Line, "all", mel=lambda settings: "osscl", wave=lambda settings: False)


def trained(packed: Path, out: Path, noisy: bool = False, scale: float = 1.0, **values: Any) -> Line:
    settings = MethodSettings.model_validate({"method": "line", "lr": 1e-2, "schedule": "constant", **values})
    store = ClipStore(packed / "train")
    phase = Phase("", settings, partial(Line, noisy=noisy, scale=scale))
    labels = np.arange(16) % 4
    shape = Shape(4, *store.shape("osscl"), store.samples)
    data = TrainingSet(store, np.arange(16), labels, shape)
    train = Train(threads=1, device="cpu", checkpoint_seconds=0)
    network, history, _ = fit("all", METHOD, phase, train, 0, data, ResumeFolder(out, "key"))
    assert isinstance(network, Line)
    assert all(np.isfinite(row["train_loss"]) for row in history)
    return network


def test_accumulated_batches_are_one_large_batch(packed: Path, tmp_path: Path) -> None:
    parts = trained(packed, tmp_path / "a", epochs=3, batch_size=4, accumulate=2)
    whole = trained(packed, tmp_path / "b", epochs=3, batch_size=8)
    assert torch.equal(torch.cat(parts.seen), torch.cat(whole.seen))
    torch.testing.assert_close(parts.fc.weight, whole.fc.weight, rtol=1e-5, atol=1e-7)
    alone = trained(packed, tmp_path / "c", epochs=3, batch_size=4)
    assert not torch.allclose(alone.fc.weight, whole.fc.weight, rtol=1e-3)


def test_what_is_left_of_an_epoch_makes_an_update_of_its_own(packed: Path, tmp_path: Path) -> None:
    """Four batches of four in groups of three: updates of twelve and of four clips, whose mean gradients count alike."""
    network = trained(packed, tmp_path, epochs=1, batch_size=4, accumulate=3)
    assert len(network.seen) == 4
    store, labels = ClipStore(packed / "train"), torch.arange(16) % 4
    torch.manual_seed(0)
    ours = Line(Shape(4, *store.shape("osscl"), store.samples))
    ours.load_state_dict({**ours.state_dict(), **start(packed, tmp_path / "start")})
    optimizer = torch.optim.AdamW([ours.fc.weight, ours.fc.bias], lr=1e-2, weight_decay=0.0)
    for clips in (torch.cat(network.seen[:3]), network.seen[3]):
        optimizer.zero_grad()
        batch = Batch(mel=store.mel(clips, "osscl"), label=labels[clips], clip=clips)
        ours.loss(batch, {})["loss"].backward()
        optimizer.step()
    torch.testing.assert_close(network.fc.weight, ours.fc.weight, rtol=1e-5, atol=1e-6)


def start(packed: Path, out: Path) -> dict[str, Tensor]:
    """First weights of `trained`: a learning rate of nothing leaves them as they are."""
    return trained(packed, out, epochs=1, batch_size=16, lr=1e-30).state_dict()


def test_steps_cut_the_last_epoch_short(packed: Path, tmp_path: Path) -> None:
    network = trained(packed, tmp_path, train_steps=6, batch_size=4)
    assert [len(clips) for clips in network.seen] == [4] * 6
    assert sorted(torch.cat(network.seen[:4]).tolist()) == list(range(16))


def test_a_group_s_learning_rate_is_scaled_and_its_decay_is_not(packed: Path, tmp_path: Path) -> None:
    """AdamW's first step moves a weight by the learning rate, whatever the gradient; decay adds lr * decay * weight."""
    before = start(packed, tmp_path / "start")["fc.weight"]
    plain = trained(packed, tmp_path / "a", epochs=1, batch_size=16)
    fast = trained(packed, tmp_path / "b", scale=4.0, epochs=1, batch_size=16)
    torch.testing.assert_close(fast.fc.weight - before, 4 * (plain.fc.weight - before), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(fast.fc.bias, plain.fc.bias, rtol=0, atol=0)
    decayed = trained(packed, tmp_path / "c", scale=4.0, epochs=1, batch_size=16, weight_decay=0.5)
    torch.testing.assert_close(decayed.fc.weight - fast.fc.weight, -1e-2 * 0.5 * before, rtol=1e-3, atol=1e-7)


def test_weights_that_need_no_gradient_stay(packed: Path, tmp_path: Path) -> None:
    before = start(packed, tmp_path / "start")
    after = trained(packed, tmp_path / "a", epochs=2, batch_size=8, weight_decay=0.5).state_dict()
    assert torch.equal(after["still.weight"], before["still.weight"])
    assert not torch.equal(after["fc.weight"], before["fc.weight"])


def test_a_gradient_s_norm_is_limited(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, closure: None = None) -> Any:
        weights = [weight for group in self.param_groups for weight in group["params"]]
        norms.append(float(torch.cat([weight.grad.flatten() for weight in weights]).norm()))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    trained(packed, tmp_path / "a", epochs=1, batch_size=4)
    assert max(norms) > 0.2
    norms.clear()
    trained(packed, tmp_path / "b", epochs=1, batch_size=4, clip_gradient=0.1)
    assert max(norms) == pytest.approx(0.1, rel=1e-3)


def test_dropout_draws_alike_in_a_continued_run(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = trained(packed, tmp_path / "a", noisy=True, epochs=3, batch_size=8)
    loss, calls = Line.loss, 0

    def interrupted(self: Line, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return loss(self, batch, drawn)

    monkeypatch.setattr(Line, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(packed, tmp_path / "b", noisy=True, epochs=3, batch_size=8)
    torch.rand(7)  # what happened in between must not matter
    again = trained(packed, tmp_path / "b", noisy=True, epochs=3, batch_size=8)
    assert len(again.seen) < len(straight.seen)
    assert torch.equal(again.fc.weight, straight.fc.weight)


def test_out_of_memory_stops_and_names_the_knobs(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cramped(self: Line, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Line, "loss", cramped)
    with pytest.raises(AuscultError, match="out of memory") as caught:
        trained(packed, tmp_path, epochs=3, batch_size=8)
    for knob in ("batch_size", "train.precision", "resident_fraction"):
        assert knob in str(caught.value)
    assert "checkpointing" not in str(caught.value)  # this method has none


def test_a_finished_network_is_taken_from_its_state(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are all that is kept: nothing is prepared, trained or finished again."""
    straight = trained(packed, tmp_path, epochs=2, batch_size=8)
    (state,) = tmp_path.glob("key/*.pt")
    assert set(torch.load(state)) == {"finished", "history", "seconds"}
    monkeypatch.delattr(Line, "loss")
    monkeypatch.setattr(ClipStore, "mel", None)
    again = trained(packed, tmp_path, epochs=2, batch_size=8)
    assert not again.seen
    assert not again.training
    assert all(torch.equal(weight, straight.state_dict()[name]) for name, weight in again.state_dict().items())
