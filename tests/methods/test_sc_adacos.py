"""Sub-cluster AdaCos as a method: its statistics, mixing, mixtures and scores against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from sklearn.utils.class_weight import compute_class_weight

from auscult.errors import AuscultError
from auscult.methods.base import Batch, Shape
from auscult.methods.sc_adacos import METHOD, ScAdacos, ScAdacosSettings
from auscult.models.gaussians import ClassMixtures
from auscult.settings.section import validated
from support.draws import loss_of
from support.fill import v

MELS, FRAMES = 20, 17
LABELS = torch.tensor([0] * 9 + [1] * 4 + [2] * 5)


def clips() -> torch.Tensor:
    """Log-mel of 18 clips; every class has a band of its own."""
    mel = torch.from_numpy(v("mel", (len(LABELS), MELS, FRAMES))).float() * 5 - 40
    mel[torch.arange(len(LABELS)), 5 * LABELS] += 20
    return mel


def batches(size: int = 6) -> list[Batch]:
    return [Batch(label=y, mel=x) for y, x in zip(LABELS.split(size), clips().split(size), strict=True)]


def finished(*sub_clusters: int) -> ScAdacos:
    torch.manual_seed(0)
    network = ScAdacos(ScAdacosSettings(sub_clusters=sub_clusters, embedding=8), Shape(3, MELS, FRAMES, 16_000)).eval()
    with torch.inference_mode():
        network.prepare(batches())
        network.finish(batches())
    return network


def scores(network: ScAdacos, mel: torch.Tensor, candidates: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return network.embed(Batch(mel=mel, candidates=candidates))[1]


def test_preparation_equals_numpy_and_scikit_learn() -> None:
    network = finished(1)
    frames = clips().numpy().astype(np.float64).transpose(0, 2, 1).reshape(-1, MELS)
    np.testing.assert_allclose(network.mel_mean, frames.mean(0), rtol=1e-6)
    np.testing.assert_allclose(network.mel_deviation, frames.std(0), rtol=1e-5)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    np.testing.assert_allclose(network.class_weight, balanced, rtol=1e-6)


def test_silent_bands_stay_finite() -> None:
    network = ScAdacos(ScAdacosSettings(sub_clusters=(1,)), Shape(3, MELS, FRAMES, 16_000))
    with torch.inference_mode():
        network.prepare([Batch(label=torch.arange(3), mel=torch.full((3, MELS, FRAMES), -100.0))])
    assert torch.equal(network.mel_deviation, torch.ones(MELS))
    assert torch.equal(network.image(Batch(mel=torch.full((1, MELS, FRAMES), -60.0))), torch.full((1, 1, 20, 17), 40.0))


@pytest.mark.parametrize("components", [1, 3])
def test_component_densities_equal_scipy_and_scikit_learn(components: int) -> None:
    """Weights of the components play no part, which sets the score apart from scikit-learn's `score_samples`."""
    dim = 5
    x = v("x", (60, dim)) + np.repeat(2 * v("centre", (6, dim)), 10, axis=0)
    labels, starts = np.arange(60) // 30, v("starts", (2, components, dim))
    mixtures = ClassMixtures()
    mixtures.fit(x, labels, 2, components, 1e-3, starts)
    queries = v("q", (7, dim))
    ours = mixtures.nearest_log_density(torch.from_numpy(queries)).numpy()
    assert ours.shape == (7, 2)
    for label in range(2):
        theirs = GaussianMixture(
            components, covariance_type="full", reg_covar=1e-3, means_init=starts[label], random_state=0
        ).fit(x[labels == label])
        np.testing.assert_allclose(ours[:, label], theirs._estimate_log_prob(queries).max(1), rtol=1e-5)
        each = [
            multivariate_normal(mean, covariance).logpdf(queries)
            for mean, covariance in zip(theirs.means_, theirs.covariances_, strict=True)
        ]
        np.testing.assert_allclose(ours[:, label], np.max(each, axis=0), rtol=1e-5)
    if components > 1:
        assert np.all(np.abs(ours[:, 1] - theirs.score_samples(queries)) > 1e-2)


def test_mixtures_start_at_the_centres_and_use_unit_embeddings() -> None:
    network = finished(2)
    member = network.members[0]
    with torch.inference_mode():
        image = network.image(Batch(mel=clips()))
        x = member.unit_embedding(image)
        starts = member.head.centres().numpy()
    np.testing.assert_allclose(x.norm(dim=1), np.ones(len(x)), rtol=1e-6)
    own = torch.eye(3, dtype=torch.bool)[LABELS]
    got = scores(network, clips(), own)
    for label in range(3):
        mixture = GaussianMixture(2, reg_covar=1e-3, means_init=starts[label].astype(np.float64), random_state=0)
        mixture.fit(x[LABELS == label].numpy().astype(np.float64))
        expected = -mixture._estimate_log_prob(x[LABELS == label].numpy().astype(np.float64)).max(1)
        np.testing.assert_allclose(got["native_single"][LABELS == label], expected, rtol=1e-4, atol=1e-4)


def test_mean_spectrum_score_equals_one_gaussian() -> None:
    network = finished(1)
    spectra = network.image(Batch(mel=clips()))[:, 0].mean(2).numpy().astype(np.float64)
    got = scores(network, clips(), torch.eye(3, dtype=torch.bool)[[1] * len(LABELS)])["native_mean_spectrum"]
    mine = spectra[LABELS == 1]
    covariance = np.cov(mine.T, bias=True) + 1e-3 * np.eye(MELS)
    np.testing.assert_allclose(got, -multivariate_normal(mine.mean(0), covariance).logpdf(spectra), rtol=1e-4)


def test_accumulated_score_is_the_sum_over_networks() -> None:
    network = finished(1, 2, 4)
    candidates = torch.eye(3, dtype=torch.bool)[LABELS]
    got = scores(network, clips(), candidates)
    with torch.inference_mode():
        image = network.image(Batch(mel=clips()))
        each = [
            -member.mixtures.nearest_log_density(member.unit_embedding(image))[candidates] for member in network.members
        ]
    torch.testing.assert_close(got["native"], each[0] + each[1] + each[2])
    torch.testing.assert_close(got["native_single"], each[2])
    assert not torch.allclose(got["native"], got["native_single"])


def test_of_several_candidates_the_least_score_counts() -> None:
    network = finished(1, 2)
    rows = torch.eye(3, dtype=torch.bool)
    single = [scores(network, clips(), rows[[label] * len(LABELS)]) for label in range(3)]
    pair = scores(network, clips(), (rows[0] | rows[2]).expand(len(LABELS), 3))
    for name in ("native", "native_single", "native_mean_spectrum"):
        torch.testing.assert_close(pair[name], torch.minimum(single[0][name], single[2][name]))


def test_a_saved_state_restores_the_mixtures() -> None:
    network = finished(1, 2)
    candidates = torch.eye(3, dtype=torch.bool)[LABELS]
    other = ScAdacos(network.settings, Shape(3, MELS, FRAMES, 16_000)).eval()
    state = other.state_dict()
    assert all(not state[name].numel() for name in state if "mixtures" in name)
    other.load_state_dict(network.state_dict())
    for name, score in scores(network, clips(), candidates).items():
        assert torch.equal(score, scores(other, clips(), candidates)[name]), name


def test_loss_is_the_sum_of_independent_losses_on_reversed_mixing() -> None:
    """Against the parts: each clip mixed with its mirror in the batch, weighted by its own class, plus the penalty."""
    network = finished(1, 2).train()
    batch = Batch(label=LABELS[::3], mel=clips()[::3])
    twin = finished(1, 2).train()
    parts = loss_of(network, batch, 5)
    lam = np.random.default_rng(5).random(6, np.float32)
    label, image = LABELS[::3].tolist(), twin.image(batch)
    mixed = torch.stack([lam[i].item() * image[i] + (1 - lam[i].item()) * image[5 - i] for i in range(6)])
    shares = torch.zeros(6, 3)
    for i in range(6):
        shares[i, label[i]] += lam[i].item()
        shares[i, label[5 - i]] += 1 - lam[i].item()
    expected = 0.0
    for member in twin.members:
        log_probabilities = member.head(member.resnet(mixed), shares)
        weights = [18 / 3 / LABELS.tolist().count(label[i]) for i in range(6)]
        entropy = sum(-weights[i] * (shares[i] * log_probabilities[i]).sum() for i in range(6)) / 6
        kernels = [p for name, p in member.resnet.named_parameters() if p.dim() > 1]
        expected = expected + entropy + 1e-5 * sum((kernel**2).sum() for kernel in kernels)
        torch.testing.assert_close(parts[f"entropy_{member.sub_clusters}"], entropy)
    torch.testing.assert_close(parts["loss"], expected)


def test_networks_do_not_share_gradients() -> None:
    """Side by side equals alone: with the same draws each member's gradient is the one it gets without the other."""
    both, alone = finished(1, 2).train(), finished(1).train()
    alone.members[0].load_state_dict(
        {k: t for k, t in both.members[0].state_dict().items() if "mixtures" not in k}, strict=False
    )
    for network in (both, alone):
        loss_of(network, batches()[1], 2)["loss"].backward()
    for (name, a), (_, b) in zip(both.members[0].named_parameters(), alone.members[0].named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_too_few_clips_are_named() -> None:
    settings = ScAdacosSettings()
    counts = {"fan/00": 100, "fan/02": 63}
    assert METHOD.untrainable(settings, {**counts, "fan/02": 64}) == ""
    reason = METHOD.untrainable(settings, counts)
    assert all(word in reason for word in ("fan/02", "63", "64", "sub_clusters"))
    assert "two" in METHOD.untrainable(settings, {"fan/00": 100})
    assert "2" in METHOD.untrainable(ScAdacosSettings(sub_clusters=(1,)), {"fan/00": 9, "fan/02": 1})


@pytest.mark.parametrize("wrong", [[], [2, 1], [1, 1], [0, 1]])
def test_wrong_sub_clusters_are_refused(wrong: list[int]) -> None:
    with pytest.raises(AuscultError, match="sub_clusters"):
        validated(ScAdacosSettings, {"sub_clusters": wrong}, "sc_adacos")
