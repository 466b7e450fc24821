"""A bundle as one ONNX file: waveform [n, window] in, score [n] out; front-end, network and back-end are inside.

The Fourier transform is written as two matrix products, which every runtime has and which agree with `torch.stft` to
about 1e-5 dB. They are half the size of the plain ones: a window w[n] of N samples is even around N / 2, so cosines need
x[n] + x[N - n] alone and sines x[n] - x[N - n].

A file is kept only after onnxruntime has given the scores that torch gives.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auscult.errors import AuscultError
from auscult.files import atomic_file
from auscult.frontends import FRONTENDS, LogMel, filter_bank
from auscult.methods import glow_aff, windows
from auscult.methods.base import Batch, Method, Network
from auscult.modelfolder import Trained
from auscult.models.glow import Glow

if TYPE_CHECKING:
    from auscult.bundle import Bundle

FORMAT = 1
"""Of the file's inputs, outputs and metadata."""
TOLERANCE = 1e-4
"""Largest difference from torch: absolute below a score of one, relative above."""
CHECKED = 8
"""Windows of noise, tones, clicks and silence that both must score alike."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """What was written, and how well it agrees: `difference` is the largest |onnx - torch| / max(1, |torch|) of `checked`
    windows."""

    path: Path
    difference: float
    checked: int


def export(bundle: Bundle, path: Path) -> Export:
    """Write a bundle as an ONNX file and compare it with the bundle; a file that differs is not kept.

    Input `waveform` float32 [n, window] in [-1, 1), output `score` float32 [n]. What else a device must know (sample rate,
    window, hop, channel, threshold) is in the file's metadata, see `metadata_of`.

    Raises:
        AuscultError: packages are missing, the method cannot be exported, or the scores differ.
    """
    require_packages()
    metric = bundle.backend.removeprefix("knn_")
    bank = None if bundle.backend == "native" else bundle.reference
    model = scorer(bundle.trained, bundle.sample_rate, bank, bundle.k, metric)
    waves = probes(bundle.window, CHECKED)
    expected = bundle.scores(waves)
    with atomic_file(path) as part:
        write(model, bundle.window, part, metadata_of(bundle))
        try:
            worst = difference(part, expected, waves)
        except Exception as error:  # onnxruntime has its own
            what = f"onnxruntime does not run what was exported: {first_line(error)}"
            raise AuscultError(what, str(bundle.folder), "nothing was written; use the bundle itself") from error
        if worst > TOLERANCE:
            what = f"the exported network scores otherwise: by {worst:.1e}, and {TOLERANCE:g} is allowed"
            raise AuscultError(what, str(bundle.folder), "nothing was written; use the bundle itself")
    return Export(path, worst, CHECKED)


def metadata_of(bundle: Bundle) -> dict[str, str]:
    """What stands in the file beside the network (ONNX `metadata_props`); every value is text."""
    from auscult import __version__

    facts: dict[str, object] = {
        "format": FORMAT,
        "name": bundle.name,
        "method": bundle.method,
        "backend": bundle.backend,
        "k": bundle.k,
        "sample_rate": bundle.sample_rate,
        "window": bundle.window,
        "hop": bundle.hop,
        "channel": bundle.channel,
        "threshold": repr(float(bundle.threshold)),
        "score": "higher is more anomalous; anomalous if above the threshold",
        "bundle_sha256": hashlib.sha256((bundle.folder / "bundle.yaml").read_bytes()).hexdigest(),
        "auscult": __version__,
    }
    return {f"auscult.{key}": str(value) for key, value in facts.items()}


class ExportLogMel(nn.Module):
    """`auscult.frontends.log_mel` as products of matrices: same settings, same numbers."""

    cosine: Tensor
    sine: Tensor
    bank: Tensor

    def __init__(self, settings: LogMel, sample_rate: int) -> None:
        super().__init__()
        self.settings = settings = replace(settings, sample_rate=sample_rate)
        size, half = settings.n_fft, settings.n_fft // 2
        taper = torch.hann_window(size, periodic=settings.window == "hann", dtype=torch.float64)
        # n k modulo N: the angle of a large product would lose digits.
        sample, line = torch.arange(size)[:, None], torch.arange(half + 1)
        angle = 2 * math.pi * (sample * line % size).double() / size
        self.folds = settings.window == "hann"
        cosine, sine = taper[:, None] * angle.cos(), taper[:, None] * angle.sin()
        if self.folds:
            cosine, sine = cosine[: half + 1], sine[1:half]
        self.register_buffer("cosine", cosine.float())
        self.register_buffer("sine", sine.float())
        self.register_buffer("bank", torch.from_numpy(filter_bank(settings)).float())

    def forward(self, wave: Tensor) -> Tensor:
        """float32 [n, samples] -> [n, mels, frames] in dB."""
        settings, half = self.settings, self.settings.n_fft // 2
        padded = functional.pad(wave.unsqueeze(1), (half, half), mode=settings.pad_mode).squeeze(1)
        frame = padded.unfold(1, settings.n_fft, settings.hop)  # [n, frames, n_fft]
        if self.folds:
            first, second = frame[..., 1:half], frame[..., half + 1 :].flip(-1)
            even = torch.cat([frame[..., :1], first + second, frame[..., half : half + 1]], -1)
            real, imaginary = even @ self.cosine, (first - second) @ self.sine
        else:
            real, imaginary = frame @ self.cosine, frame @ self.sine
        mel = self.bank @ (real.square() + imaginary.square()).transpose(1, 2)
        if settings.log == "max":
            return 10.0 * torch.log10(mel.clamp(min=settings.epsilon))
        # log(P + e) as log(P / e + 1) + log(e): onnxruntime takes an addition of 2e-16 for one of zero, and drops it.
        return 10.0 * torch.log10(mel / settings.epsilon + 1.0) + 10.0 * math.log10(settings.epsilon)


class Neighbours(nn.Module):
    """Mean distance to the `k` nearest of a bank [m, D], as `auscult.scoring.knn.nearest` on CPUs."""

    bank: Tensor
    squares: Tensor

    def __init__(self, bank: np.ndarray, k: int, metric: str) -> None:
        super().__init__()
        reference = torch.from_numpy(np.asarray(bank, np.float64))
        if metric == "cosine":
            reference = reference / reference.norm(dim=1, keepdim=True).clamp(min=np.finfo(np.float64).tiny)
        elif metric != "euclidean":
            raise AuscultError(f"a bank with distance `{metric}` cannot be exported", fix="use cosine or euclidean")
        self.k, self.metric = min(k, len(bank)), metric
        # In float64: |x - y|^2 from three large products would lose half the digits.
        self.register_buffer("bank", reference)
        self.register_buffer("squares", reference.square().sum(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """[n, D] -> float64 [n]."""
        x = vectors.double()
        if self.metric == "cosine":
            norm = x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-300)
            distance = (1.0 - (x / norm) @ self.bank.T).clamp(min=0.0)
        else:
            square = x.square().sum(1, keepdim=True) + self.squares - 2.0 * (x @ self.bank.T)
            distance = square.clamp(min=0.0).sqrt()
        return distance.topk(self.k, dim=1, largest=False).values.mean(1)


class Scorer(nn.Module):
    """Waveform [n, window] -> score [n]: what is exported.

    Args:
        method, settings, network: as in a model folder.
        sample_rate: Hz.
        classes: of the network; every one is a candidate.
        backend: from embeddings [n, D] to scores [n]; None = the method's own score.
    """

    candidates: Tensor

    def __init__(
        self, method: Method, settings: Any, network: Network, sample_rate: int, classes: int, backend: nn.Module | None
    ) -> None:
        super().__init__()
        if settings.lowpass_hz:
            raise AuscultError("a bundle with a low-pass (`lowpass_hz`) cannot be exported", fix="fit one without")
        name = method.mel(settings)
        self.front_end = ExportLogMel(FRONTENDS[name], sample_rate) if name else None
        self.network, self.backend = network, backend
        self.register_buffer("candidates", torch.ones(1, classes, dtype=torch.bool))

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 [n, window] in [-1, 1) -> float32 [n]."""
        mel = None if self.front_end is None else self.front_end(waveform)
        candidates = self.candidates.expand(waveform.shape[0], -1)
        vectors, own = self.network.embed(Batch(candidates=candidates, wave=waveform, mel=mel))
        score = own["native"] if self.backend is None else self.backend(vectors)
        return score.float()


def scorer(trained: Trained, sample_rate: int, bank: np.ndarray | None, k: int = 1, metric: str = "cosine") -> Scorer:
    """What is exported, of a model with one network.

    Args:
        bank: reference embeddings float32 [m, D]; None = the method's own score.

    Raises:
        AuscultError: more networks than one.
    """
    if bank is not None and isinstance(next(iter(trained.networks.values())), glow_aff.GlowAff):
        raise AuscultError("`glow_aff` is exported with its own score alone", fix="fit it with the back-end `native`")
    if len(trained.networks) != 1:
        what = f"the model has {len(trained.networks)} networks ({', '.join(trained.networks)}), and a file holds one"
        raise AuscultError(what, fix="fit a bundle per machine")
    ((name, network),) = trained.networks.items()
    network.eval()
    backend = None if bank is None else Neighbours(bank, k, metric)
    return Scorer(trained.method, trained.settings, network, sample_rate, trained.shapes[name].classes, backend).eval()


def require_packages() -> None:
    """
    Raises:
        AuscultError: what writes and runs ONNX files is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise AuscultError(f"not installed: {', '.join(missing)}", fix='pip install "auscult[export]"')


def write(model: Scorer, window: int, path: Path, metadata: dict[str, str]) -> None:
    """Write `model` as an ONNX file for any number of windows of `window` samples.

    Raises:
        AuscultError: the network does something that ONNX, or the exporter, has no words for; the reason is in it.
    """
    require_packages()
    import onnx

    # Three: not equal to a size that means something else, such as the halves of a coupling.
    example = torch.from_numpy(probes(window, 3))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of packages that nobody needs
    dimension = torch.export.Dim("n", min=1, max=65536)
    try:
        with _export_forms(), torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: dimension},),
                input_names=["waveform"],
                output_names=["score"],
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:  # the exporter raises whatever it meets
        raise AuscultError(f"cannot be exported: {first_line(error)}", fix="docs/deploy.md lists what can") from error
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        what = "cannot be exported: the network makes a constant of the number of windows"
        raise AuscultError(what, fix="docs/deploy.md lists what can")
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, str(path))


def first_line(error: BaseException) -> str:
    """Of the innermost cause: the exporter wraps what it meets in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


@contextmanager
def _export_forms() -> Iterator[None]:
    """Put what computes the same in words that ONNX has in the place of some functions, while a network is traced."""
    put: list[tuple[Any, str, Any]] = [
        (module, "mean_over_windows", _in_one_pass)
        for name, module in list(sys.modules.items())
        if name.startswith("auscult.methods.") and hasattr(module, "mean_over_windows")
    ]
    put += [
        (functional, "adaptive_max_pool2d", _adaptive_max_pool),
        (glow_aff.GlowAff, "_score", _of_all_flows),
        (Glow, "forward", _flow),
    ]
    originals = [getattr(place, name) for place, name, _ in put]
    try:
        for place, name, form in put:
            setattr(place, name, form)
        yield
    finally:
        for (place, name, _), original in zip(put, originals, strict=True):
            setattr(place, name, original)


def _in_one_pass(
    evaluate: Callable[[Tensor], tuple[Tensor, ...]], mel: Tensor, width: int, hop: int = 1, chunk: int = 0
) -> tuple[Tensor, ...]:
    """`windows.mean_over_windows` without its chunks: they bound memory, but their number is not fixed."""
    cut = windows.windows(mel, width, hop)
    each = evaluate(cut.flatten(0, 1))
    return tuple(value.float().unflatten(0, (cut.shape[0], cut.shape[1])).mean(1) for value in each)


def _of_all_flows(network: glow_aff.GlowAff, mel: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """`GlowAff._score` where every unit is a candidate: no rows are picked. No embedding: its mean mel takes the place."""
    cut = network._normalised(mel).unfold(2, network.window, network.settings.hop).transpose(1, 2)
    rows = cut.flatten(0, 1)
    each = [flow.nll(*flow(rows)).unflatten(0, (cut.shape[0], cut.shape[1])).mean(1) for flow in network.flows]
    return mel.mean(2), torch.stack(each).amin(0)


def _flow(flow: Glow, window: Tensor) -> tuple[list[Tensor], Tensor]:
    """`Glow.forward`; there, `len` makes a constant of the number of windows."""
    x, latent, log_det = window.unsqueeze(1), [], window.new_zeros(window.shape[0])
    for number in range(len(flow.levels)):
        x = functional.pixel_unshuffle(x, flow.squeeze)
        for step in flow.steps(number):
            x, change = step(x)
            log_det = log_det + change
        if number + 1 < len(flow.levels):
            x, out = x.chunk(2, 1)
            latent.append(out)
    return [*latent, x], log_det


def _adaptive_max_pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`adaptive_max_pool2d` of images of height one: each output looks at samples floor(i L / n) to ceil((i + 1) L / n)."""
    length, outputs = x.shape[3], size[1]
    spans = [range(i * length // outputs, -(-(i + 1) * length // outputs)) for i in range(outputs)]
    longest = max(map(len, spans))
    rows = [span[min(step, len(span) - 1)] for span in spans for step in range(longest)]  # the last one again
    return x[..., torch.tensor(rows)].unflatten(3, (outputs, longest)).amax(4)


def probes(window: int, count: int, seed: int = 0) -> np.ndarray:
    """Windows float32 [count, window] to compare on: noise, tones, clicks and silence in turn, at levels over 60 dB.

    On the 16-bit grid, as all that a bundle hears, and tones 37 dB above noise: beside a purer one lies the rounding of
    float32 alone, by which two transforms differ that are both right.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(window)
    kinds = (
        lambda: rng.standard_normal(window),
        lambda: np.sin(time * rng.uniform(0.01, 3)) + 1e-2 * rng.standard_normal(window),
        lambda: (rng.random(window) < 1e-3) * rng.standard_normal(window) * 4,
        lambda: np.zeros(window),
    )
    level = 10.0 ** rng.uniform(-3.6, -0.6, count)
    sounds = np.stack([kinds[i % len(kinds)]() for i in range(count)]) * level[:, None]
    return (np.clip(np.round(sounds * 32768), -32768, 32767) / 32768).astype(np.float32)


def session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU; `threads` 0 = its own choice."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(path: Path, expected: np.ndarray, waves: np.ndarray) -> float:
    """Largest |onnx - torch| / max(1, |torch|) over windows [n, window], in batches and alone.

    A window must score alike in both; infinite or missing where torch's score is finite counts as infinite.
    """
    run = session(path)
    together = run.run(["score"], {"waveform": waves})[0]
    alone = np.concatenate([run.run(["score"], {"waveform": wave[None]})[0] for wave in waves])
    worst = 0.0
    for got in (together, alone):
        error = np.abs(got.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected))
        worst = max(worst, float(np.where(np.isnan(error), np.inf, error).max()))
    return worst
