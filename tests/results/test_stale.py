"""Numbers that are not of the settings in use: found wherever in the chain they come apart, and said where they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from auscult.errors import AuscultError
from auscult.results import draw, readme, stale
from auscult.scoring.made_from import scores_settings
from auscult.settings.project import Project
from auscult.tracking import publish
from support.projects import make_project

ARMS = ("ae", "spectral_knn")


def save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) if path.suffix == ".json" else str(content))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """What the stages leave, as far as it tells what it was made from."""
    make_project(tmp_path, params_overrides={"arms": list(ARMS), "train": {"seeds": [1]}})
    monkeypatch.chdir(tmp_path)
    made = Project.open()
    for arm in ARMS:
        save(
            made.paths.model(arm, 1) / "config.yaml",
            yaml.safe_dump({"settings": made.arm(arm).model_dump(mode="json"), "code": "c0de"}),
        )
        save(made.paths.embeddings(arm, 1) / "made_from.txt", f"{arm}\n")
        save(made.scores_of(arm), "")
    record = {"settings": scores_settings(made), "arms": {arm: {"1": arm} for arm in ARMS}}
    save(made.scores() / "made_from.json", record)
    settings = stale.results_settings(made.profile, made.section("evaluate"), made.params.rows(), made.params.tables())
    for folder, digests in ((made.paths.results(), True), (made.paths.metrics(), False)):
        folder.mkdir(parents=True)
        stale.write_record(folder, settings, [made.scores()], digests)
    return made


def everything(project: Project) -> list[str]:
    arms = stale.stale_arms(project, project.params.rows())
    return [*arms, *stale.stale_results(project), *stale.stale_committed(project)]


def params(change: Callable[[dict[str, Any]], object]) -> Project:
    """The project after params.yaml was changed."""
    settings = yaml.safe_load(Path("params.yaml").read_text())
    change(settings)
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    return Project.open()


def test_of_the_settings_in_use_nothing_is_said(project: Project) -> None:
    assert everything(project) == []


def test_the_case_of_an_experiment_and_git_checkout(project: Project) -> None:
    """`dvc exp run -S score.k=7`, `git checkout -- .`: params.yaml and metrics/ are of k = 1 again, data/ is of k = 7."""
    record = json.loads((project.scores() / "made_from.json").read_text())
    record["settings"]["score"]["k"] = 7
    save(project.scores() / "made_from.json", record)
    (message,) = stale.stale_arms(project, ARMS)
    for words in ("the project's arms", "`score.k` was 7 and is 1 now", "`dvc repro`", "`dvc checkout`"):
        assert words in message
    assert "the scores of project that are here are others" in stale.stale_results(project)[0]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (lambda p: p.setdefault("score", {}).update(k=3), "`score.k` was 1 and is 3 now"),
        (lambda p: p["data"].update(input="mean"), '`clips.input` was "near" and is "mean" now'),
        (lambda p: p.setdefault("embed", {}).update(batch_size=2), "`embed.batch_size` was 64 and is 2 now"),
        (lambda p: p.setdefault("evaluate", {}).update(seed=5), "`evaluate.seed` was 0 and is 5 now"),
        (lambda p: p.update(arms=["ae"]), "`rows` was"),
        (lambda p: p.setdefault("ae", {}).update(lr=0.5), "`ae`: `lr` was"),
        (lambda p: p["train"].update(seeds=[1, 2]), "`train.seeds` was [1] and is [1, 2] now"),
    ],
)
def test_a_setting_that_was_changed_since_is_named(project: Project, where: Any, words: str) -> None:
    assert any(words in line for line in everything(params(where)))


def test_a_rule_of_the_profile_counts(project: Project) -> None:
    changed = replace(project, profile=project.profile.model_copy(update={"dataset": "another"}))
    assert "`profile.dataset` was" in stale.stale_results(changed)[0]


def test_which_clips_the_profile_makes_counts(project: Project) -> None:
    changed = replace(project, profile=project.profile.model_copy(update={"clip_seconds": 2.0}))
    assert "`clips.clip_seconds` was 1.0 and is 2.0 now" in stale.stale_arms(changed, ARMS)[0]
    assert "`clips.clip_seconds` was 1.0" in stale.stale_committed(changed)[0]


def test_other_embeddings_or_another_model_than_the_scores_are_of(project: Project) -> None:
    save(project.paths.embeddings("ae", 1) / "made_from.txt", "another")
    assert "the embeddings of `ae` are others" in stale.stale_arms(project, ARMS)[0]
    assert stale.stale_arms(project, ["spectral_knn"]) == []


def test_what_does_not_say_how_it_was_made_is_told(project: Project) -> None:
    save(project.scores() / "made_from.json", {"ae": ["abc"]})  # the older form
    (project.paths.results() / "made_from.json").unlink()
    (project.paths.metrics() / "made_from.json").unlink()
    assert len(everything(project)) == 3
    assert all("not say" in line for line in everything(project))


def test_scores_that_are_not_here_need_no_word(project: Project) -> None:
    for arm in ARMS:
        project.scores_of(arm).unlink()
    assert stale.stale_arms(project, ARMS) == []


# -------------------------------------------------------------------------------------------------------- where it is shown
def test_a_figure_is_not_drawn(project: Project, tmp_path: Path) -> None:
    pd.DataFrame({"arm": ["ae"], "backend": ["native"], "machine": ["mean"]}).to_csv(
        project.paths.results() / "summary.csv"
    )
    changed = params(lambda p: p.setdefault("score", {}).update(k=3))
    with pytest.raises(AuscultError, match="not of the settings in use"):
        draw.draw(changed, "auc", [tmp_path / "auc.png"], draw.Wanted())
    assert not (tmp_path / "auc.png").exists()


def test_nothing_is_published(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish.publish(params(lambda p: p.setdefault("score", {}).update(k=3)), tmp_path / "receipt.json")
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["published"] is None
    assert "`score.k` was 1 and is 3 now" in receipt["reason"]
    assert "`score.k` was 1 and is 3 now" in capsys.readouterr().err
    assert not (tmp_path / "mlflow.db").exists()


def test_readme_is_not_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "SHOWN", {"tiny": readme.Shown([("auc", "mean")])})
    monkeypatch.setattr(readme, "PAGES", {"README.md": ["results: tiny"]})
    Path("README.md").write_text("<!-- results: tiny -->\n<!-- end -->")
    params(lambda p: p.setdefault("score", {}).update(k=3))
    with pytest.raises(AuscultError, match="numbers of other settings"):
        readme.updated("README.md", Path())


def test_the_losses_of_a_model_without_scores_are_not_drawn(project: Project, tmp_path: Path) -> None:
    for arm in ARMS:
        project.scores_of(arm).unlink()
    changed = params(lambda p: p.setdefault("ae", {}).update(lr=0.5))
    with pytest.raises(AuscultError, match="`ae`: `lr` was"):
        draw.draw(changed, "training", [tmp_path / "training.png"], draw.Wanted())


def test_rows_that_another_study_made_count_where_a_study_is_published(project: Project, tmp_path: Path) -> None:
    """A study with an arm of its own beside one of the project."""
    save(
        Path("studies/wide/params.yaml"),
        yaml.safe_dump({"title": "Wide", "arms": ["wide"], "rows": ["ae", "wide"], "wide": {"method": "ae"}}),
    )
    record = json.loads((project.scores() / "made_from.json").read_text())
    record["settings"]["score"]["k"] = 7
    save(project.scores() / "made_from.json", record)
    publish.publish(Project.open(), tmp_path / "receipt.json", "wide")
    assert "`score.k` was 7 and is 1 now" in json.loads((tmp_path / "receipt.json").read_text())["reason"]
