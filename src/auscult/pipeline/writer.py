"""Writes all files dvc.yaml: `python -m auscult.pipeline`, after a change of arms or studies.

The stages are those of stages.py. The files are committed, and plain DVC from there on. Those of studies are in DVC's graph
when they are asked for (graph.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from auscult.files import atomic_file
from auscult.pipeline.graph import file_of
from auscult.pipeline.stages import (
    MODELS,
    Stage,
    arm_stages,
    backend_stages,
    data_stages,
    metrics_folder,
    page_stage,
    report_stages,
    results_folder,
    submission_stage,
)
from auscult.settings.params import Params, load_params

HEAD = """\
# {title}
#
# Written by `python -m auscult.pipeline` from {source}; edit that. Code and the settings of arms
# count by what they mean: the stage `digests` writes a small file per arm and per stage, and the others depend on it.
# PYTHONPATH=src makes a queued experiment use its own copy of the code.
"""


HEADS = ("stages:", "artifacts:")


def pipeline(params: Params, study: str = "") -> str:
    """Text of dvc.yaml, of the project or of a study."""
    stages = {**({} if study else data_stages()), **arm_stages(params, study), **report_stages(params, study)}
    prefix = "../../" if study else ""
    content = {
        **(_below("../..", stages) if study else {"stages": stages}),
        # Of the project alone: `dvc exp show` has a column for every number of every file that is named so.
        **({} if study else {"metrics": [f"{metrics_folder()}/metrics.json"], "artifacts": artifacts(params)}),
        "plots": plots(prefix + metrics_folder(study), prefix + results_folder(study)),
    }
    title = params.studies[study].title if study else TITLE
    return _text(content, title, f"studies/{study}/params.yaml" if study else "params.yaml")


TITLE = "Audio to tables. `dvc repro` runs what is out of date; `dvc dag` draws this."


def artifacts(params: Params) -> dict[str, Any]:
    """The models of the project's arms, of the first seed, by names that `dvc artifacts get` takes."""
    trained = [arm for arm in params.own() if arm.weights == arm.name]
    return {
        arm.name: {
            "path": f"{MODELS}/{arm.name}/${{train.seeds[0]}}",
            "type": "model",
            "desc": f"arm {arm.name}, method {arm.method}, first seed",
        }
        for arm in trained
    }


def plots(metrics: str, results: str) -> list[Any]:
    """What `dvc plots` draws: a picture, and two tables by the templates in .dvc/plots, one panel per arm."""
    return [
        f"{metrics}/auc.png",
        {f"{results}/plots/roc.csv": {"x": "fpr", "y": "tpr", "template": "roc_by_arm", "title": "ROC curves"}},
        {
            f"{results}/plots/curves.csv": {
                "x": "epoch",
                "y": "value",
                "template": "curves_by_arm",
                "title": "Training curves",
            }
        },
    ]


def extras(params: Params) -> str:
    """Text of extras/dvc.yaml: what `dvc repro` leaves alone, for it takes long or not everybody needs it."""
    stages = {"report": page_stage(params), "submission": submission_stage(params), **backend_stages(params)}
    title = "The page of results, the challenge's result files, and every back-end on the project's arms"
    return _text(_below("..", stages), title, "params.yaml")


def backends(params: Params, study: str) -> str:
    """Text of studies/<study>/backends/dvc.yaml."""
    stages = _below("../../..", backend_stages(params, study))
    return _text(stages, "Every back-end on the arms of a study", f"studies/{study}/params.yaml")


def _below(root: str, stages: dict[str, Stage]) -> dict[str, Any]:
    """Stages of a file in a folder below the project's root, run in the root."""
    at_root = {name: {"desc": stage.pop("desc"), "wdir": root, **stage} for name, stage in stages.items()}
    return {"vars": [f"{root}/params.yaml:data,train"], "stages": at_root}


def _text(content: dict[str, Any], title: str, source: str) -> str:
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("  ") and line[2:3].isalpha() and line.endswith(":") and lines[-1] not in HEADS:
            lines.append("")
        lines.append(line)
    return HEAD.format(title=title, source=source) + "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def files(params: Params, studies: Iterable[str] | None = None) -> dict[str, str]:
    """The pipeline files of the project and of studies (None = all), path from the project root -> text."""
    names = list(params.studies if studies is None else studies)
    return {
        "dvc.yaml": pipeline(params),
        "extras/dvc.yaml": extras(params),
        **{file_of(name): pipeline(params, name) for name in names},
        **{file_of(name, backends=True): backends(params, name) for name in names},
    }


def outdated(params: Params, studies: Iterable[str] | None = None, root: Path = Path()) -> dict[str, str]:
    """Of the pipeline files of `files`, those missing or not as the parameters ask for: path -> the text that it should have."""
    wanted = files(params, studies).items()
    return {name: text for name, text in wanted if not (root / name).is_file() or (root / name).read_text() != text}


def main(root: Path = Path()) -> None:
    for name, text in outdated(load_params(root), root=root).items():
        with atomic_file(root / name) as part:
            part.write_text(text)
        print(f"written: {name}")
