"""Writes dvc.yaml, studies/*/dvc.yaml and their like: `python -m auscult.pipeline`, after a change of arms, studies or imports.

The stages are those of pipelinestages.py. The files are committed, and plain DVC from there on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from auscult.files import atomic_file
from auscult.pipeline.stages import FEATURES, PROFILE, Stage, arm_stages, code, command, data_stages, report_stages
from auscult.settings.params import Params, load_params

HEAD = """\
# {title}
#
# Written by `python -m auscult.pipeline` from {source} and the imports of the code; edit those. Each stage lists the
# sections of params.yaml it reads and the modules that can change its numbers, so a change re-runs exactly what depends
# on it. Modules that only carry settings, paths and messages are left out: what they carry is tracked as a parameter.
# PYTHONPATH=src makes a queued experiment use its own copy of the code.
"""


def pipeline(params: Params, study: str = "") -> str:
    """Text of dvc.yaml, of the project or of a study."""
    own = [arm for arm in params.arms.values() if arm.study == study]
    stages = {**({} if study else data_stages()), **arm_stages(params, own), **report_stages(params, study)}
    out = f"studies/{study}/metrics/${{data.profile}}" if study else "metrics/${data.profile}"
    prefix = "../../" if study else ""
    content = {
        **(_below("../..", stages) if study else {"stages": stages}),
        "metrics": [f"{prefix}{out}/{name}.json" for name in params.rows(study)],
        "plots": plots(f"{prefix}{out}/plots"),
    }
    title = "Audio to tables. `dvc repro` runs what is out of date; `dvc dag` draws this."
    title = params.studies[study].title if study else title
    return _text(content, title, f"studies/{study}/params.yaml, params.yaml" if study else "params.yaml")


def plots(folder: str) -> list[Any]:
    """What `dvc plots` draws: two pictures, and two tables by the templates in .dvc/plots, one panel per arm."""
    return [
        f"{folder}/auc.png",
        f"{folder}/roc.png",
        {f"{folder}/roc.csv": {"x": "fpr", "y": "tpr", "template": "roc_by_arm", "title": "ROC curves"}},
        {f"{folder}/curves.csv": {"x": "epoch", "y": "value", "template": "curves_by_arm", "title": "Training curves"}},
    ]


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
        "params": ["submission", "score.k", "score.scope", "score.domain_banks", "train.seeds", {PROFILE: ["rules"]}],
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
            "outs": [f"backends/metrics/${{data.profile}}/{report}"],
        }
    # Small enough for git; the others are megabytes of numbers, and lie in DVC's cache.
    project = stages["table-project"]
    project["outs"] = [{project["outs"][0]: {"cache": False}}]
    return _text(_below("..", stages), "Every back-end on every arm", "params.yaml")


def page(params: Params) -> str:
    """Text of reports/dvc.yaml: the page of the project's own arms, in a file of its own, for it costs a minute and plain
    `dvc repro` need not wait for it."""
    rows = [params.arm(name) for name in params.rows()]
    trained = dict.fromkeys(name for arm in rows for name in (arm.weights, arm.name))
    profile = "data/${data.profile}"
    stage = {
        "desc": "one page of all results that opens without a network; sees the labels of test clips",
        "cmd": command("report"),
        "deps": [
            *code("report"),
            f"{profile}/manifest",
            FEATURES,
            "metrics/${data.profile}",
            *(f"{profile}/scores/{arm.name}.parquet" for arm in rows),
            *(f"{profile}/embeddings/{arm.name}" for arm in rows),
            *(f"models/${{data.profile}}/{name}" for name in trained),
        ],
        "params": [
            "arms",
            "tables",
            "evaluate",
            "score",
            "submission",
            "train.seeds",
            {PROFILE: ["name", "dataset", "title", "licence", "rules"]},
        ],
        "outs": ["reports/${data.profile}"],
    }
    return _text(_below("..", {"report": stage}), "The page of results", "params.yaml")


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
    from_file = any(params.encoder(arm)[1] for arm in params.arms)
    return {
        "dvc.yaml": pipeline(params),
        **({"checkpoints/dvc.yaml": checkpoints(params)} if from_file else {}),
        "submissions/dvc.yaml": submission(params),
        "backends/dvc.yaml": backends(params),
        "reports/dvc.yaml": page(params),
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
