"""A trained arm on disk: `weights.safetensors`, `config.yaml`, `history.csv`. Equal runs make equal bytes.

What a network keeps unchanged of a pre-trained checkpoint is not saved again: the folder names the checkpoint and its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors.torch import load_file, save_file

from auscult.encoders.checkpoints import path_of, status
from auscult.errors import AuscultError
from auscult.files import atomic_file, atomic_folder
from auscult.methods import load_method
from auscult.methods.base import Method, Network, Shape
from auscult.methods.shape import shape_of
from auscult.settings.section import validated
from auscult.settings.training import MethodSettings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """Networks of an arm by name ("all", or one per machine type), each with its classes and shape.

    `skipped` says of each network that could not be trained why not.
    """

    method: Method
    settings: MethodSettings
    networks: dict[str, Network]
    classes: dict[str, list[str]]
    shapes: dict[str, Shape]
    skipped: dict[str, str]


def save(folder: Path, trained: Trained, history: pd.DataFrame, code: str) -> None:
    """Write the folder as a whole: it is complete or absent. `code`: digest of the code that trained it."""
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, network in trained.networks.items()
        for key, value in network.saved_state().items()
    }
    config: dict[str, Any] = {
        "settings": trained.settings.model_dump(mode="json"),
        "networks": {
            name: {"shape": _sizes(trained.shapes[name]), "classes": trained.classes[name]} for name in trained.networks
        },
        "skipped": trained.skipped,
        "checkpoint": _checkpoint(trained),
        # Not read back: a change of the code is a change of the model, also where it leaves the weights alone.
        "code": code,
    }
    with atomic_folder(folder) as part:
        save_file(tensors, part / "weights.safetensors")
        (part / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        history.to_csv(part / "history.csv", index=False)


def write_cost(path: Path, facts: Mapping[str, Any]) -> None:
    """What a training or an embedding has cost, beside the model folder: it differs between equal runs."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(facts, indent=2) + "\n")


def load(folder: Path, device: str = "cpu") -> Trained:
    """Rebuild the networks, in eval mode.

    Raises:
        AuscultError: no such folder, or weights that do not fit its config.
    """
    if not (folder / "weights.safetensors").is_file():
        raise AuscultError("no trained model here", str(folder), "run: dvc repro")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    method = load_method(config["settings"]["method"])
    settings = validated(method.settings, config["settings"], str(folder / "config.yaml"))
    tensors = load_file(folder / "weights.safetensors")
    _check_checkpoint(config["checkpoint"], folder)
    networks, classes, shapes = {}, {}, {}
    for name, facts in config["networks"].items():
        shapes[name], classes[name] = shape_of(facts), facts["classes"]
        network = method.build(settings, shapes[name])
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        try:
            network.load_saved(own)
        except RuntimeError as error:
            raise AuscultError(f"weights and config disagree: {error}", str(folder), "train the arm again") from None
        networks[name] = network.to(device).eval()
    return Trained(method, settings, networks, classes, shapes, config.get("skipped", {}))


def _sizes(shape: Shape) -> dict[str, Any]:
    """What is written of a shape: its names stand beside it, as the classes."""
    return {key: value for key, value in asdict(shape).items() if key != "names"}


def missing_checkpoint(settings: MethodSettings) -> str:
    """Why the checkpoint that these settings ask for cannot be used; "" if it can, or if they ask for none."""
    name = _checkpoint_name(settings)
    if not name:
        return ""
    found = status(name)
    return "" if found.usable else found.reason


def _checkpoint(trained: Trained) -> dict[str, Any]:
    """Name and digests of the checkpoint that the networks started from, and whether they still need it; {} for none."""
    name = _checkpoint_name(trained.settings)
    if not name or not trained.networks:
        return {}
    needed = any(len(network.saved_state()) < len(network.state_dict()) for network in trained.networks.values())
    return {"name": name, "sha256": status(name).sha256, "needed": needed}


def _check_checkpoint(facts: dict[str, Any], folder: Path) -> None:
    """Frozen weights must come from the very file that the rest was trained upon."""
    if not facts.get("needed"):
        return
    path = path_of(facts["name"])
    if status(facts["name"]).sha256 != facts["sha256"]:
        what = f"trained upon another file than {path} (sha256 then: {facts['sha256']})"
        raise AuscultError(what, str(folder), "put that file back, or train the arm again")


def _checkpoint_name(settings: MethodSettings) -> str:
    encoder = getattr(settings, "encoder", None)
    return "" if encoder is None else str(encoder.checkpoint)
