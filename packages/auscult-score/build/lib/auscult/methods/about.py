"""What a method's file says of itself, read as text: importing all methods would take seconds, and a docstring changes no digest.

Below `---` of its docstring stands YAML:

    compare      list of settings under which it learns a folder of recordings in seconds on a CPU, the simplest first; what
                 `auscult compare` tries without being asked
    deploy       its row of docs/deploy.md
    fidelity     arm -> entry, as in papers/fidelity.yaml
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib.resources import files
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel

from auscult.features import LOG_MELS
from auscult.methods import load_method
from auscult.settings.reading import Loader

NOT_OF_A_BUNDLE = ("method", "lowpass_hz", "input", "supplement")
"""Settings that mean something on a profile alone."""
_FRONTEND = f"What it hears: one of the spectra {', '.join(LOG_MELS)}."


class Key(NamedTuple):
    """A setting: its name, its default as one writes it, the words it takes (() = anything of its type), and its meaning."""

    name: str
    default: str
    words: tuple[str, ...]
    meaning: str


def declared(method: str) -> dict[str, Any]:
    """What a method's file says below `---` in its docstring; {} if nothing."""
    text = files("auscult.methods").joinpath(f"{method}.py").read_text(encoding="utf-8")
    return yaml.load((ast.get_docstring(ast.parse(text)) or "").partition("\n---\n")[2], Loader) or {}


def keys(method: str) -> list[Key]:
    """What can be set of a method, its own keys first; of how it is trained only where it is."""
    model = load_method(method).settings
    found = _keys(model(method=method))
    own = {name for one in model.__mro__ if one.__module__ == model.__module__ for name in vars(one)["__annotations__"]}
    if not model(method=method).trained:
        found = [key for key in found if key.name.partition(".")[0] in own]
    return sorted(found, key=lambda key: key.name.partition(".")[0] not in own)


def _keys(settings: BaseModel, prefix: str = "") -> list[Key]:
    model = type(settings)
    meanings = {"frontend": _FRONTEND}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            meanings |= _meanings(one)
    found = []
    for name, field in model.model_fields.items():
        if prefix + name in NOT_OF_A_BUNDLE:
            continue
        default = getattr(settings, name)
        if isinstance(default, BaseModel):
            found += _keys(default, f"{prefix}{name}.")
            continue
        if isinstance(default, tuple):
            default = list(default)
        # One line of YAML, without the mark of its end.
        text = yaml.safe_dump(default, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
        found.append(Key(prefix + name, text, tuple(_words(field.annotation)), meanings.get(name, "")))
    return found


def _words(annotation: Any) -> list[str]:
    """The words of every `Literal` inside a type."""
    inside = get_args(annotation)
    return [word for part in inside for word in ([part] if isinstance(part, str) else _words(part))]


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the text that follows it in the source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for line, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
            text = after.value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[line.target.id] = " ".join(text.value.split())
    return found
