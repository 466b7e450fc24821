"""What every encoder's front-end must do; a new name in MODULES is tested by being there."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from auscult.encoders import MODULES
from auscult.encoders.base import new_encoder
from auscult.errors import AuscultError
from auscult.methods.base import Shape
from auscult.methods.frozen import Frozen, FrozenSettings
from auscult.settings.sections import EncoderSettings
from support.fill import tensor, v

SIZE = {"layers": 1, "width": 48, "heads": 4, "ffn": 48}
SPEECH = {**SIZE, "channels": 32, "positions": 16}
OTHERS = {
    "openl3": {"width": 8, "hop": 500},
    "clap": {"width": 64, "heads": 8, "stage1": 1, "stage2": 1, "stage3": 1, "stage4": 1},
    **dict.fromkeys((name for name, module in MODULES.items() if module == "speech"), SPEECH),
}


def settings(name: str) -> EncoderSettings:
    return EncoderSettings(name=name, checkpoint="", size=OTHERS.get(name, SIZE))


@pytest.mark.parametrize("name", MODULES)
def test_a_spectrogram_is_computed_in_the_precision_of_the_waveform(name: str) -> None:
    if name in (*OTHERS, "ast") and name != "openl3":
        pytest.importorskip("transformers")
    encoder = new_encoder(settings(name)).eval()
    wave = tensor(0.3 * v("w", (2, 16_000)))
    with torch.no_grad():
        single, double = encoder.front_end(wave), encoder.front_end(wave.double())
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    if encoder.spectrogram:
        assert 0 < (single - double).abs().max() < 0.05


def test_a_front_end_that_cannot_be_exact_is_refused() -> None:
    network = Frozen(FrozenSettings(encoder=settings("ced")), Shape(2, 0, 0, 16_000))
    front_end = network.encoder.front_end

    def single(wave: Tensor) -> Tensor:
        return front_end(wave.float())

    network.encoder.front_end = single  # type: ignore[method-assign]
    network.front_end(torch.zeros(1, 16_000))
    network.exact_spectra()
    with pytest.raises(AuscultError, match=r"encoder `ced` computes in torch.float32"):
        network.front_end(torch.zeros(1, 16_000))


def test_names_of_encoders_import_none() -> None:
    script = "import sys, auscult.encoders; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
