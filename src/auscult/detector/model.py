"""The model in a bundle, checked and loaded: a network, or, where the method trains none, its few numbers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from auscult.detector import plain
from auscult.detector.reading import plain_yaml, read_bytes, tensor_shapes
from auscult.features import frontend
from auscult.methods import load_method
from auscult.methods.shape import Shape, shape_of
from auscult.settings.section import flat, validated

if TYPE_CHECKING:
    from auscult.training.modelfolder import Trained

_CONFIG, _WEIGHTS = 2**22, 2**29  # bytes
_ENTRIES = 100_000
_SETTINGS = 1000
"""Values of a method's settings, those in lists counted."""


class Model:
    """The model in a folder.

    Args:
        method: its name; window: samples; sample_rate: Hz.

    Raises:
        ValueError, or whatever a network's construction raises: its settings, sizes and weights do not belong together.
        AuscultError: settings that the method does not have.
    """

    def __init__(self, folder: Path, method: str, window: int, sample_rate: int) -> None:
        self.folder = folder
        config = plain_yaml(read_bytes(folder / "config.yaml", _CONFIG), _ENTRIES)
        if config["settings"]["method"] != method or list(config["networks"]) not in (["all"], ["machine"]):
            raise ValueError("model and bundle.yaml disagree")
        ((network, facts),) = config["networks"].items()
        if sum(_count(value) for value in flat(config["settings"]).values()) > _SETTINGS:
            raise ValueError("more settings than a method has")
        model, with_network = plain.model_of(method), None
        if model is None:
            with_network = load_method(method)
            model = with_network.settings
        settings = validated(model, config["settings"], str(folder / "config.yaml"))
        shape = shape_of(facts)
        spectra = with_network.mel(settings) if with_network else getattr(settings, "frontend", "")
        _check_shape(shape, spectra, facts["classes"])
        if (shape.samples, shape.sample_rate) != (window, sample_rate):
            raise ValueError("the model hears another window than bundle.yaml says")
        weights = tensor_shapes(folder / "weights.safetensors", _WEIGHTS)
        found = {key.removeprefix(f"{network}/"): each for key, each in weights.items()}
        self.plain: plain.Plain | None = None
        if with_network is None:
            _compare(plain.sizes(settings, shape), found)
            self.plain = plain.load(folder / "weights.safetensors", f"{network}/", settings, shape)
            return
        from auscult.detector.network import check_network

        check_network(with_network, settings, shape, found)
        _ = self.trained  # now: it has been checked

    @cached_property
    def trained(self) -> Trained:
        """As a network, also where scoring takes none: `update` and `export` do."""
        from auscult.detector.network import load_network

        return load_network(self.folder)

    def embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float32 [n, D] and own scores float64 [n] (NaN where the method has none) of windows [n, window]."""
        if self.plain is not None:
            return self.plain.embed(windows)
        from auscult.detector.network import embed

        return embed(self.trained, windows)


def _check_shape(shape: Shape, spectra: str, classes: list[str]) -> None:
    sizes = (shape.classes, shape.mels, shape.frames, shape.samples, shape.sample_rate, *shape.unattributed)
    if any(type(size) is not int for size in sizes) or len(set(classes)) != shape.classes:
        raise ValueError("its sizes are no numbers, or there are other classes than it says")
    if not all(isinstance(each, str) for each in classes) or not set(shape.unattributed) <= set(range(shape.classes)):
        raise ValueError("its classes are no names")
    wanted = (frontend(spectra).mels, frontend(spectra).frames(shape.samples)) if spectra else (0, 0)
    if (shape.mels, shape.frames) != wanted:
        raise ValueError("the spectra of its front-end have another size")


def _compare(wanted: plain.Sizes, found: plain.Sizes) -> None:
    if set(wanted) != set(found):
        raise ValueError("the settings have other weights than there are")
    for key, (kind, shape) in wanted.items():
        if found[key][0] != kind or (shape and found[key][1] != shape):
            raise ValueError(f"the weights do not fit the settings: {key} has the shape {list(found[key][1])}")


def _count(value: Any) -> int:
    return sum(map(_count, value)) if isinstance(value, list) else 1
