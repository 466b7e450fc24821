"""The network of a bundle: checked against its weights before it is built, then loaded as bundles use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module

from auscult.detector.reading import plain_yaml, read_bytes, tensor_shapes
from auscult.features import frontend
from auscult.methods import load_method
from auscult.methods.base import Network, Shape
from auscult.settings.section import flat, validated
from auscult.training import modelfolder
from auscult.training.modelfolder import shape_of

_CONFIG, _WEIGHTS = 2**22, 2**29  # bytes
_ENTRIES = 100_000
_SETTINGS = 1000
"""Values of a method's settings, those in lists counted."""
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


def load_network(folder: Path) -> modelfolder.Trained:
    """A trained network as a bundle uses it: branches merged, spectra in float64."""
    trained = modelfolder.load(folder)
    for network in trained.networks.values():
        network.merge()
        network.exact_spectra()
    return trained


def check_model(folder: Path, name: str, window: int, sample_rate: int) -> None:
    """Compare a model's settings and sizes with the front-end, the classes and the shapes of its weights, on a device without
    memory: nothing of the sizes that a stranger's settings name is allocated before.

    Args:
        name: of the method; window: samples; sample_rate: Hz.

    Raises:
        ValueError, or whatever a network's construction raises: they do not belong together.
        AuscultError: settings that the method does not have.
    """
    config = plain_yaml(read_bytes(folder / "config.yaml", _CONFIG), _ENTRIES)
    if config["settings"]["method"] != name or list(config["networks"]) not in (["all"], ["machine"]):
        raise ValueError("model and bundle.yaml disagree")
    ((network, facts),) = config["networks"].items()
    if sum(_count(value) for value in flat(config["settings"]).values()) > _SETTINGS:
        raise ValueError("more settings than a method has")
    method = load_method(name)
    settings = validated(method.settings, config["settings"], str(folder / "config.yaml"))
    shape = shape_of(facts)
    _check_shape(shape, method.mel(settings), facts["classes"])
    if (shape.samples, shape.sample_rate) != (window, sample_rate):
        raise ValueError("the model hears another window than bundle.yaml says")
    encoder = getattr(settings, "encoder", None)
    if encoder is not None and any(not 0 < value <= _ENCODER_SIZE for value in encoder.size.values()):
        raise ValueError("an encoder has no such size")
    weights = tensor_shapes(folder / "weights.safetensors", _WEIGHTS)
    found = {key.removeprefix(f"{network}/"): each for key, each in weights.items()}
    with torch.device("meta"), _at_most(4 * len(weights) + (_ENCODER_PARTS if encoder else 200)):
        built = method.build(settings, shape)
    _compare(built, found, bool(encoder and encoder.checkpoint))


def _check_shape(shape: Shape, spectra: str, classes: list[str]) -> None:
    sizes = (shape.classes, shape.mels, shape.frames, shape.samples, shape.sample_rate, *shape.unattributed)
    if any(type(size) is not int for size in sizes) or len(set(classes)) != shape.classes:
        raise ValueError("its sizes are no numbers, or there are other classes than it says")
    if not all(isinstance(each, str) for each in classes) or not set(shape.unattributed) <= set(range(shape.classes)):
        raise ValueError("its classes are no names")
    wanted = (frontend(spectra).mels, frontend(spectra).frames(shape.samples)) if spectra else (0, 0)
    if (shape.mels, shape.frames) != wanted:
        raise ValueError("the spectra of its front-end have another size")


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


def _compare(network: Network, found: Mapping[str, tuple[str, tuple[int, ...]]], checkpoint: bool) -> None:
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


def _count(value: Any) -> int:
    return sum(map(_count, value)) if isinstance(value, list) else 1
