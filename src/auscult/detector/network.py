"""The network of a bundle: checked against its weights before it is built, then loaded and used as bundles do. Importing this
takes torch; a bundle without a network does without (plain.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules import module

from auscult.detector.plain import CHUNK
from auscult.detector.stream import whole
from auscult.features import exact_spectrogram, frames
from auscult.methods.base import Batch, Method, Network
from auscult.methods.shape import Shape
from auscult.settings.training import MethodSettings
from auscult.training import modelfolder
from auscult.training.inputs import Inputs

_ENCODER_SIZE = 20_000
"""Largest of the sizes of an encoder: the published ones end at 4096."""
_ENCODER_BYTES = 2**29
"""Of what comes from a checkpoint and is not among the weights."""
_ENCODER_PARTS = 3000
"""Modules, weights and buffers of an encoder; the published ones have a thousand."""
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
Found = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name of a tensor -> its type and shape."""


def load_network(folder: Path) -> modelfolder.Trained:
    """A trained network as a bundle uses it: branches merged, spectra in float64."""
    trained = modelfolder.load(folder)
    for network in trained.networks.values():
        network.merge()
        network.exact_spectra()
    return trained


def check_network(method: Method, settings: MethodSettings, shape: Shape, found: Found) -> None:
    """Compare a network with the shapes of its weights on a device without memory: nothing of the sizes that a stranger's
    settings name is allocated before.

    Raises:
        ValueError, or whatever a network's construction raises: they do not belong together.
    """
    encoder = getattr(settings, "encoder", None)
    if encoder is not None and any(not 0 < value <= _ENCODER_SIZE for value in encoder.size.values()):
        raise ValueError("an encoder has no such size")
    with torch.device("meta"), _at_most(4 * len(found) + (_ENCODER_PARTS if encoder else 200)):
        built = method.build(settings, shape)
    _compare(built, found, bool(encoder and encoder.checkpoint))


def embed(
    trained: modelfolder.Trained, windows: np.ndarray, spectra: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [n, D] and own scores float64 [n] (NaN: the method has none) of windows float32 [n, samples].

    Nobody says in which mode of operation a window was recorded, so that every class is a candidate. Shorter windows are heard
    as long as they are where the method's `fill` is `none`. Otherwise they are mirrored at their end: a bundle is trained on
    whole windows alone, to which zeros or the click of a repetition would be as strange as a fault.

    Args:
        spectra: of whole windows, by the method's front-end, float32 [n, mels, frames], where they are known.
    """
    (network,) = trained.networks.values()
    (shape,) = trained.shapes.values()
    inputs = Inputs.of(trained.method, trained.settings)
    if windows.shape[1] < shape.samples:
        windows = whole(windows, shape.samples, _of_any_length(trained, windows.shape[1], shape))
    vectors, scores = [np.empty((0, 1), np.float32)], []
    with torch.inference_mode():
        for start in range(0, len(windows), CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(windows[start : start + CHUNK], np.float32))
            known = None if spectra is None else torch.from_numpy(spectra[start : start + CHUNK])
            vector, own = network.embed(_batch(part, inputs, shape, known))
            vectors.append(vector.float().numpy())
            scores.append(own["native"].double().numpy() if "native" in own else np.full(len(part), np.nan))
    return np.concatenate(vectors[1:] or vectors), np.concatenate(scores) if scores else np.empty(0)


def _of_any_length(trained: modelfolder.Trained, samples: int, shape: Shape) -> bool:
    """Whether a window of so many samples, fewer than the bundle's, is heard as long as it is."""
    settings, spectra = trained.settings, trained.method.mel(trained.settings)
    if settings.fill != "none" or not spectra:
        return bool(settings.fill == "none")
    return frames(samples, spectra) >= trained.method.window(settings, shape.frames)


def _batch(windows: torch.Tensor, inputs: Inputs, shape: Shape, spectra: torch.Tensor | None) -> Batch:
    return inputs.batch(
        wave=lambda: windows,
        mel=lambda name: _exact(windows, name, shape.sample_rate) if spectra is None else spectra,
        candidates=torch.ones(len(windows), shape.classes, dtype=torch.bool),
    )


def _exact(windows: torch.Tensor, name: str, sample_rate: int) -> torch.Tensor:
    return torch.from_numpy(exact_spectrogram(windows.numpy(), name, sample_rate))


@contextmanager
def _at_most(parts: int) -> Iterator[None]:
    """Give up the construction of a network of more modules, weights and buffers than that."""
    left = parts

    def count(owner: Any, name: str, part: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError("its settings describe a network of more parts than there are weights")

    kinds = ("module", "parameter", "buffer")
    hooks = [getattr(module, f"register_module_{kind}_registration_hook")(count) for kind in kinds]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _compare(network: Network, found: Found, checkpoint: bool) -> None:
    state = network.saved_state()
    if set(state) != set(found):
        raise ValueError("the settings have other weights than there are")
    for key, value in state.items():
        kind, shape = found[key]
        # What is empty is sized by training (the components of a mixture), and here by its file.
        if _TYPES.get(kind) != value.dtype or (value.numel() and shape != tuple(value.shape)):
            raise ValueError(f"the weights do not fit the settings: {key} has the shape {list(shape)}")
    whole = _bytes([*network.parameters(), *network.buffers()])
    if whole > 2 * _bytes(list(state.values())) + (_ENCODER_BYTES if checkpoint else 2**26):
        raise ValueError("its settings describe a larger network than there are weights")


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
