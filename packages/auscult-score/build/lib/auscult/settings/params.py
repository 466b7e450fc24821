"""params.yaml, the studies' own and the profiles from disk, and what an arm's settings are.

An arm is a row of a table. Its settings are put together from these layers, later ones winning:

1. the shared sections its method reads (`fph`, `arcface`, `ema`, ...);
2. the method's own section (`os_scl`), the paper's values;
3. the sections of the arms it is based on (`base: tfst_os_scl`), if any;
4. the arm's section (`tfst_os_scl`), what sets this row apart;
5. `overrides` of the profile, by method or shared section: a data set too small for the paper's schedule says so there.

A value typed into `params.yaml` must never be silently without effect: where the profile overrides a key whose value in
`params.yaml` is no longer the paper's, or is an arm's own, `arm_settings` refuses and says where to set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auscult.errors import AuscultError
from auscult.methods import METHODS, load_method
from auscult.settings.profile import Profile
from auscult.settings.reading import read_yaml
from auscult.settings.schema import PIPELINE, Study, TableSettings
from auscult.settings.section import flat, near, validated
from auscult.settings.sections import SHARED, LabelSettings
from auscult.settings.training import ConditionSettings, MethodSettings

ARM_KEYS = ("method", "base", "weights", "condition")


@dataclass(frozen=True)
class Arm:
    """What the sections say of an arm.

    Attributes:
        method: name of its method.
        study: the study it belongs to; "" = the project's own arms.
        layers: (arm, values) of its bases and, last, its own.
        weights: the arm whose trained networks it uses; its own name, unless it only tests another arm.
        condition: what is done to its test clips, or None.
    """

    name: str
    method: str
    study: str
    layers: tuple[tuple[str, dict[str, Any]], ...]
    weights: str
    condition: ConditionSettings | None

    @property
    def file(self) -> str:
        return f"studies/{self.study}/params.yaml" if self.study else "params.yaml"


@dataclass(frozen=True)
class Params:
    """params.yaml of the project and of its studies, checked."""

    root: dict[str, Any]
    studies: dict[str, Study]
    arms: dict[str, Arm]

    def section(self, name: str) -> Any:
        """One section as its model; a section that is absent takes the model's defaults."""
        return validated({**PIPELINE, **SHARED}[name], self.root.get(name, {}), name)

    def own(self, study: str = "") -> list[Arm]:
        """The arms that belong to the project, or to a study."""
        return [arm for arm in self.arms.values() if arm.study == study]

    def rows(self, study: str = "") -> list[str]:
        """The arms in the tables of the project, or of a study.

        Raises:
            AuscultError: there is no such study.
        """
        if not study:
            return list(self.root.get("arms", []))
        if study not in self.studies:
            fix = f"use: {', '.join(self.studies)}"
            raise AuscultError(f"there is no study `{study}`{near(study, list(self.studies))}", "studies/", fix)
        return list(self.studies[study].rows)

    def tables(self, study: str = "") -> dict[str, TableSettings]:
        """The tables of the project, or of a study."""
        if study:
            return self.studies[study].tables
        return {name: validated(TableSettings, values, f"tables.{name}") for name, values in self._tables().items()}

    def _tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = self.root.get("tables", {})
        return tables

    def arm(self, name: str) -> Arm:
        """
        Raises:
            AuscultError: there is no such arm.
        """
        if name not in self.arms:
            fix = "add it to `arms` there, or to a study"
            raise AuscultError(f"there is no arm `{name}`{near(name, list(self.arms))}", "params.yaml: arms", fix)
        return self.arms[name]

    def encoder(self, name: str) -> tuple[str, str]:
        """Names of the encoder and the checkpoint of an arm, as these files say without a profile; "" where it has none."""
        arm = self.arm(name)
        field = load_method(arm.method).settings.model_fields.get("encoder")
        if field is None:
            return "", ""
        values = field.default.model_dump(include={"name", "checkpoint"})
        for layer in (self.root, self.root.get(arm.method, {}), *(values for _, values in arm.layers)):
            values |= layer.get("encoder") or {}
        return str(values["name"]), str(values["checkpoint"])

    def labels(self, name: str) -> LabelSettings:
        """How an arm labels clips without attributes, as these files say without a profile.

        Raises:
            AuscultError: clusters of no arm's embeddings, of an unknown arm's, or of one that itself needs clusters.
        """
        arm, found = self.arm(name), self._labels(name)
        if found.clustered:
            where = f"{arm.file}: {name}.labels.embeddings"
            if found.embeddings not in self.arms:
                hint = near(found.embeddings, list(self.arms))
                fix = "name one whose embeddings are to be clustered, a frozen encoder for instance"
                raise AuscultError(f"there is no arm `{found.embeddings}`{hint}", where, fix)
            if self._labels(self.arms[found.embeddings].weights).clustered:
                raise AuscultError(f"`{found.embeddings}` itself is trained on clusters", where, "name another arm")
        return found

    def _labels(self, name: str) -> LabelSettings:
        """As `labels`, whatever arm they name."""
        arm = self.arm(name)
        if arm.weights != name or "labels" not in load_method(arm.method).settings.model_fields:
            return LabelSettings()
        values: dict[str, Any] = {}
        for layer in (self.root, self.root.get(arm.method, {}), *(values for _, values in arm.layers)):
            values |= layer.get("labels") or {}
        return validated(LabelSettings, values, f"{name}.labels")


# ------------------------------------------------------------------------------------------------------------ from disk
def load_params(root: Path = Path()) -> Params:
    """`params.yaml` and every `studies/<name>/params.yaml` below `root`, checked as a whole before anything runs.

    Raises:
        AuscultError: see `checked`; no such file, or not valid YAML.
    """
    path = root / "params.yaml"
    if not path.is_file():
        raise AuscultError("there is no params.yaml here", str(path.absolute()), "run from the root of the project")
    files = {"": (str(path), read_yaml(path))}
    for file in sorted(root.glob("studies/*/params.yaml")):
        files[file.parent.name] = (str(file), read_yaml(file))
    return checked(files)


def checked(files: dict[str, tuple[str, dict[str, Any]]]) -> Params:
    """The contents of params.yaml (under the name "") and of the studies' (study -> (path, content)) as `Params`.

    Raises:
        AuscultError: unknown or ill-typed sections; an arm named twice, unknown, or without a known method.
    """
    params = files[""][1]
    studies: dict[str, Study] = {}
    for name, (place, content) in files.items():
        if name:
            known = {key: value for key, value in content.items() if key in Study.model_fields}
            studies[name] = validated(Study, known, place)
    owners: dict[str, str] = {}
    for study, (place, content) in files.items():
        names = content.get("arms", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise AuscultError("a list of arms was expected", f"{place}: arms", "write `- tfst_os_scl`")
        for name in names:
            if name in owners:
                where = f"{files[owners[name]][0]} and {place}: arms"
                raise AuscultError(f"two arms are called `{name}`", where, "give one of them another name")
            if name in (*PIPELINE, *SHARED, "arms", "tables") or (study and name in Study.model_fields):
                raise AuscultError(f"`{name}` already names a section", f"{place}: arms", "give the arm another name")
            owners[name] = study
    for study, (place, content) in files.items():
        base = [*Study.model_fields] if study else [*PIPELINE, *SHARED, *METHODS, "arms", "tables"]
        known_keys = [*base, *(name for name, owner in owners.items() if owner == study)]
        for key, values in content.items():
            if key not in known_keys and _defines_an_arm(values):
                continue  # an arm that is not run now
            if key not in known_keys:
                what = f"unknown section `{key}`{near(str(key), known_keys)}"
                raise AuscultError(what, place, "remove it, or name it under `arms`")
    sections = {name: (files[owner][0], files[owner][1].get(name, {})) for name, owner in owners.items()}
    arms = {name: _arm(name, study, sections) for name, study in owners.items()}
    out = Params(params, studies, arms)
    for name in (*PIPELINE, *SHARED):  # now, not when the stage that reads it is reached hours later
        out.section(name)
    for study in files:
        out.tables(study)
        for row in [*out.rows(study), *_mentioned(studies.get(study))]:
            if row not in arms:
                fix = "add it to `arms`, there or in the study that trains it"
                raise AuscultError(f"there is no arm `{row}`{near(row, list(arms))}", files[study][0], fix)
    return out


def _defines_an_arm(values: Any) -> bool:
    return isinstance(values, dict) and bool({"method", "base", "weights"} & values.keys())


def _mentioned(study: Study | None) -> list[str]:
    if study is None:
        return []
    swept = [arm for line in (study.sweep.lines.values() if study.sweep else []) for arm in line]
    return [*swept, *study.confusion, *([study.reference] if study.reference else [])]


def _arm(name: str, study: str, sections: dict[str, tuple[str, dict[str, Any]]]) -> Arm:
    """Follow `base` and `weights` of an arm."""
    file, own = sections[name]
    if not isinstance(own, dict):
        raise AuscultError("a mapping was expected", f"{file}: {name}")
    layers: list[tuple[str, dict[str, Any]]] = []
    weights, condition, at = name, own.get("condition"), name
    if "weights" in own:
        weights = at = str(own["weights"])
        if set(own) - {"weights", "condition"}:
            extra = ", ".join(sorted(set(own) - {"weights", "condition"}))
            fix = "an arm that tests another's weights has its settings"
            raise AuscultError(f"`{extra}` beside `weights`", f"{file}: {name}", fix)
    elif condition is not None:
        raise AuscultError("a test condition needs trained weights", f"{file}: {name}", "add `weights: <arm>`")
    method, seen = "", [name]
    while True:
        if at not in sections:
            fix = f"use one of: {', '.join(sections)}"
            raise AuscultError(f"there is no arm `{at}`{near(at, list(sections))}", f"{file}: {name}", fix)
        values = sections[at][1] or {}
        # An arm called like its method has no section but the method's.
        if at not in METHODS:
            layers.insert(0, (at, {key: value for key, value in values.items() if key not in ARM_KEYS}))
        method = method or str(values.get("method", at if at in METHODS else ""))
        if "base" not in values or at in METHODS:
            break
        at = str(values["base"])
        if at in seen:
            raise AuscultError(f"`base` leads back to `{at}`", f"{file}: {name}", "break the circle")
        seen.append(at)
    if method not in METHODS:
        what = f"unknown method `{method}`{near(method, METHODS)}" if method else "no method"
        fix = f"say `method: ` or `base: <another arm>`; methods: {', '.join(METHODS)}"
        raise AuscultError(what, f"{file}: {name}", fix)
    tested = validated(ConditionSettings, condition, f"{name}.condition") if condition is not None else None
    return Arm(name, method, study, tuple(layers), weights, tested)


def load_profile(name: str, folder: Path = Path("profiles")) -> Profile:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = sorted(p.stem for p in folder.glob("*.yaml"))
        what = f"there is no profile `{name}`{near(name, there)}"
        raise AuscultError(what, str(path), f"choose: {', '.join(there)}")
    profile = validated(Profile, read_yaml(path), str(path))
    if profile.name != name:
        raise AuscultError(f"the profile calls itself `{profile.name}`", str(path), "make `name` and file name agree")
    if profile.source.get("kind") == "recordings" and profile.holdout:
        fix = "set it to 0.0, and `source.holdout`, which keeps whole recordings together"
        raise AuscultError("`holdout` would part clips of one recording", f"{path}: holdout", fix)
    _check_overrides(profile)
    return profile


def _check_overrides(profile: Profile) -> None:
    known = [*SHARED, *METHODS]
    place = f"profiles/{profile.name}.yaml: overrides"
    for name, values in profile.overrides.items():
        if name not in known:
            raise AuscultError(f"unknown section `{name}`{near(name, known)}", place, f"use: {', '.join(known)}")
        labels = values if name == "labels" else values.get("labels") or {}
        if "embeddings" in labels or labels.get("missing") in ("kmeans", "ward"):
            what = "a profile cannot ask for clusters: which stages make them is written down without it"
            fix = "set `labels` in params.yaml or in an arm"
            raise AuscultError(what, f"{place}.{name}", fix)


# ------------------------------------------------------------------------------------------------------- an arm's settings
def arm_settings(params: Params, profile: Profile, name: str) -> MethodSettings:
    """The complete, checked settings of an arm (see the top of this file for the order).

    Raises:
        AuscultError: no such arm, unknown or ill-typed key, or a key of `params.yaml` that the profile would override.
    """
    arm, root = params.arm(name), params.root
    _check_overrides(profile)
    method = arm.method
    model = load_method(method).settings
    shared = [key for key in SHARED if key in model.model_fields]
    over = {**profile.overrides.get(method, {}), **{s: profile.overrides[s] for s in shared if s in profile.overrides}}
    typed = {key: root[key] for key in shared if key in root}
    # Each layer by itself first, so that a message names the place where the key was typed.
    for key, values in typed.items():
        validated(SHARED[key], values, key)
    layers = (
        (method, root.get(method, {})),
        *arm.layers,
        (f"profiles/{profile.name}.yaml: overrides", over),
    )
    for where, values in layers:
        validated(model, values, where)
    own: dict[str, Any] = {}
    for _, values in arm.layers:
        own = _merged(own, values)
    typed = _merged(typed, root.get(method, {}))

    wins = flat(validated(model, over, "overrides").model_dump())
    paper, params_say = (flat(validated(model, values, method).model_dump()) for values in ({}, typed))
    arm_says = flat(validated(model, own, name).model_dump())
    for key in flat(over):
        by_arm = key in flat(own)
        here = arm_says[key] if by_arm else params_say[key]
        if here != wins[key] and (by_arm or here != paper[key]):
            full = key if key.split(".")[0] in shared else f"{method}.{key}"
            raise AuscultError(
                f"`{f'{name}.{key}' if by_arm else full}` is {here} in {arm.file if by_arm else 'params.yaml'}, "
                f"but the profile `{profile.name}` sets `{full}` to {wins[key]}",
                f"profiles/{profile.name}.yaml: overrides",
                f"set it there: -S 'profiles/{profile.name}.yaml:overrides.{full}={here}'",
            )
    heard = {"input": profile.heard(root.get("data", {}).get("input", "near"))}
    return validated(model, _merged(_merged({"method": method, **heard, **typed}, own), over), name)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, nested mappings merged key by key."""
    out = dict(base)
    for key, value in over.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out
