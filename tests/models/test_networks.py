"""Whole published networks, as the methods build and call them: one training step and the test score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.methods.base import Batch, Shape
from auscult.methods.classifier import ArcFaceClassifier
from auscult.methods.clp_scf import ClpScf, ClpScfSettings
from auscult.methods.mfn import Mfn, MfnSettings
from auscult.methods.os_scl import OsScl, OsSclSettings
from auscult.methods.stgram_mfn import StgramMfn, StgramMfnSettings
from auscult.methods.tastgram import Tastgram, TastgramSettings
from auscult.models.mobilefacenet import MobileFaceNet
from auscult.settings.sections import ArcFaceSettings, FphSettings
from support.draws import Drawn, loss_of
from support.fill import absolute_error, fill, golden, relative_error, tensor, v

SHAPE = Shape(classes=41, mels=128, frames=313, samples=160_000)
SETTINGS = {
    "osscl_tfst": OsSclSettings(inputs="tfst", arcface=ArcFaceSettings(margin=0.4), fph=FphSettings(activation="relu")),
    "osscl_logmel": OsSclSettings(
        inputs="logmel", arcface=ArcFaceSettings(margin=0.7), fph=FphSettings(activation="leaky_relu")
    ),
}
# Shifts in front of a batch norm that removes them again: their gradient is zero but for rounding.
NO_EFFECT = (*tuple(f"block{i}.project.bn.bias" for i in range(6)), "gdconv.bn.bias")


def osscl(name: str) -> tuple[OsScl, dict, Batch]:
    stored = golden(name)
    assert SETTINGS[name].arcface.margin == stored["m"]
    network = OsScl(SETTINGS[name], SHAPE)
    fill(network, f"{name}/")
    wave = tensor(0.1 * v(f"{name}/wav", (6, 160_000)))
    mel = tensor(-40 + 20 * v(f"{name}/mel", (6, 128, 313)))
    return network, stored, Batch(label=torch.from_numpy(stored["y_a"]), wave=wave, mel=mel)


@pytest.mark.parametrize("name", SETTINGS)
def test_osscl_training_step(name: str) -> None:
    network, stored, batch = osscl(name)
    perm, lam = stored["perm"], float(stored["lam"])
    y_a = torch.from_numpy(stored["y_a"])
    y_b = y_a[perm]
    seen: dict[str, Tensor] = {}
    network.arcface.register_forward_hook(lambda _, inputs, logits: seen.update(features=inputs[0], logits=logits))
    parts = loss_of(network.train(), batch, Drawn(lam, perm))
    parts["loss"].backward()

    assert absolute_error(seen["features"], stored["features"]) < 2e-5
    assert absolute_error(seen["logits"], stored["logits"]) < 2.5e-4
    assert functional.cross_entropy(seen["logits"], y_a).item() == pytest.approx(stored["ce_a"], abs=2e-5)
    assert functional.cross_entropy(seen["logits"], y_b).item() == pytest.approx(stored["ce_b"], abs=2e-5)
    assert parts["supcon"].item() == pytest.approx(stored["supcon"], abs=2e-5)
    assert parts["loss"].item() == pytest.approx(stored["total"], abs=2e-5)
    assert relative_error(network.fph.bn2.running_mean, stored["fph_bn2_running_mean"]) < 1e-5
    assert relative_error(network.fph.bn2.running_var, stored["fph_bn2_running_var"]) < 1e-5

    expected = {key.removeprefix(f"{name}/"): norm for key, norm in stored["grad_l2_norms"].items()}
    ours = dict(network.named_parameters())
    assert {key for key, norm in expected.items() if norm is not None} <= ours.keys()
    for key, parameter in ours.items():
        if expected[key] is None:
            assert parameter.grad is None, key
        elif key.endswith(NO_EFFECT):
            assert parameter.grad.norm().item() < 3e-5, key
        else:
            assert parameter.grad.norm().item() == pytest.approx(expected[key], rel=4.5e-3), key


@pytest.mark.parametrize("name", SETTINGS)
def test_osscl_test_score(name: str) -> None:
    network, stored, batch = osscl(name)
    network.eval()
    own = functional.one_hot(torch.from_numpy(stored["y_a"]), 41).bool()
    with torch.no_grad():  # each clip alone, as the authors test
        alone = [
            network.embed(Batch(candidates=own[i : i + 1], wave=batch.wave[i : i + 1], mel=batch.mel[i : i + 1]))
            for i in range(6)
        ]
    assert absolute_error(torch.cat([z for z, _ in alone]), stored["eval_features_unmixed"]) < 4e-6
    assert absolute_error(torch.cat([scores["native"] for _, scores in alone]), stored["eval_scores_unmixed"]) < 6e-5


def check_classifier(network: ArcFaceClassifier, stored: dict, prefix: str) -> None:
    """Embedding, logits, score and validation loss of the two golden clips."""
    assert network.arcface.margin == stored["m"]
    wave = tensor(0.1 * v(f"{prefix}/wav", (2, 1, 160_000)))[:, 0]
    mel = tensor(-40 + 20 * v(f"{prefix}/mel", (2, 128, 313)))
    labels = torch.from_numpy(stored["labels"])
    batch = Batch(label=labels, candidates=functional.one_hot(labels, 41).bool(), wave=wave, mel=mel)
    with torch.no_grad():
        embedding, scores = network.embed(batch)
        logits = network.arcface(embedding, labels)
        loss = network.valid_loss(batch)
    assert relative_error(embedding, stored["eval_embedding"]) < 5.5e-6
    assert absolute_error(logits, stored["eval_logits"]) < 3.5e-5
    assert absolute_error(scores["native"], stored["scores"]) < 1e-5
    assert absolute_error(loss, stored["scores"]) < 1e-5


def test_stgram() -> None:
    network = StgramMfn(StgramMfnSettings(), SHAPE).eval()
    fill(network.stgram, "stgram/")
    fill(network.arcface, "stgram/arcface.")
    check_classifier(network, golden("stgram"), "stgram")


def test_tastgram() -> None:
    network = Tastgram(TastgramSettings(), SHAPE).eval()
    check_classifier(fill(network, "tast/"), golden("tastgram"), "tast")


def test_parameter_totals_as_published() -> None:
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    size = (1, 128, 313, 128, "current")
    aux = count(MobileFaceNet(*size, 41)) - count(MobileFaceNet(*size))  # evaluated by the authors, used by nobody
    assert aux == 5_289
    assert count(OsScl(SETTINGS["osscl_tfst"], SHAPE)) + aux == 1_377_535
    assert count(OsScl(SETTINGS["osscl_logmel"], SHAPE)) + aux == 897_257
    assert count(OsScl(SETTINGS["osscl_logmel"], SHAPE).mfn) + aux == 875_049  # what the paper calls the Log-Mel model
    assert count(StgramMfn(StgramMfnSettings(), SHAPE)) + aux == 1_161_279
    assert count(StgramMfn(StgramMfnSettings(plan="original"), SHAPE)) + aux == 1_350_335
    assert count(Tastgram(TastgramSettings(), SHAPE)) + aux == 1_161_855
    assert count(Mfn(MfnSettings(), SHAPE)) + aux == 875_049 + 5_248  # MobileFaceNet and one centre per class
    assert count(ClpScf(ClpScfSettings(), SHAPE)) == 1_361_686
