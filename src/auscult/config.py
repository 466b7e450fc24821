"""Every knob: `params.yaml` and the profiles as frozen pydantic models that refuse unknown keys.

How the settings of an arm (one row of a table) are put together, later lines winning:

1. the shared sections its method reads (`fph`, `arcface`, `ema`, ...);
2. the method's own section (`os_scl`), the paper's values;
3. the arm's section (`tfst_os_scl`), what sets this row apart;
4. `overrides` of the profile, by method or shared section: a data set too small for the paper's schedule says so there.

A value typed into `params.yaml` must never be silently without effect: where the profile overrides a key whose value in
`params.yaml` is no longer the paper's, or is an arm's own, `arm_settings` refuses and says where to set it.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from auscult.errors import AuscultError
from auscult.rules import MetricRules


class Section(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=BaseModel)
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


# ---------------------------------------------------------------------------------------------- sections of the pipeline
class Data(Section):
    profile: str
    """Name of a file in profiles/."""
    channel: Literal["mean"] | Annotated[int, Field(ge=0)] = 0
    """How several channels become one: their mean, or the channel of this index (0 = first)."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Threads or processes that generate, read and decode; 0 = one per core."""


class Features(Section):
    frontends: list[str] = []
    """Log-mel front-ends computed once and memory-mapped; any other is computed on the fly, batch by batch."""


class Train(Section):
    seed: int = 2024
    device: str = "auto"
    """"auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"."""
    threads: Positive = 2
    """CPU threads. Part of the result: sums in another order differ in the last bit."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """"bfloat16" autocasts the networks; losses, norms and scores stay in float32."""
    resident_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The data set is kept on the device when it fits this fraction of its free memory, else streamed from disk."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    """Training state is saved at the first epoch end after this many seconds."""


class Embed(Section):
    batch_size: Positive = 64


class Score(Section):
    backends: list[str] = ["native", "knn_cosine"]
    k: Positive = 1
    """Neighbours of the kNN back-ends; the score is the mean distance to them."""


class Evaluate(Section):
    replicates: Positive = 1000
    """Bootstrap resamples of the test clips behind every interval."""
    seed: int = 0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95


# -------------------------------------------------------------------------------------------- sections shared by methods
class ArcFaceSettings(Section):
    scale: Annotated[float, Field(gt=0)] = 30.0
    margin: Annotated[float, Field(ge=0)] = 0.7


class FphSettings(Section):
    reduction: Annotated[int, Field(ge=0)] = 64
    """Width R of the feature perturbation head; 0 = no head."""
    activation: Literal["relu", "leaky_relu"] = "relu"


class SupconSettings(Section):
    weight: Annotated[float, Field(ge=0)] = 1.0
    """0 switches the contrastive term off."""
    temperature: Annotated[float, Field(gt=0)] = 0.02
    base_temperature: Annotated[float, Field(gt=0)] | None = 0.07
    """The code multiplies by temperature / base_temperature; null = Eq. (1) as printed, without that factor."""
    reduction: Literal["mean", "sum"] = "mean"
    """"mean" as the code, "sum" as Eq. (1)."""


class MixupSettings(Section):
    mode: Literal["noisy_arcmix", "arcmix", "none"] = "noisy_arcmix"
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """lambda ~ Beta(alpha, alpha), one per batch."""


class EmaSettings(Section):
    enabled: bool = True
    decay: Fraction = 0.9999
    shrink: Fraction = 2e-6
    """After each step every live float tensor is multiplied by 1 - shrink (the authors' code, not the paper); 0 = off."""


SHARED: dict[str, type[Section]] = {
    "arcface": ArcFaceSettings,
    "fph": FphSettings,
    "supcon": SupconSettings,
    "mixup": MixupSettings,
    "ema": EmaSettings,
}
PIPELINE: dict[str, type[Section]] = {
    "data": Data,
    "features": Features,
    "train": Train,
    "embed": Embed,
    "score": Score,
    "evaluate": Evaluate,
}


_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": ("greater than", operator.gt),
    "ge": ("greater than or equal to", operator.ge),
    "lt": ("less than", operator.lt),
}


class MethodSettings(Section):
    """Base of every method's settings (each in its file under methods/): how it is trained."""

    method: str
    epochs: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    lr_min: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    schedule_delay: Annotated[int, Field(ge=0)] = 0
    """Epochs at the first learning rate before the schedule starts."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    valid_fraction: Fraction = 0.0
    """Part of the training clips held out, drawn by seed."""
    selection: Literal["valid_loss", "last"] = "last"
    """Which epoch's weights are kept. Never by a test clip."""

    @field_validator("epochs", "batch_size", "lr", "lr_min", "schedule_delay", "weight_decay", "valid_fraction")
    @classmethod
    def _in_range(cls, value: float, info: ValidationInfo) -> float:
        """The ranges above also hold in a method's model, which declares a field again to give it another default."""
        for limit in MethodSettings.model_fields[str(info.field_name)].metadata:
            for name, (words, holds) in _LIMITS.items():
                bound = getattr(limit, name, None)
                if bound is not None and not holds(value, bound):
                    raise PydanticCustomError(
                        "range", "Input should be {words} {bound}", {"words": words, "bound": bound}
                    )
        return value


# ----------------------------------------------------------------------------------------------------------------- profile
class Profile(Section):
    name: str
    dataset: str
    """Whose printed numbers these results may stand beside ("dcase2020", ...)."""
    title: str
    licence: str
    source: dict[str, Any]
    """Where the audio comes from: `kind` names an entry of auscult.data.sources, which checks the other keys."""
    grammar: str
    """How file names are read: an entry of auscult.data.grammar.GRAMMARS."""
    sets: dict[Literal["dev", "eval"], str]
    """Folder of each set below the source's root."""
    machines: list[str] = []
    """Machine types to use; empty = every one found."""
    holdout: Fraction = 0.0
    """Part of the normal training clips, chosen by the hash of their content, that becomes normal test clips: for
    recordings that come without a test set."""
    sample_rate: Positive = 16000
    clip_seconds: Annotated[float, Field(gt=0)]
    """Longer clips keep their first part, shorter ones are padded with zeros (their valid length is kept)."""
    class_label: Literal["unit", "attributes"] = "unit"
    """What a classifier tells apart: (machine, unit), or (machine, unit, attribute string)."""
    rules: MetricRules
    overrides: dict[str, dict[str, Any]] = {}


# ----------------------------------------------------------------------------------------------------------------- loading
class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a key stand twice and keeps the last: here, two arms of one name are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"`{key}` stands twice in one mapping{node.start_mark}")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AuscultError(f"not valid YAML: {error}", str(path)) from None
    if not isinstance(content, dict):
        raise AuscultError("a mapping of sections was expected", str(path))
    return content


def _near(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def validated(model: type[S], values: Any, where: str) -> S:
    """`model(**values)`; each unknown key, wrong type or range is reported with its full name, all at once."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            hint = _near(str(item["loc"][-1]), _keys(model, item["loc"])) if item["type"] == "extra_forbidden" else ""
            message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
            problems.append(f"{where}.{key}: {message}{hint}" if key else f"{where}: {message}")
        raise AuscultError("settings are not valid:\n    " + "\n    ".join(problems), fix="mend these keys") from None


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys known where a problem lies: those of the model itself, or of the section nested at `loc[:-1]`."""
    for part in loc[:-1]:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def load_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """`params.yaml` with its top-level keys checked: a pipeline or shared section, `arms`, a method, or an arm."""
    if not path.is_file():
        raise AuscultError("there is no params.yaml here", str(path.absolute()), "run from the root of the project")
    from auscult.methods import METHODS  # names only: imports no network

    params = _read_yaml(path)
    arms = params.get("arms", {})
    if not isinstance(arms, dict):
        raise AuscultError("a mapping of arm to method was expected", f"{path}: arms", "write `tfst_os_scl: os_scl`")
    for arm, method in arms.items():
        if method not in METHODS:
            fix = f"use: {', '.join(METHODS)}"
            raise AuscultError(f"unknown method `{method}`{_near(str(method), METHODS)}", f"{path}: arms.{arm}", fix)
        if arm in (*PIPELINE, *SHARED, "arms") or (arm in METHODS and arm != method):
            raise AuscultError(f"`{arm}` already names a section", f"{path}: arms.{arm}", "give the arm another name")
    known = [*PIPELINE, *SHARED, *METHODS, "arms", *arms]
    for key in params:
        if key not in known:
            raise AuscultError(
                f"unknown section `{key}`{_near(str(key), known)}", str(path), "remove it, or name it under `arms`"
            )
    for name in (*PIPELINE, *SHARED):  # now, not when the stage that reads it is reached hours later
        if name in params:
            section(params, name)
    return params


def section(params: dict[str, Any], name: str) -> Any:
    """One section as its model; a section that is absent takes the model's defaults."""
    model = {**PIPELINE, **SHARED}[name]
    return validated(model, params.get(name, {}), name)


def load_profile(name: str, folder: Path = Path("profiles")) -> Profile:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = sorted(p.stem for p in folder.glob("*.yaml"))
        raise AuscultError(
            f"there is no profile `{name}`{_near(name, there)}", str(path), f"choose: {', '.join(there)}"
        )
    profile = validated(Profile, _read_yaml(path), str(path))
    if profile.name != name:
        raise AuscultError(f"the profile calls itself `{profile.name}`", str(path), "make `name` and file name agree")
    _check_overrides(profile)
    return profile


def _check_overrides(profile: Profile) -> None:
    from auscult.methods import METHODS

    known = [*SHARED, *METHODS]
    for name in profile.overrides:
        if name not in known:
            where = f"profiles/{profile.name}.yaml: overrides"
            raise AuscultError(f"unknown section `{name}`{_near(name, known)}", where, f"use: {', '.join(known)}")


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, nested mappings merged key by key."""
    out = dict(base)
    for key, value in over.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def arm_settings(params: dict[str, Any], profile: Profile, arm: str) -> MethodSettings:
    """The complete, checked settings of an arm (see the top of this file for the order).

    Raises:
        AuscultError: no such arm, unknown or ill-typed key, or a key of `params.yaml` that the profile would override.
    """
    from auscult.methods import load_method

    arms = params.get("arms", {})
    if arm not in arms:
        raise AuscultError(
            f"there is no arm `{arm}`{_near(arm, list(arms))}", "params.yaml: arms", "add it with its method"
        )
    _check_overrides(profile)
    method = arms[arm]
    model = load_method(method).settings
    shared = [name for name in SHARED if name in model.model_fields]
    over = {**profile.overrides.get(method, {}), **{s: profile.overrides[s] for s in shared if s in profile.overrides}}
    own = params.get(arm, {}) if arm != method else {}
    typed = {name: params[name] for name in shared if name in params}
    # Each layer by itself first, so that a message names the place where the key was typed.
    for name, values in typed.items():
        validated(SHARED[name], values, name)
    layers = ((method, params.get(method, {})), (arm, own), (f"profiles/{profile.name}.yaml: overrides", over))
    for where, values in layers:
        validated(model, values, where)
    typed = _merged(typed, params.get(method, {}))

    wins = flat(validated(model, over, "overrides").model_dump())
    paper, params_say = (flat(validated(model, values, method).model_dump()) for values in ({}, typed))
    arm_says = flat(validated(model, own, arm).model_dump())
    for key in flat(over):
        by_arm = key in flat(own)
        here = arm_says[key] if by_arm else params_say[key]
        if here != wins[key] and (by_arm or here != paper[key]):
            name = key if key.split(".")[0] in shared else f"{method}.{key}"
            raise AuscultError(
                f"`{f'{arm}.{key}' if by_arm else name}` is {here} in params.yaml, "
                f"but the profile `{profile.name}` sets `{name}` to {wins[key]}",
                f"profiles/{profile.name}.yaml: overrides",
                f"set it there: -S 'profiles/{profile.name}.yaml:overrides.{name}={here}'",
            )
    return validated(model, _merged(_merged({"method": method, **typed}, own), over), arm)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
