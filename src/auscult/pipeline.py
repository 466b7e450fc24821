"""Writes dvc.yaml and studies/*/dvc.yaml: `python -m auscult.pipeline`, after a change of arms, studies or imports.

What a stage depends on is read from the code: a stage that imports a module but does not list it would silently keep
stale results, and a list kept by hand grows wrong. The files are committed, and plain DVC from there on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from auscult.encodernames import encoder_file
from auscult.files import atomic_file
from auscult.imports import SRC, closure
from auscult.methods import load_method
from auscult.params import Arm, Params, load_params
from auscult.sections import SHARED

PACKAGE = SRC / "auscult"
# Carry settings, paths and messages: what they carry is a tracked parameter, and they compute nothing.
PLUMBING = {PACKAGE / name for name in (
    "__init__.py", "backendsettings.py", "config.py", "errors.py", "files.py", "imports.py", "methods/__init__.py",
    "params.py", "paths.py", "checkpoints.py", "encoders/__init__.py", "encodernames.py", "project.py", "rules.py",
    "sections.py", "weights.py",
)}  # fmt: skip
FOLDERS = [PACKAGE / name for name in ("data/labels", "data/synthetic", "papers", "reporting", "scoring")]
"""Listed as a whole where one of their modules is needed."""

PROFILE = "profiles/${data.profile}.yaml"
FEATURES = "data/${data.profile}/features"
HEAD = """\
# {title}
#
# Written by `python -m auscult.pipeline` from {source} and the imports of the code; edit those. Each stage lists the
# sections of params.yaml it reads and the modules that can change its numbers, so a change re-runs exactly what depends
# on it. Modules that only carry settings, paths and messages are left out: what they carry is tracked as a parameter.
# PYTHONPATH=src makes a queued experiment use its own copy of the code.
"""

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
    root = ["train.device", "train.threads", "train.precision", method, *shared]
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


# ------------------------------------------------------------------------------------------------------------------ files
def pipeline(params: Params, study: str = "") -> str:
    """Text of dvc.yaml, of the project or of a study."""
    own = [arm for arm in params.arms.values() if arm.study == study]
    stages = {**({} if study else data_stages()), **arm_stages(params, own), **report_stages(params, study)}
    out = f"studies/{study}/metrics/${{data.profile}}" if study else "metrics/${data.profile}"
    prefix = "../../" if study else ""
    content = {
        **(_below("../..", stages) if study else {"stages": stages}),
        "metrics": [f"{prefix}{out}/{name}.json" for name in params.rows(study)],
        "plots": [f"{prefix}{out}/plots/auc.png", f"{prefix}{out}/plots/roc.png"],
    }
    title = "Audio to tables. `dvc repro` runs what is out of date; `dvc dag` draws this."
    title = params.studies[study].title if study else title
    return _text(content, title, f"studies/{study}/params.yaml, params.yaml" if study else "params.yaml")


def _below(root: str, stages: dict[str, Stage]) -> dict[str, Any]:
    """Stages of a file in a folder below the project's root, run in the root."""
    at_root = {name: {"desc": stage.pop("desc"), "wdir": root, **stage} for name, stage in stages.items()}
    return {"vars": [f"{root}/params.yaml:data,train"], "stages": at_root}


def _text(content: dict[str, Any], title: str, source: str) -> str:
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("  ") and line[2:3].isalpha() and line.endswith(":") and lines[-1] != "stages:":
            lines.append("")
        lines.append(line)
    return HEAD.format(title=title, source=source) + "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def submission(params: Params) -> str:
    """Text of submissions/dvc.yaml: the challenge's result files of the project's arms. In a file of its own, which plain
    `dvc repro` leaves alone, for not every data set has an evaluation set."""
    stage = {
        "desc": "scores and decisions in the challenge's format, from scores and training clips alone",
        "matrix": {"arm": params.rows()},
        "cmd": command("submission", "${item.arm}"),
        "deps": [
            *code("submission"),
            "data/${data.profile}/manifest/clips.parquet",
            "data/${data.profile}/embeddings/${item.arm}",
            "data/${data.profile}/scores/${item.arm}.parquet",
        ],
        "params": ["submission", "score.k", "train.seeds", {PROFILE: ["rules"]}],
        "outs": [{"submissions/${data.profile}/${item.arm}": {"cache": False}}],
    }
    return _text(_below("..", {"submission": stage}), "Result files of the challenge", "params.yaml")


def backends(params: Params) -> str:
    """Text of backends/dvc.yaml: the back-ends of the sweep on the embeddings of every arm, and a table for the project, for
    each study and for all arms. Each has a stage of its own, for an arm of one study may need what is not there for another."""
    profile = "data/${data.profile}"
    stages: dict[str, Stage] = {
        "sweep": {
            "desc": "scores of cached embeddings under every back-end of the sweep, without labels",
            "matrix": {"arm": list(params.arms)},
            "cmd": command("sweep", "${item.arm}"),
            "deps": [*code("sweep"), f"{profile}/embeddings/${{item.arm}}"],
            "params": ["backends", "score", "train.seeds", {PROFILE: ["rules"]}],
            "outs": [f"{profile}/sweep/${{item.arm}}.parquet"],
        }
    }
    reports = {"project": params.rows(), **{study: params.rows(study) for study in params.studies}}
    for report, rows in {**reports, "all": list(params.arms)}.items():
        arms = [params.arm(name) for name in rows]
        stages[f"table-{report}"] = {
            "desc": "arms x back-ends; sees the labels of test clips",
            "cmd": command("backends", report),
            "deps": [
                *code("backends"),
                f"{profile}/manifest/labels.parquet",
                *(f"{profile}/sweep/{arm.name}.parquet" for arm in arms),
                *(f"models/${{data.profile}}/{name}" for name in dict.fromkeys(arm.weights for arm in arms)),
            ],
            "params": ["backends", "evaluate", "train.seeds", {PROFILE: ["name", "dataset", "rules"]}],
            "outs": [{f"backends/metrics/${{data.profile}}/{report}": {"cache": False}}],
        }
    return _text(_below("..", stages), "Every back-end on every arm", "params.yaml")


def checkpoints(params: Params) -> str:
    """Text of checkpoints/dvc.yaml: which files of checkpoints.yaml are in place. The answers are committed, and outlast the
    files: who has the trained models, but not the checkpoints, still gets every table."""
    stage = {
        "desc": "digest of a checkpoint's files; looked at in every run",
        "matrix": {"name": sorted({name for arm in params.arms if (name := params.encoder(arm)[1])})},
        "cmd": command("checkpoint", "${item.name}"),
        "deps": [*code("checkpoint"), "checkpoints.yaml"],
        "always_changed": True,
        "outs": [{"checkpoints/${item.name}.json": {"cache": False, "persist": True}}],
    }
    return _text(
        _below("..", {"checkpoint": stage}), "Checkpoints of pre-trained encoders", "params.yaml, studies/*/params.yaml"
    )


def files(params: Params) -> dict[str, str]:
    """Every pipeline file, path from the project root -> text."""
    return {
        "dvc.yaml": pipeline(params),
        "checkpoints/dvc.yaml": checkpoints(params),
        "submissions/dvc.yaml": submission(params),
        "backends/dvc.yaml": backends(params),
        **{f"studies/{name}/dvc.yaml": pipeline(params, name) for name in params.studies},
    }


def main(root: Path = Path()) -> None:
    for name, text in files(load_params(root)).items():
        if not (root / name).is_file() or (root / name).read_text() != text:
            with atomic_file(root / name) as part:
                part.write_text(text)
            print(f"written: {name}")


if __name__ == "__main__":
    main()
