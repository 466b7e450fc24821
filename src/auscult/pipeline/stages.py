"""The stages of the pipeline files as mappings: commands, dependencies, parameters and outputs of each.

What a stage depends on is read from the code: a stage that imports a module but does not list it would silently keep
stale results, and a list kept by hand grows wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from auscult.encoders.names import encoder_file
from auscult.methods import load_method
from auscult.pipeline.imports import SRC, closure
from auscult.settings.params import Arm, Params
from auscult.settings.sections import SHARED

PACKAGE = SRC / "auscult"
# Carry settings, paths and messages: what they carry is a tracked parameter, and they compute nothing.
PLUMBING = {PACKAGE / name for name in (
    "__init__.py", "settings/backends.py", "settings/schema.py", "errors.py", "files.py", "pipeline/imports.py",
    "methods/__init__.py",
    "settings/params.py", "settings/paths.py", "encoders/checkpoints.py", "encoders/__init__.py", "encoders/names.py",
    "settings/project.py", "settings/rules.py", "settings/sections.py", "encoders/weights.py",
)}  # fmt: skip
FOLDERS = [PACKAGE / name for name in ("data/labels", "data/synthetic", "papers", "results", "scoring")]
"""Listed as a whole where one of their modules is needed."""

PROFILE = "profiles/${data.profile}.yaml"
FEATURES = "data/${data.profile}/features"
Stage = dict[str, Any]


def code(script: str, *modules: Path, without: tuple[str, ...] = ()) -> list[str]:
    """Paths of `stages/<script>.py` and of every module it and `modules` can import, but those in folders `without`."""
    start = SRC.parent / "stages" / f"{script}.py"
    needed = (closure(start, *modules) | set(modules)) - PLUMBING
    needed = {path for path in needed if path.parent.name not in without}
    whole = {folder for folder in FOLDERS if any(folder in path.parents for path in needed)}
    single = {path for path in needed if not any(folder in path.parents for folder in whole)}
    return [f"stages/{script}.py", *sorted(path.relative_to(SRC.parent).as_posix() for path in single | whole)]


def command(script: str, *arguments: str) -> str:
    return " ".join(["PYTHONPATH=src python", f"stages/{script}.py", *arguments])


# ---------------------------------------------------------------------------------------------------------- the data stages
def data_stages() -> dict[str, Stage]:
    return {
        "download": {
            "desc": "the profile's recordings, generated, fetched, or used in place",
            "cmd": command("download"),
            "deps": code("download"),
            "params": [
                "data.profile",
                {PROFILE: ["source", "sets", "eval_labels", "machines", "sample_rate", "clip_seconds"]},
            ],
            "outs": ["data/${data.profile}/raw"],
        },
        "manifest": {
            "desc": "what every file name and header says; labels in a table of their own",
            "cmd": command("manifest"),
            "deps": [*code("manifest"), "data/${data.profile}/raw"],
            "params": [
                "data.profile",
                {PROFILE: ["dataset", "grammar", "sets", "eval_labels", "machines", "holdout", "sample_rate"]},
            ],
            "outs": ["data/${data.profile}/manifest/clips.parquet", "data/${data.profile}/manifest/labels.parquet"],
        },
        "features": {
            "desc": "one decode to memory-mapped int16, and the log-mel front-ends",
            "cmd": command("features"),
            "deps": [*code("features"), "data/${data.profile}/raw", "data/${data.profile}/manifest/clips.parquet"],
            "params": ["data.profile", "data.channel", "features", {PROFILE: ["sample_rate", "clip_seconds"]}],
            "outs": [f"{FEATURES}/train", f"{FEATURES}/test"],
        },
    }


# ------------------------------------------------------------------------------------------------------- the stages of arms
def train_stage(params: Params, arms: list[Arm]) -> Stage:
    """Training, for every seed, of arms that share method, encoder and checkpoint."""
    method, (encoder, checkpoint) = arms[0].method, params.encoder(arms[0].name)
    module = PACKAGE / "methods" / f"{method}.py"
    shared = [name for name in SHARED if name in load_method(method).settings.model_fields]
    bases = [layer for arm in arms for layer, _ in arm.layers[:-1]]
    root = [
        "train.device",
        "train.threads",
        "train.precision",
        "train.compile",
        "train.matmul",
        *(["train.long_on_cpu"] if encoder else []),
        method,
        *shared,
    ]
    root += [params.arm(name).name for name in bases if not params.arm(name).study]
    own: dict[str, list[str]] = {}
    for name in bases:
        if params.arm(name).study:
            own.setdefault(params.arm(name).file, []).append(name)
    if any(arm.name != method for arm in arms):
        if arms[0].study:
            own.setdefault(arms[0].file, []).append("${item.arm}")
        else:
            root.append("${item.arm}")
    summary = (load_module_doc(module) or method).splitlines()[0].rstrip(".")
    return {
        "desc": summary,
        "matrix": {"arm": [arm.name for arm in arms], "seed": "${train.seeds}"},
        "cmd": command("train", "${item.arm}", "${item.seed}"),
        "deps": [
            *code("train", module, *([encoder_file(encoder)] if encoder else [])),
            f"{FEATURES}/train",
            *([f"checkpoints/{checkpoint}.json"] if checkpoint else []),
        ],
        "params": [
            *dict.fromkeys(root),
            *({file: list(dict.fromkeys(keys))} for file, keys in own.items()),
            {PROFILE: ["class_label", "overrides"]},
        ],
        "outs": [
            "models/${data.profile}/${item.arm}/${item.seed}",
            "models/${data.profile}/${item.arm}/${item.seed}.cost.json",
        ],
    }


def load_module_doc(module: Path) -> str | None:
    import ast

    return ast.get_docstring(ast.parse(module.read_text()))


def embed_stage(arms: list[Arm], weights: str = "${item.arm}") -> Stage:
    """Embeddings and own scores. The model folder stands for the method's code: it holds a digest of it.

    Args:
        weights: the arm whose weights all of `arms` test, each under its condition.
    """
    tested = weights != "${item.arm}"
    return {
        "desc": f"{weights} under test conditions" if tested else "embeddings and own scores of every clip",
        "matrix": {"arm": [arm.name for arm in arms], "seed": "${train.seeds}"},
        "cmd": command("embed", "${item.arm}", "${item.seed}"),
        "deps": [
            *code("embed", without=("models", "losses")),
            f"data/${{data.profile}}/embeddings/{weights}/${{item.seed}}" if tested else f"{FEATURES}/train",
            f"{FEATURES}/test",
            f"models/${{data.profile}}/{weights}/${{item.seed}}",
        ],
        "params": [
            "embed",
            "train.device",
            "train.threads",
            "train.precision",
            "train.matmul",
            *([{arms[0].file: ["${item.arm}"]}] if tested else []),
        ],
        "outs": [
            "data/${data.profile}/embeddings/${item.arm}/${item.seed}",
            "models/${data.profile}/${item.arm}/${item.seed}.embed.json",
        ],
    }


def arm_stages(params: Params, arms: list[Arm]) -> dict[str, Stage]:
    """Train, embed and score the arms."""
    stages: dict[str, Stage] = {}
    trained = [arm for arm in arms if arm.weights == arm.name]
    groups: dict[str, list[Arm]] = {}
    for arm in trained:
        encoder, checkpoint = params.encoder(arm.name)
        groups.setdefault("-".join(filter(None, ("train", arm.method, checkpoint or encoder))), []).append(arm)
    stages |= {name: train_stage(params, group) for name, group in groups.items()}
    if trained:
        stages["embed"] = embed_stage(trained)
    for weights in dict.fromkeys(arm.weights for arm in arms if arm.weights != arm.name):
        stages[f"test-{weights}"] = embed_stage([a for a in arms if a.weights == weights != a.name], weights)
    if arms:
        stages["score"] = {
            "desc": "every back-end's score of every test clip, without its label",
            "matrix": {"arm": [arm.name for arm in arms]},
            "cmd": command("score", "${item.arm}"),
            "deps": [*code("score"), "data/${data.profile}/embeddings/${item.arm}"],
            "params": ["score", "train.seeds", {PROFILE: ["rules"]}],
            "outs": ["data/${data.profile}/scores/${item.arm}.parquet"],
        }
    return stages


# --------------------------------------------------------------------------------------------------- the stages of a report
def report_stages(params: Params, study: str) -> dict[str, Stage]:
    """Tables, plots and MLflow of the project's own arms, or of a study."""
    rows = [params.arm(name) for name in params.rows(study)]
    own = [arm for arm in params.arms.values() if arm.study == study]
    out = f"studies/{study}/metrics/${{data.profile}}" if study else "metrics/${data.profile}"
    here = [{f"studies/{study}/params.yaml": _keys(params, study)}] if study else ["arms", "tables"]
    words = [study] if study else []
    stages: dict[str, Stage] = {
        "tables": {
            "desc": "metrics with intervals, tables and plots; the first stage that sees the labels of test clips",
            "cmd": command("tables", *words),
            "deps": [
                *code("tables"),
                "data/${data.profile}/manifest/labels.parquet",
                *(f"data/${{data.profile}}/scores/{arm.name}.parquet" for arm in rows),
                *(f"models/${{data.profile}}/{name}" for name in dict.fromkeys(arm.weights for arm in rows)),
            ],
            "params": ["evaluate", "train.seeds", *here, {PROFILE: ["name", "dataset", "rules"]}],
            "outs": [{out: {"cache": False}}],
        }
    }
    if study and params.studies[study].confusion:
        arms = params.studies[study].confusion
        stages["confusion"] = {
            "desc": "which unit's sound passes for which other's; sees which test clips are normal",
            "cmd": command("confusion", study),
            "deps": [
                *code("confusion"),
                "data/${data.profile}/manifest/labels.parquet",
                *(f"data/${{data.profile}}/embeddings/{name}" for name in arms),
            ],
            "params": ["score", "train.seeds", *here, {PROFILE: ["name"]}],
            "outs": [{f"studies/{study}/confusion/${{data.profile}}": {"cache": False}}],
        }
    if own:
        stages["publish"] = {
            "desc": "one MLflow run per arm; its out is never cached, so it follows every change of the results",
            "cmd": command("publish", *words),
            "deps": [
                *code("publish"),
                "data/${data.profile}/manifest/clips.parquet",
                f"{out}/summary.csv",
                *(
                    f"models/${{data.profile}}/{name}"
                    for name in dict.fromkeys(n for a in own for n in (a.weights, a.name))
                ),
            ],
            "params": ["train.seeds", *here],
            "outs": [
                {f".published/{f'{study}/' if study else ''}${{data.profile}}.json": {"cache": False, "persist": True}}
            ],
        }
    return stages


def _keys(params: Params, study: str) -> list[str]:
    """The sections of a study's file that say what its report holds."""
    settings = params.studies[study]
    return [name for name in type(settings).model_fields if name != "arms" and name in settings.model_fields_set]
