"""The flow against its own inverse, automatic differentiation, and a density known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import multivariate_normal

from auscult.errors import AuscultError
from auscult.models.glow import Coupling, Glow

COUPLINGS: list[Coupling] = ["affine", "additive"]


def shaken(flow: Glow, size: float = 0.3) -> Glow:
    """Every weight moved at random: as built, the couplings are the identity and would hide mistakes.

    The more inputs a layer has the less each weight moves, so that wide flows stay as well conditioned as narrow ones.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 1
            weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=size / fan_in**0.5)
    return flow


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize(("levels", "squeeze"), [(3, 2), (2, 4), (1, 2)])
@pytest.mark.parametrize(("dtype", "size", "error"), [(torch.float32, 0.1, 1e-4), (torch.float64, 0.2, 1e-9)])
def test_the_inverse_undoes_the_flow(
    coupling: Coupling, levels: int, squeeze: int, dtype: torch.dtype, size: float, error: float
) -> None:
    """In double precision also where the rotations have become ill-conditioned, which single precision would feel."""
    torch.manual_seed(0)
    flow = shaken(Glow(32, 16, levels, steps=4, hidden=16, squeeze=squeeze, coupling=coupling).to(dtype), size)
    window = noise(3, 32, 16, dtype=dtype)
    with torch.no_grad():
        latent, log_det = flow(window)
        moved = torch.cat([z.flatten(1) for z in latent], 1)
        assert moved.shape == (3, 32 * 16)
        assert log_det.abs().min() > 1, "the weights are trivial"
        assert (flow.inverse(latent) - window).abs().max() < error


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_log_determinant_is_that_of_the_jacobian(coupling: Coupling) -> None:
    torch.manual_seed(0)
    flow = shaken(Glow(8, 4, levels=2, steps=2, hidden=6, squeeze=2, coupling=coupling).double())
    window = noise(1, 8, 4, dtype=torch.float64)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([z.flatten() for z in flow(x.view(1, 8, 4))[0]])

    jacobian = torch.autograd.functional.jacobian(flat, window.flatten())
    assert float(flow(window)[1].detach()) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-10)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_only_an_affine_coupling_makes_the_volume_depend_on_the_window(coupling: Coupling) -> None:
    torch.manual_seed(0)
    flow = shaken(Glow(8, 8, levels=2, steps=2, hidden=6, squeeze=2, coupling=coupling))
    log_det = flow(noise(2, 8, 8))[1]
    assert (log_det[0] == log_det[1]) == (coupling == "additive")


def test_nll_of_a_linear_flow_is_that_of_a_gaussian() -> None:
    """With idle couplings the flow is y = A x + b, so x is Gaussian with mean -A^-1 b and covariance (A^T A)^-1."""
    torch.manual_seed(0)
    flow = Glow(4, 2, levels=1, steps=2, hidden=4, squeeze=2, coupling="affine").double()
    with torch.no_grad():
        for name, weight in flow.named_parameters():
            if "net" not in name:
                weight.add_(noise(*weight.shape, dtype=torch.float64), alpha=0.3)
    basis = torch.cat([torch.zeros(1, 8), torch.eye(8)]).double().view(9, 4, 2)
    image = flow(basis)[0][0].detach().flatten(1)
    offset, matrix = image[0], (image[1:] - image[0]).T
    mean = -torch.linalg.solve(matrix, offset)
    window = noise(5, 4, 2, dtype=torch.float64)
    expected = multivariate_normal(mean.numpy(), torch.linalg.inv(matrix.T @ matrix).numpy()).logpdf(window.flatten(1))
    nll = flow.nll(*flow(window)).detach()
    torch.testing.assert_close(nll * 8, -torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


def test_an_untrained_flow_gives_white_noise_its_entropy() -> None:
    """Rotations and idle couplings keep the length of a vector: NLL = |x|^2 / 2n + log(2 pi) / 2."""
    torch.manual_seed(0)
    flow, window = Glow(16, 8, levels=2, steps=3, hidden=4, squeeze=2, coupling="affine"), noise(4, 16, 8)
    expected = window.square().flatten(1).mean(1) / 2 + math.log(2 * math.pi) / 2
    torch.testing.assert_close(flow.nll(*flow(window)), expected, rtol=1e-5, atol=1e-5)


def test_initialisation_makes_every_activation_standard() -> None:
    torch.manual_seed(0)
    flow = shaken(Glow(16, 8, levels=2, steps=3, hidden=4, squeeze=2, coupling="affine"))
    window = 7 * noise(32, 16, 8) - 40
    flow(window, initialise=True)
    x = window.unsqueeze(1)
    seen = 0
    with torch.no_grad():
        for level in range(2):
            x = torch.nn.functional.pixel_unshuffle(x, 2)
            for step in flow.steps(level):
                normal = (x + step.shift[:, None, None]) * step.log_scale.exp()[:, None, None]
                assert normal.mean((0, 2, 3)).abs().max() < 1e-4
                torch.testing.assert_close(
                    normal.std((0, 2, 3), correction=0), torch.ones(x.shape[1]), rtol=1e-4, atol=0
                )
                x, seen = step(x)[0], seen + 1
            x = x.chunk(2, 1)[0]
    assert seen == 6


def test_silence_is_initialised_to_something_finite() -> None:
    torch.manual_seed(0)
    flow = Glow(16, 8, levels=2, steps=3, hidden=4, squeeze=2, coupling="affine")
    flow(torch.zeros(4, 16, 8), initialise=True)
    assert torch.isfinite(flow.nll(*flow(noise(4, 16, 8)))).all()


def test_shapes_and_size() -> None:
    torch.manual_seed(0)
    flow = Glow(128, 32, levels=3, steps=12, hidden=128, squeeze=2, coupling="affine")
    assert flow.shapes == [(2, 64, 16), (4, 32, 8), (16, 16, 4)]
    assert [z.shape[1:] for z in flow(noise(1, 128, 32))[0]] == [torch.Size(shape) for shape in flow.shapes]

    def step(channels: int) -> int:
        half = channels // 2
        net = (9 * half + 1) * 128 + (128 + 1) * 128 + (9 * 128 + 1) * channels
        return net + 2 * channels + 2 * channels**2 + channels  # actnorm; L and U as full matrices; log s

    assert sum(p.numel() for p in flow.parameters()) == 12 * (step(4) + step(8) + step(16))


@pytest.mark.parametrize(("mels", "frames"), [(128, 30), (100, 32), (128, 0)])
def test_a_window_the_squeezes_do_not_divide_is_refused(mels: int, frames: int) -> None:
    with pytest.raises(AuscultError, match="do not divide"):
        Glow(mels, frames, levels=3, steps=1, hidden=4, squeeze=2, coupling="affine")
