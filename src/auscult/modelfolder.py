"""A trained arm on disk: `weights.safetensors`, `config.yaml`, `history.csv`. Equal runs make equal bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from safetensors.torch import load_file, save_file

from auscult.config import MethodSettings, validated
from auscult.errors import AuscultError
from auscult.files import atomic_folder, digest
from auscult.imports import closure
from auscult.methods import load_method
from auscult.methods.base import Method, Network, Shape


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


def save(folder: Path, trained: Trained, history: pd.DataFrame) -> None:
    """Write the folder as a whole: it is complete or absent."""
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, network in trained.networks.items()
        for key, value in network.state_dict().items()
    }
    config: dict[str, Any] = {
        "settings": trained.settings.model_dump(mode="json"),
        "networks": {
            name: {"shape": asdict(trained.shapes[name]), "classes": trained.classes[name]} for name in trained.networks
        },
        "skipped": trained.skipped,
        # Not read back: a change of the code is a change of the model, also where it leaves the weights alone.
        "code": code_digest(trained.settings.method),
    }
    with atomic_folder(folder) as part:
        save_file(tensors, part / "weights.safetensors")
        (part / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        history.to_csv(part / "history.csv", index=False)


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
    networks, classes, shapes = {}, {}, {}
    for name, facts in config["networks"].items():
        shapes[name], classes[name] = Shape(**facts["shape"]), facts["classes"]
        network = method.build(settings, shapes[name])
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise AuscultError(f"weights and config disagree: {error}", str(folder), "train the arm again") from None
        networks[name] = network.to(device).eval()
    return Trained(method, settings, networks, classes, shapes, config.get("skipped", {}))


def code_digest(method: str) -> str:
    """Hash of the source of a method's file and of the networks and losses it uses: what turns weights into scores."""
    package = Path(__file__).parent
    start = package / "methods" / f"{method}.py"
    parts = {path for path in closure(start) if path.parent.name in ("methods", "models", "losses")}
    return digest(start, *sorted(parts - {start, package / "methods" / "__init__.py"}))[:16]
