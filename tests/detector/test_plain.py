"""Methods that train no network: what NumPy makes of a window and what their networks do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from auscult.detector import network, plain
from auscult.features import exact_spectrogram
from auscult.methods import METHODS, load_method
from auscult.methods.base import Batch, Shape
from auscult.training.modelfolder import Trained

FORMS: list[tuple[str, dict[str, Any]]] = [
    ("spectral_knn", {}),
    ("spectral_knn", {"pooling": ("gwrp", "std")}),
    ("spectral_knn", {"pooling": ("max", "gwrp"), "r": 0.0, "frontend": "noisyarcmix"}),
    ("spectral_knn", {"frontend": "kaldi", "fill": "zeros"}),
    ("feature_knn", {}),
    ("feature_knn", {"standardise": "machine", "floor": 150.0}),
    ("feature_knn", {"standardise": "unit", "frontend": "stgram"}),
    ("twfr_gmm", {"components": 2, "reg_covar": 1.0}),
    *(("logmel_rows", {"rows": {"how": how}}) for how in ("mean", "max", "gem", "gwrp", "rdp", "rdp_gem", "first")),
]


@pytest.mark.parametrize(("name", "values"), FORMS)
def test_the_vectors_and_scores_are_those_of_the_network(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    method = load_method(name)
    settings, samples = method.settings.model_validate({"method": name, **values}), 8000
    rng = np.random.default_rng(0)
    waves = (rng.standard_normal((14, samples)) * 10.0 ** rng.uniform(-3, -1, (14, 1))).astype(np.float32)
    mel = torch.from_numpy(exact_spectrogram(waves, settings.frontend, 16000))
    shape = Shape(2, *mel.shape[1:], samples, names=("machine/a", "machine/b"))
    fitted = method.build(settings, shape)
    clips = [Batch(mel=mel, label=torch.arange(14) % 2)]
    fitted.prepare(clips)
    fitted.finish(clips)
    fitted.eval()
    found = {key: value.contiguous() for key, value in fitted.saved_state().items()}
    save_file({f"machine/{key}": value for key, value in found.items()}, tmp_path / "weights.safetensors")
    types = {torch.float32: "F32", torch.int64: "I64"}
    for key, (kind, size) in plain.sizes(settings, shape).items():
        assert types[found[key].dtype] == kind
        assert size in ((), tuple(found[key].shape))
    assert set(plain.sizes(settings, shape)) == set(found)
    mine = plain.load(tmp_path / "weights.safetensors", "machine/", settings, shape)
    mine = replace(
        mine, resting=fitted.embed(replace(clips[0], candidates=torch.ones(14, 2, dtype=torch.bool)))[0][0].numpy()
    )
    trained = Trained(method, settings, {"machine": fitted}, {}, {"machine": shape}, {})
    for windows in (waves, waves[:3, :7900]):
        (vectors, own), (expected, native) = mine.embed(windows), network.embed(trained, windows)
        assert vectors.dtype == np.float32
        assert vectors.shape == expected.shape
        # Sums of float32 in another order: a few steps of the largest value that is added.
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-5 * scale)
        np.testing.assert_allclose(own, native, rtol=1e-4)


def test_every_method_without_a_network_has_a_form_here() -> None:
    """So that none of them waits for torch."""
    for name in METHODS:
        settings = load_method(name).settings(method=name)
        trains = (
            settings.trained or not load_method(name).mel(settings) or name == "featex"
        )  # random projections by networks
        assert (plain.model_of(name) is None) == trains, name
    assert {name for name, _ in FORMS} == {name for name in METHODS if plain.model_of(name)}
