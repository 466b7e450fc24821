"""The baseline of 2023 to 2026: the official code's own numbers, brute force in NumPy, and what its Mahalanobis score misses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auscult.data.store import ClipStore
from auscult.methods.base import Batch, Shape
from auscult.methods.dcase_ae import METHOD, DcaseAe, DcaseAeSettings
from auscult.settings.training import Train
from auscult.training import modelfolder
from auscult.training.arm import train_arm
from support.fill import fill, golden, v
from support.methods import small
from support.packed import pack_tree, tiny_profile
from support.trees import write_tree_2023

MELS, FRAMES = 16, 21
ALL = 10**6
"""A batch size that no training set fills: the covariance of one batch."""


def build(**settings: Any) -> DcaseAe:
    network = DcaseAe(DcaseAeSettings(**settings), Shape(1, MELS, FRAMES, 0))
    fill(network.autoencoder, "dcase_ae/")
    return network.eval()


def clips(name: str, count: int) -> Tensor:
    return torch.from_numpy(-40 + 20 * v(f"dcase_ae/{name}", (count, MELS, FRAMES))).float()


def training() -> Batch:
    return Batch(mel=clips("train", 12), target=torch.arange(12) >= 9)


def fitted(**settings: Any) -> DcaseAe:
    network, whole = build(**settings), training()
    with torch.no_grad():  # in two batches, the second of both domains
        network.finish(Batch(mel=whole.mel[part], target=whole.target[part]) for part in (slice(0, 7), slice(7, 12)))
    return network


def covariances(network: DcaseAe) -> np.ndarray:
    return np.linalg.inv(network.precision.double().numpy())


def scores(network: DcaseAe, mel: Tensor) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: score.double().numpy() for name, score in network.embed(Batch(mel=mel))[1].items()}


def residuals(network: DcaseAe, mel: Tensor) -> np.ndarray:
    """float64 [B, W, 5, mels], by a loop over windows."""
    starts = range(mel.shape[2] - 4)
    with torch.no_grad():
        windows = [mel[:, :, start : start + 5].transpose(1, 2).flatten(1) for start in starts]
        left = [window - network.autoencoder(window)[0] for window in windows]
    return torch.stack(left, 1).unflatten(2, (5, MELS)).double().numpy()


# -------------------------------------------------------------------------------------------------------- the official code
def test_covariances_and_scores_of_the_official_code() -> None:
    stored = golden("dcase_ae")
    network = fitted(batch_size=ALL)
    for ours, official in zip(covariances(network), stored["covariance"], strict=True):
        assert np.abs(ours - official).max() < 1e-5 * np.abs(official).max()
    ours = scores(network, clips("test", 4))
    np.testing.assert_allclose(ours["native"], stored["mse"], rtol=1e-6)
    np.testing.assert_allclose(ours["native_mahala_coded"], stored["mahala"], rtol=1e-5)


def test_covariance_in_batches_is_the_mean_over_shuffles() -> None:
    """Of 400 runs of the official code with batches of 16 windows, each of which shuffles anew."""
    stored = golden("dcase_ae")
    upper = np.triu_indices(MELS)

    def off(batch_size: int) -> list[np.ndarray]:
        """Standard errors of the runs' mean, per domain."""
        difference = covariances(fitted(batch_size=batch_size)) - stored["shuffled_mean"]
        return [(each / error)[upper] for each, error in zip(difference, stored["shuffled_error"], strict=True)]

    assert np.abs(off(16)).max() < 4.5  # of 272 numbers
    assert np.std(off(16)) < 1.2
    assert min(np.abs(each).max() for each in off(ALL)) > 20  # the comparison can fail


# -------------------------------------------------------------------------------------------------------------- brute force
def test_scores_against_every_window_and_every_pair() -> None:
    network, mel = fitted(batch_size=16), clips("test", 4)
    precision = network.precision.double().numpy()
    left = residuals(network, mel)
    ours = scores(network, mel)
    assert list(ours) == ["native", "native_mahala", "native_mahala_coded"]
    for clip, delta in enumerate(left):
        per_window = [min(np.mean([d @ p @ d for d in window]) for p in precision) for window in delta]
        vectors = delta.reshape(-1, MELS)
        pairs = min(np.mean([a @ p @ b for a in vectors for b in vectors]) for p in precision)
        assert ours["native"][clip] == pytest.approx(np.mean(delta**2), rel=1e-5)
        assert ours["native_mahala"][clip] == pytest.approx(np.mean(per_window), rel=1e-5)
        assert ours["native_mahala_coded"][clip] == pytest.approx(pairs, rel=1e-4)


def test_covariance_against_shuffling_by_hand() -> None:
    """The definition, in NumPy: batches of shuffled windows, each centred by itself in each domain."""
    whole = training()
    delta = residuals(build(), whole.mel).reshape(-1, 5, MELS)
    domain = np.repeat(whole.target.numpy(), FRAMES - 4)
    rng, runs, size = np.random.default_rng(0), 300, 50  # 204 windows: the last batch has four
    total = np.zeros((2, MELS, MELS))
    for _ in range(runs):
        order = rng.permutation(len(delta))
        for part in np.split(order, range(size, len(order), size)):
            for which in range(2):
                vectors = delta[part][domain[part] == which].reshape(-1, MELS)
                if len(vectors):
                    centred = vectors - vectors.mean(0)
                    total[which] += centred.T @ centred
    expected = total / runs / (np.array([(domain == which).sum() for which in range(2)]) - 1)[:, None, None]
    ours = covariances(fitted(batch_size=size))
    whole_set = covariances(fitted(batch_size=ALL))
    for which in range(2):
        apart = np.abs(ours[which] - expected[which]).max()
        assert apart < 0.1 * np.abs(ours[which] - whole_set[which]).max()


# ------------------------------------------------------------------------------------------------- what is scored, and what not
def constant() -> DcaseAe:
    """A network that gives out the mean of the training clips whatever it hears, fitted to them."""
    network = build()
    with torch.no_grad():
        network.autoencoder.out["fc"].weight.zero_()
        network.autoencoder.out["fc"].bias.fill_(-40)
        network.finish([training()])
    return network


def test_a_symmetric_fault_leaves_the_coded_score_as_it_is() -> None:
    """A band that is as much louder in one frame as it is softer in the next; both are in five windows."""
    network, mel = constant(), clips("test", 1)
    faulty = mel.clone()
    faulty[0, 3, 9] += 30
    faulty[0, 3, 10] -= 30
    before, after = scores(network, mel), scores(network, faulty)
    assert after["native_mahala_coded"] == pytest.approx(before["native_mahala_coded"], rel=1e-5)
    rise = {name: after[name] / before[name] - 1 for name in before}
    assert rise["native"] > 0.01
    assert rise["native_mahala"] > 0.01


def test_a_lasting_fault_raises_all_three() -> None:
    network, mel = constant(), clips("test", 1)
    before, after = scores(network, mel), scores(network, mel + 30 * (torch.arange(MELS) == 3).view(1, MELS, 1))
    assert all(after[name] > 1.2 * before[name] for name in before)


@pytest.mark.parametrize("chosen", ["mse", "mahala", "mahala_coded"])
def test_the_headline_is_a_knob(chosen: str) -> None:
    mel = clips("test", 4)
    by_default, ours = scores(fitted(), mel), scores(fitted(score=chosen), mel)
    assert set(ours) == {"native", *(f"native_{name}" for name in ("mse", "mahala", "mahala_coded") if name != chosen)}
    np.testing.assert_array_equal(ours["native"], by_default["native" if chosen == "mse" else f"native_{chosen}"])


def test_without_target_clips_the_source_stands_for_both() -> None:
    network = build()
    with torch.no_grad():
        network.finish([Batch(mel=clips("train", 12), target=torch.zeros(12, dtype=torch.bool))])
    assert torch.equal(network.precision[0], network.precision[1])
    assert not torch.equal(fitted().precision[0], fitted().precision[1])


def test_a_band_without_variance_gives_finite_scores() -> None:
    network, mel = constant(), clips("train", 12)
    mel[:, 5] = -156.5
    with torch.no_grad():
        network.finish([Batch(mel=mel, target=torch.arange(12) >= 9)])
    for values in scores(network, mel).values():
        assert np.isfinite(values).all()
        assert (values > 0).all()


# --------------------------------------------------------------------------------------------------------------- as it is trained
def test_network_and_loss() -> None:
    whole = METHOD.build(METHOD.settings(method="dcase_ae"), Shape(1, 128, 313, 160_000))
    assert sum(p.numel() for p in whole.parameters()) == 267_928
    norms = [module for module in whole.modules() if isinstance(module, nn.BatchNorm1d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert len(norms) == 9
    network, mel = build(), clips("test", 4)
    cut = torch.stack([mel[:, :, start : start + 5] for start in range(FRAMES - 4)], 1).flatten(0, 1)
    with torch.no_grad():
        loss = network.loss(Batch(mel=cut), {})["loss"].item()
        valid = network.valid_loss(Batch(mel=mel)).mean().item()
    expected = np.mean(residuals(network, mel) ** 2)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert valid == pytest.approx(expected, rel=1e-5)


def test_training_tells_the_domains_apart(tmp_path: Path) -> None:
    """From files called source and target to the two precisions of each network."""
    write_tree_2023(tmp_path / "raw", source=6, target=3, test=1)
    profile = tiny_profile(grammar="dcase2023", class_label="attributes", rules={"scheme": "dcase2022"})
    pack_tree(tmp_path / "raw", tmp_path, profile, ["osscl"])
    settings = small("dcase_ae", 1)
    train = Train(threads=1, device="cpu")
    train_arm(settings, "attributes", train, 1, tmp_path / "train", tmp_path / "m", tmp_path / "r", "code")
    store, model = ClipStore(tmp_path / "train"), modelfolder.load(tmp_path / "m")
    assert set(store.index["domain"]) == {"source", "target"}
    for machine, network in model.networks.items():
        rows = store.index.index[store.index["machine"] == machine].to_numpy(copy=True)
        target = torch.from_numpy((store.index.loc[rows, "domain"] == "target").to_numpy(copy=True))
        again = METHOD.build(settings, model.shapes[machine]).eval()
        again.load_state_dict(network.state_dict())
        with torch.no_grad():
            mel = store.mel(torch.from_numpy(rows), METHOD.mel(settings))
            again.finish([Batch(mel=mel, target=target)])
            torch.testing.assert_close(again.precision, network.precision, rtol=1e-3, atol=1e-6)  # type: ignore[arg-type]
            again.finish([Batch(mel=mel, target=~target)])
        assert not torch.allclose(again.precision, network.precision, rtol=1e-3, atol=1e-6)  # type: ignore[arg-type]
