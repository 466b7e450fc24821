"""With which settings scores were made, written beside them, and whether these are still the settings in use.

DVC keeps order within a run. Outside of one it does not: after an experiment and `git checkout -- .`, params.yaml is the old
one again, and what lies in data/ is still the experiment's. Whoever shows scores asks `stale_scores`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from auscult.errors import AuscultError
from auscult.pipeline.stamp import up_to_date
from auscult.settings.project import Project
from auscult.settings.reading import Loader
from auscult.settings.section import flat
from auscult.settings.sections import LabelSettings

RECORD = "made_from.json"
EMBEDDED_BY = ("seeds", "device", "threads", "precision", "matmul")
"""Of the section `train`: what embeddings and scores depend on beside their model."""
CLIPS = ("sets", "machines", "holdout", "inputs", "sample_rate", "clip_seconds")
"""Of the profile: what decides which clips there are, and what is heard of them. Not its `source`, which says where files lie and
differs by machine."""
MOST = 6
"""Differences that are named; of more, how many there are."""


def scores_settings(project: Project, study: str = "", sweep: bool = False) -> dict[str, Any]:
    """What the scores of the project's arms, or of a study's, depend on beside models and embeddings."""
    train, arms = project.section("train"), project.params.own(study)
    found = {
        "score": project.section("score").model_dump(mode="json"),
        "embed": project.section("embed").model_dump(mode="json"),
        "train": train.model_dump(mode="json", include=set(EMBEDDED_BY)),
        "clips": {
            "input": project.section("data").input,
            **project.profile.model_dump(mode="json", include=set(CLIPS)),
        },
        "rules": project.profile.rules.model_dump(mode="json"),
        "condition": {arm.name: arm.condition.model_dump(mode="json") for arm in arms if arm.condition is not None},
    }
    return found | ({"backends": project.section("backends").model_dump(mode="json")} if sweep else {})


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a folder says of what it was made from; None where there is none, or one of an older form."""
    path = folder / RECORD
    record: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return record if isinstance(record, dict) and "settings" in record else None


def differences(made_with: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two settings differ, in words.

    >>> differences({"score": {"k": 7}}, {"score": {"k": 1}})
    ['`score.k` was 7 and is 1 now']
    """
    before, after = flat(dict(made_with)), flat(dict(now))
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name, _NO) != after.get(name, _NO)]
    return [f"`{name}` was {_said(before, name)} and is {_said(after, name)} now" for name in names]


_NO = object()


def _said(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "not set"


def making(study: str = "", backends: bool = False) -> str:
    """The command that makes the results of the project, or of a study; `backends`: of every back-end.

    >>> making(), making("lowpass", backends=True)
    ('dvc repro', 'auscult run lowpass --backends')
    """
    if not study and not backends:
        return "dvc repro"
    return " ".join(["auscult run", *([study] if study else []), *(["--backends"] if backends else [])])


def sentence(what: str, differ: Sequence[str], make: str) -> str:
    """One message: what is shown, in what it differs, what to do."""
    more = f", and {len(differ) - MOST} more" if len(differ) > MOST else ""
    return (
        f"{what} not of the settings in use: {'; '.join(differ[:MOST])}{more}. To do: `{make}` makes those of these settings, "
        "`dvc checkout` brings back those of this commit."
    )


def stale_scores(project: Project, study: str, arms: Sequence[str], sweep: bool = False) -> list[str]:
    """Messages on the scores of arms of the project, or of a study: settings, models or embeddings that are not theirs.

    Nothing is said of scores, models and embeddings that are not here.

    Args:
        arms: whose scores are shown; all of this study.
        sweep: of the scores by the back-ends of the sweep.
    """
    folder = project.sweep(study) if sweep else project.scores(study)
    shown = [name for name in arms if (folder / f"{name}.parquet").is_file()]
    if not shown:
        return []
    whose = f"of study {study}" if study else "of the project's arms"
    record = read_record(folder)
    differ = ["the scores do not say how they were made, as older ones do not"]
    if record is not None:
        differ = differences(record["settings"], scores_settings(project, study, sweep))
        made = record["arms"]
        differ += [f"the embeddings of `{name}` are others" for name in shown if _replaced(project, name, made)]
    settings = settings_of_arms(project)
    differ += [f"`{name}`: {text}" for name in shown for text in stale_model(project, name, settings)]
    kind = "scores by every back-end" if sweep else "scores"
    return [sentence(f"The {kind} {whose} are", differ, making(study, sweep))] if differ else []


def _replaced(project: Project, arm: str, made: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether embeddings are here that an arm's scores were not made from."""
    for seed, folder in project.embeddings(arm).items():
        note = folder / "made_from.txt"
        known = made.get(arm, {}).get(str(seed))
        if known is not None and note.is_file() and note.read_text().strip() != known:
            return True
    return False


def settings_of_arms(project: Project) -> Callable[[str], dict[str, Any]]:
    """The settings of an arm by its name, as the project says now.

    Where `digests` has written them down and nothing has changed since, they are read from there: otherwise the code of each
    method is loaded, and PyTorch with it. The function raises AuscultError for an arm that this profile cannot have.
    """
    paths = project.paths
    written = up_to_date(paths.root, paths.profile)

    def settings(name: str) -> dict[str, Any]:
        if not written:
            return project.arm(name).model_dump(mode="json")
        content: dict[str, Any] = json.loads(paths.inputs(name).read_bytes())
        if "error" in content:
            raise AuscultError(content["error"])
        found: dict[str, Any] = content["settings"]
        return found

    return settings


def stale_model(project: Project, name: str, settings: Callable[[str], dict[str, Any]]) -> list[str]:
    """In what the model of an arm that is here was trained otherwise than the settings say; so for the arm whose embeddings
    were clustered for it.

    Args:
        settings: of `settings_of_arms`.
    """
    arm = project.params.arm(name)
    try:
        now = settings(arm.weights)
    except AuscultError:
        return []  # an arm that this profile cannot have: its scores were not made here
    path = project.paths.model(arm.weights, project.seeds[0]) / "config.yaml"
    if not path.is_file():
        return []
    trained = yaml.load(path.read_bytes(), Loader)["settings"]
    found = differences(json.loads(json.dumps(trained)), now)
    labels = LabelSettings.model_validate(now.get("labels", {}))
    if not labels.clustered:
        return found
    source = labels.embeddings
    return found + [f"clusters by `{source}`: {text}" for text in stale_model(project, source, settings)]
