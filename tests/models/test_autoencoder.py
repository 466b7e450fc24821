"""Autoencoder of the DCASE baseline and IDNN against golden vectors."""

from __future__ import annotations

import numpy as np
import pytest

from auscult.models.autoencoder import Autoencoder
from support.fill import fill, golden, relative_error, tensor

SIZES = {"ae": (640, 640), "idnn": (512, 128)}


@pytest.mark.parametrize("name", ["ae", "idnn"])
def test_golden(name: str) -> None:
    stored = golden("ae_idnn")
    network = fill(Autoencoder(*SIZES[name]), f"{name}/")
    window = stored[f"{name}_input"]
    target = window if name == "ae" else stored["idnn_spec"].T[2:10]  # frame 2 of each of the 8 windows of 5

    out, latent = network.eval()(tensor(window))
    assert relative_error(out, stored[f"{name}_eval_out"]) < 6e-6
    assert relative_error(latent, stored[f"{name}_eval_latent"]) < 6e-6
    score = np.square(out.detach().double().numpy() - target).mean()
    assert score == pytest.approx(stored[f"{name}_score"], rel=7e-7)

    out, _ = network.train()(tensor(window))
    assert relative_error(out, stored[f"{name}_train_out"]) < 6e-5


def test_parameter_counts() -> None:
    counts = {name: sum(p.numel() for p in Autoencoder(*sizes).parameters()) for name, sizes in SIZES.items()}
    assert counts == {"ae": 267_928, "idnn": 185_496}
