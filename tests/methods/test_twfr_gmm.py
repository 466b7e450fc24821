"""TWFR-GMM against scikit-learn, and whose numbers it uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from auscult.methods.base import Batch, Shape
from auscult.methods.twfr_gmm import METHOD, TwfrGmm, TwfrGmmSettings, untrainable
from auscult.models.gwrp import ALONE, GRID
from support.fill import v

MELS, FRAMES = 6, 40
NAMES = ("fan/00/slow", "fan/00/fast", "fan/02/slow")
LABELS = torch.tensor([0, 1, 2] * 20)
OWNER = np.array([0, 0, 1])


def mel() -> torch.Tensor:
    x = torch.from_numpy(v("mel", (60, MELS, FRAMES))).float() * 5 - 40
    return x + 4 * LABELS[:, None, None]


def fitted(names: tuple[str, ...] = NAMES, **settings: object) -> TwfrGmm:
    net = TwfrGmm(TwfrGmmSettings.model_validate(settings), Shape(3, MELS, FRAMES, 16_000, names=names)).eval()
    with torch.inference_mode():
        net.finish([Batch(mel=x, label=y) for x, y in zip(mel().split(7), LABELS.split(7), strict=True)])
    return net


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("r", [0.0, 0.5, 1.0])
def test_scores_equal_scikit_learn(components: int, r: float) -> None:
    net = fitted(r=r, components=components)
    weights = np.array([1.0 if r == rank == 0 else r**rank for rank in range(FRAMES)])
    pooled = (-np.sort(-mel().numpy().astype(np.float64), axis=2) * weights).sum(2) / weights.sum()
    queries = pooled + v("q", pooled.shape)
    for unit in (0, 1):
        theirs = GaussianMixture(components, tol=1e-6, reg_covar=1e-6, random_state=0).fit(
            pooled[OWNER[LABELS] == unit]
        )
        candidates = torch.from_numpy(OWNER == unit).expand(60, -1)
        x, scores = net.embed(Batch(mel=mel(), candidates=candidates))
        np.testing.assert_allclose(x, pooled, rtol=1e-5)
        np.testing.assert_allclose(scores["native"], -theirs._estimate_log_prob(pooled).max(1), rtol=1e-3, atol=1e-2)
        found = -net.mixtures.nearest_log_density(torch.from_numpy(queries).float())[:, unit]
        np.testing.assert_allclose(found, -theirs._estimate_log_prob(queries).max(1), rtol=1e-3, atol=1e-2)
        if components == 1:
            np.testing.assert_allclose(found, -theirs.score_samples(queries), rtol=1e-3, atol=1e-2)


def test_of_units_that_a_clip_may_be_of_the_better_counts() -> None:
    net = fitted(r=1.0)
    either = net.embed(Batch(mel=mel(), candidates=torch.ones(60, 3, dtype=torch.bool)))[1]["native"]
    each = [
        net.embed(Batch(mel=mel(), candidates=torch.from_numpy(OWNER == unit).expand(60, -1)))[1]["native"]
        for unit in (0, 1)
    ]
    torch.testing.assert_close(either, torch.minimum(*each))


def test_r_and_components_by_the_name_of_the_machine_type() -> None:
    net = fitted(r={"fan": 0.25, "valve": 0.46}, components={"fan": 2})
    assert net.r.tolist() == [0.25]
    assert net.mixtures.means.shape == (2, 2, MELS)
    net = fitted(r={"valve": 0.46}, components={"valve": 2})
    assert net.r.tolist()[0] in torch.tensor(GRID).tolist()
    assert net.mixtures.means.shape == (2, 1, MELS)


def test_r_is_chosen_by_training_clips_or_said_not_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert fitted().r.item() == pytest.approx(float(capsys.readouterr().err.split("r = ")[1].split(";")[0]))
    net = TwfrGmm(TwfrGmmSettings(), Shape(1, MELS, FRAMES, 16_000, names=NAMES[:1]))
    with torch.inference_mode():
        net.finish([Batch(mel=mel(), label=torch.zeros(60, dtype=torch.int64))])
    assert net.r.item() == pytest.approx(ALONE)
    assert "no two classes" in capsys.readouterr().err


def test_without_names_every_class_is_a_unit() -> None:
    assert fitted(names=()).mixtures.means.shape[0] == 3


def test_a_unit_with_too_few_clips_is_left_out() -> None:
    counts = {"fan/00/slow": 1, "fan/00/fast": 2, "fan/02/slow": 2}
    assert untrainable(TwfrGmmSettings(components=2), counts) == ""
    assert "fan/02" in untrainable(TwfrGmmSettings(components={"fan": 3}), counts)
    assert "fan/00" in METHOD.untrainable(TwfrGmmSettings(), {"fan/00/slow": 1})
