"""The plain MobileFaceNet baseline: golden network, and nothing but the Tgram between it and STgram-MFN."""

from __future__ import annotations

import torch
from torch.nn import functional

from auscult.methods.base import Batch, Shape
from auscult.methods.mfn import METHOD, Mfn, MfnSettings
from auscult.methods.stgram_mfn import StgramMfn, StgramMfnSettings
from support.fill import fill, golden, relative_error, tensor, v

SHAPE = Shape(classes=41, mels=128, frames=313, samples=160_000)


def test_golden_embedding_and_its_score() -> None:
    network = Mfn(MfnSettings(), SHAPE).eval()
    fill(network.mfn, "mfn1/")
    labels = torch.tensor([3, 0, 40, 17])
    mel = tensor(v("mfn1/input", (4, 1, 128, 313)))[:, 0]
    batch = Batch(label=labels, candidates=functional.one_hot(labels, 41).bool(), mel=mel)
    with torch.no_grad():
        embedding, scores = network.embed(batch)
        valid = network.valid_loss(batch)
    assert relative_error(embedding, golden("mfn")["c1_eval_embedding"]) < 6e-6

    x, w = embedding.double(), network.arcface.weight.detach().double()
    angle = torch.acos(functional.cosine_similarity(x[:, None], w[None], dim=2))
    angle[torch.arange(4), labels] += 0.7  # no angle here comes near pi
    expected = -torch.log_softmax(30 * angle.cos(), 1)[torch.arange(4), labels]
    torch.testing.assert_close(scores["native"].double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(valid.double(), expected, rtol=1e-5, atol=1e-5)


def test_differs_from_stgram_mfn_by_the_tgram_alone() -> None:
    assert MfnSettings().model_dump(exclude={"method"}) == StgramMfnSettings().model_dump(exclude={"method"})
    ours = {key: value.shape for key, value in Mfn(MfnSettings(), SHAPE).state_dict().items()}
    theirs = {key: value.shape for key, value in StgramMfn(StgramMfnSettings(), SHAPE).state_dict().items()}
    theirs = {key.removeprefix("stgram."): shape for key, shape in theirs.items() if ".tgram." not in key}
    assert theirs.pop("mfn.stem.conv.weight") == (64, 2, 3, 3)
    assert ours.pop("mfn.stem.conv.weight") == (64, 1, 3, 3)
    assert ours == theirs
    assert not METHOD.wave(MfnSettings())


def test_loss_falls_on_two_tones() -> None:
    shape = Shape(classes=2, mels=16, frames=16, samples=0)
    torch.manual_seed(0)
    network = Mfn(MfnSettings(), shape)
    mel = torch.full((8, 16, 16), -60.0)
    mel[:4, 3] = 0
    mel[4:, 11] = 0
    batch = Batch(label=torch.arange(8) // 4, mel=mel + torch.randn(8, 16, 16))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = network.loss(batch, {})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
