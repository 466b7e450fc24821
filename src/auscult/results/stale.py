"""With which settings results were made, and whether these are still the settings in use. Of scores: scoring/made_from.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auscult.scoring.made_from import RECORD, differences, making, read_record, scores_settings, sentence, stale_scores
from auscult.settings.profile import Profile
from auscult.settings.project import Project
from auscult.settings.schema import BackendSweep, Evaluate, TableSettings


def results_settings(
    profile: Profile, evaluate: Evaluate, arms: Iterable[str], tables: Mapping[str, TableSettings]
) -> dict[str, Any]:
    """What results depend on beside scores and labels."""
    return {
        "evaluate": evaluate.model_dump(mode="json"),
        "rows": list(arms),
        "tables": {name: table.model_dump(mode="json") for name, table in tables.items()},
        "profile": {"dataset": profile.dataset, "rules": profile.rules.model_dump(mode="json")},
    }


def backends_settings(profile: Profile, evaluate: Evaluate, sweep: BackendSweep, arms: Iterable[str]) -> dict[str, Any]:
    """As `results_settings`, of the table of every back-end."""
    return results_settings(profile, evaluate, arms, {}) | {"backends": sweep.model_dump(mode="json")}


def write_record(folder: Path, settings: Mapping[str, Any], scores: Sequence[Path], digests: bool) -> None:
    """Write into a folder of results what they were made from.

    Args:
        settings: of `results_settings`.
        scores: the folders of the scores.
        digests: of the scores' own records, which differ by machine; otherwise the settings of the scores, as git keeps them.
    """
    found = {place.name: record for place in scores if (record := read_record(place)) is not None}
    more: dict[str, Any] = {"scores": {name: record["settings"] for name, record in found.items()}}
    if digests:
        more = {"digests": {place.name: _digest(place) for place in scores if place.name in found}}
    (folder / RECORD).write_text(json.dumps({"settings": settings, **more}, indent=1) + "\n", encoding="utf-8")


def _digest(scores: Path) -> str:
    path = scores / RECORD
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def stale_arms(project: Project, arms: Iterable[str], sweep: bool = False) -> list[str]:
    """Messages on the scores of arms that are here and were made otherwise than the settings say; one for each study."""
    by_study: dict[str, list[str]] = {}
    for name in arms:
        by_study.setdefault(project.params.arm(name).study, []).append(name)
    return [line for study, names in by_study.items() for line in stale_scores(project, study, names, sweep)]


def stale_results(project: Project, study: str = "") -> list[str]:
    """Messages on the results of the project, or of a study, that are here, where settings or scores have become others."""
    return _stale(
        project.paths.results(study), _now(project, study), project.scores, f"The results of {_called(study)} are",
        making(study),
    )  # fmt: skip


def stale_backends(project: Project, report: str) -> list[str]:
    """As `stale_results`, of the table of every back-end."""
    study = "" if report == "project" else report
    rows = list(project.params.arms) if report == "all" else project.params.rows(study)
    now = backends_settings(project.profile, project.section("evaluate"), project.section("backends"), rows)
    what = f"The numbers of every back-end, {_called(study)}, are"
    return _stale(project.paths.backends(report), now, project.sweep, what, making(study, backends=True))


def _stale(folder: Path, now: Mapping[str, Any], scores: Callable[[str], Path], what: str, make: str) -> list[str]:
    if not folder.is_dir():
        return []
    record = read_record(folder)
    differ = ["they do not say how they were made, as older ones do not"]
    if record is not None:
        differ = differences(record["settings"], now)
        for name, digest in record["digests"].items():
            if _digest(scores("" if name == "project" else name)) not in ("", digest):
                differ.append(f"the scores of {name} that are here are others")
    return [sentence(what, differ, make)] if differ else []


def stale_committed(project: Project, study: str = "") -> list[str]:
    """As `stale_results`, of those that git keeps; of scores their settings alone are compared."""
    folder = project.paths.metrics(study)
    record = read_record(folder)
    if record is None:
        return [f"{folder}: does not say with which settings it was made: `{making(study)}` writes that, too"]
    differ = differences(record["settings"], _now(project, study))
    for name, settings in record["scores"].items():
        differ += differences(settings, scores_settings(project, "" if name == "project" else name))
    return [sentence(f"The committed results of {_called(study)} are", differ, making(study))] if differ else []


def _now(project: Project, study: str) -> dict[str, Any]:
    evaluate: Evaluate = project.section("evaluate")
    if study:
        evaluate = evaluate.model_copy(update={"reference": project.params.studies[study].reference})
    return results_settings(project.profile, evaluate, project.params.rows(study), project.params.tables(study))


def _called(study: str) -> str:
    return f"study {study}" if study else "the project"
