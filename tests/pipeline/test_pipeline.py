"""The whole pipeline through the real `dvc` commands, on a tiny synthetic profile: two arms, and a study of two more."""

from __future__ import annotations

import base64
import csv
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from auscult.pipeline.stamp import up_to_date
from auscult.scoring.made_from import settings_of_arms
from auscult.settings.project import Project
from support.pipeline import commit, make, run

ARMS = ["spectral_knn", "logmel_os_scl"]
ALWAYS = {"digests"}


@pytest.fixture(scope="module")
def project(module_path: Path) -> Path:
    folder = make(module_path / "project", arms=ARMS)
    run(folder, "dvc", "repro")
    run(folder, "auscult", "run", "noise")
    commit(folder, "results")
    return folder


def runs(folder: Path, kind: str = "arm") -> list[object]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`auscult.kind` = '{kind}'"))


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def status(folder: Path) -> dict[str, set[str]]:
    """Stages that would run, once the present settings and sources have been looked at -> what has changed for them."""
    run(folder, "dvc", "repro", "-q", "digests")
    found: dict[str, set[str]] = {}
    for name, reasons in json.loads(run(folder, "dvc", "status", "--json").stdout).items():
        found[name] = set()
        for files in (reason.get("changed deps", {}) for reason in reasons if isinstance(reason, dict)):
            for file, how in files.items():
                found[name].update(how if isinstance(how, dict) else [file.rpartition("/")[2]])
    return {name: why for name, why in found.items() if name not in ALWAYS and not name.startswith("extras")}


@contextmanager
def changed(project: Path, files: dict[str, str]) -> Iterator[None]:
    """Files of the project with another content, for a while; what DVC and `digests` note of it meanwhile is undone."""
    noted = project / "data" / "tiny" / "digests"
    kept = [project / file for file in (*files, "dvc.lock", ".cache/digests/tiny.json")]
    kept += [path for path in noted.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in kept}
    for file, text in files.items():
        (project / file).write_text(text)
    try:
        yield
    finally:
        for path, content in before.items():
            path.unlink(missing_ok=True)  # it may be a link into the cache
            path.write_bytes(content)


def replaced(path: Path, *pairs: tuple[str, str]) -> str:
    """Its content with the second of each pair in the place of the first, once."""
    text = path.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def test_every_result_is_there(project: Path) -> None:
    small, whole = project / "metrics" / "tiny", project / "data" / "tiny" / "results" / "project"
    summary = pd.read_csv(whole / "summary.csv")
    assert list(summary.columns)[:11] == [
        "arm", "backend", "convention", "set", "machine", "metric", "value", "ci_low", "ci_high", "seeds", "std",
    ]  # fmt: skip
    assert set(summary["arm"]) == set(ARMS)
    assert set(summary["convention"]) == {"pooled", "per_unit"}
    assert {"auc", "pauc", "mauc"} <= set(summary["metric"])
    assert summary["value"].between(0, 100).all()
    assert {path.name for path in small.iterdir()} == {
        "summary.csv",
        "table.md",
        "auc.png",
        "metrics.json",
        "made_from.json",
    }
    assert "seconds" not in (small / "table.md").read_text(), "what differs between equal runs is not committed"
    assert json.loads((small / "metrics.json").read_text())


def test_a_second_repro_runs_nothing_and_leaves_git_clean(project: Path) -> None:
    again = run(project, "dvc", "repro", "dvc.yaml", "studies/noise/dvc.yaml")
    assert stages_run(again.stdout) == ALWAYS
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_two_workspaces_train_an_arm_each_and_a_third_makes_the_same_tables(project: Path, tmp_path: Path) -> None:
    """With one DVC remote (docs/several-gpus-and-machines.md). All is trained again from nothing, and git sees no change: seconds
    and dates are in nothing that is committed, dvc.lock included."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for folder in (one, two, three):
        run(tmp_path, "git", "clone", "-q", str(project), folder.name)
        run(folder, "dvc", "remote", "add", "--local", "-d", "shared", str(tmp_path / "remote"))

    first = stages_run(run(one, "dvc", "repro", "train@spectral_knn-2024").stdout)
    assert first == {*ALWAYS, "download", "manifest", "features", "train@spectral_knn-2024"}
    run(one, "dvc", "push", "-q", "--run-cache")
    second = stages_run(run(two, "dvc", "repro", "--pull", "train@logmel_os_scl-2024").stdout)
    assert second == {*ALWAYS, "train@logmel_os_scl-2024"}, "the data come from the other workspace"
    run(two, "dvc", "push", "-q", "--run-cache")
    third = run(three, "dvc", "repro", "--pull", "tables")
    assert stages_run(third.stdout) == {*ALWAYS, "embed@2024", "score", "tables"}, third.stdout
    assert {run(folder, "git", "status", "--porcelain").stdout for folder in (one, two, three)} == {""}
    for arm, place in (("spectral_knn", one), ("logmel_os_scl", two)):
        weights = f"models/tiny/{arm}/2024/weights.safetensors"
        expected = (project / weights).read_bytes()
        assert (three / weights).read_bytes() == (place / weights).read_bytes() == expected, arm


def test_a_study_has_results_of_its_own(project: Path) -> None:
    results = project / "data" / "tiny" / "results"
    own, root = (pd.read_csv(results / name / "summary.csv") for name in ("noise", "project"))
    assert set(own["arm"]) == {"logmel_8", "logmel_noise", "logmel_os_scl"}
    keys = ["backend", "convention", "set", "machine", "metric"]
    shared = [table[table["arm"] == "logmel_os_scl"].set_index(keys)["value"] for table in (own, root)]
    pd.testing.assert_series_equal(shared[0], shared[1])  # the same scores, whichever table shows them
    noisy, clean = (
        pd.read_parquet(project / "data/tiny/scores" / name)["score"]
        for name in ("noise/logmel_noise.parquet", "project/logmel_os_scl.parquet")
    )
    assert not np.allclose(noisy, clean)
    assert not (project / "models/tiny/logmel_noise/2024").exists(), "a test condition trains nothing"
    small = project / "studies" / "noise" / "metrics" / "tiny"
    assert {path.name for path in small.iterdir()} >= {"summary.csv", "table.md", "metrics.json"}
    assert list((project / "data/tiny/confusion/noise").glob("*.png"))


def test_a_changed_parameter_touches_what_depends_on_it(project: Path) -> None:
    """Five changes at once, and for each stage what of them made it stale."""
    changes = [
        ("reduction: 64", "reduction: 32"), ("  k: 1", "  k: 2"), ("replicates: 50", "replicates: 60"),
        ("workers: 0", "workers: 1"), ("# Every knob.", "# Each knob."),
    ]  # fmt: skip
    with changed(project, {"params.yaml": replaced(project / "params.yaml", *changes)}):
        found = status(project)
    assert {name: why for name, why in found.items() if not name.startswith("studies")} == {
        "train@logmel_os_scl-2024": {"logmel_os_scl.json"},
        "score": {"score"},
        "tables": {"evaluate"},
    }
    assert status(project) == {}


def test_a_changed_source_touches_what_it_changes(project: Path) -> None:
    """Comments, docstrings, wording, in what trains every arm: nothing. A constant of a loss: the arms that it trains."""
    loop, loss = (f"src/auscult/{name}.py" for name in ("training/loop", "losses/supcon"))
    words = (project / loop).read_text().replace('"""', '"""Another docstring. ', 1) + "\n# a comment\n"
    with changed(project, {loop: words, loss: (project / loss).read_text() + "\nANOTHER = 1\n"}):
        found = {name for name in status(project) if "train" in name or "tables" in name}
        assert set(run(project, "git", "diff", "--name-only").stdout.split()) - {"dvc.lock"} == {loop, loss}
    assert found == {"train@logmel_os_scl-2024", "studies/noise/dvc.yaml:train@logmel_8-2024"}


def test_settings_written_down_are_those_in_use(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever shows results compares with them, and so needs no PyTorch."""
    monkeypatch.chdir(project)
    opened = Project.open()
    assert up_to_date(profile="tiny")
    assert not up_to_date(profile="synthetic")
    settings = settings_of_arms(opened)
    for name in ("spectral_knn", "logmel_os_scl", "logmel_8"):
        assert settings(name) == json.loads(json.dumps(opened.arm(name).model_dump(mode="json"))), name
    script = (
        "import runpy, sys; runpy.run_path('stages/publish.py', run_name='__main__'); print('torch' in sys.modules)"
    )
    done = run(project, sys.executable, "-c", f"import sys; sys.path[:0] = ['src']; {script}")
    assert done.stdout.splitlines()[-1] == "False"
    with changed(project, {"params.yaml": replaced(project / "params.yaml", ("reduction: 64", "reduction: 32"))}):
        assert not up_to_date(profile="tiny")
        assert settings_of_arms(Project.open())("logmel_os_scl")["fph"]["reduction"] == 32


def test_code_that_cannot_be_parsed_is_one_message(project: Path) -> None:
    source = "src/auscult/losses/supcon.py"
    with changed(project, {source: replaced(project / source, ("def ", "def ("))}):
        failed = run(project, "dvc", "repro", "digests", check=False)
    assert failed.returncode != 0
    assert "cannot be parsed" in failed.stderr
    assert "supcon.py" in failed.stderr


def test_mlflow_has_one_run_per_arm(project: Path) -> None:
    found = runs(project)
    names = sorted(run.info.run_name for run in found)  # type: ignore[attr-defined]
    own = ["logmel_8", "logmel_noise"]  # the study's
    assert names == sorted(f"{arm}/tiny" for arm in [*ARMS, *own])
    parents = {run.info.run_id: run for run in runs(project, "study")}  # type: ignore[attr-defined]
    assert {run.info.run_name for run in parents.values()} == {"project/tiny", "noise/tiny"}  # type: ignore[attr-defined]
    for one in found:
        tags = one.data.tags  # type: ignore[attr-defined]
        study = "noise" if tags["auscult.arm"] in own else "project"
        assert tags["auscult.study"] == study
        assert parents[tags["mlflow.parentRunId"]].data.tags["auscult.study"] == study  # type: ignore[attr-defined]
        data = one.data  # type: ignore[attr-defined]
        assert {"auc/fan", "auc/valve", "auc/mean", "cost/train_seconds", "cost/peak_memory_mib"} <= set(data.metrics)
        assert data.params["profile"] == "tiny"
        assert re.fullmatch(r"[0-9a-f]{40}", data.tags["git.revision"])
        assert data.tags["auscult.data"]
    summary = pd.read_csv(project / "data/tiny/results/project/summary.csv").set_index(
        ["arm", "backend", "convention", "set", "machine", "metric"]
    )["value"]
    arm = next(run for run in found if run.data.tags["auscult.arm"] == "logmel_os_scl")  # type: ignore[attr-defined]
    value = summary["logmel_os_scl", "native", "per_unit", "dev", "fan", "auc"]
    assert arm.data.metrics["auc/fan"] == pytest.approx(value)  # type: ignore[attr-defined]


def test_a_model_of_mlflow_scores_recordings_as_the_pipeline_has(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    from auscult.settings.project import Project
    from auscult.tracking.serving import log_model, store_uri

    monkeypatch.chdir(project)
    for arm in ARMS:  # judged by its neighbours, and by its own score
        address = log_model(Project.open(), arm)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri())
        mlflow.set_tracking_uri(store_uri())
        model = mlflow.pyfunc.load_model(address)
        assert model.metadata.signature.inputs.input_names() == ["wav", "machine", "unit"]
        scores = pd.read_parquet(f"data/tiny/scores/project/{arm}.parquet")
        scores = scores[scores["backend"] == scores["backend"].iloc[0]].set_index("clip_id")["score"]
        clips = pd.read_parquet("data/tiny/manifest/clips.parquet").query("partition == 'test'").iloc[::5]
        wavs = [base64.b64encode((Path("data/tiny/raw") / path).read_bytes()).decode() for path in clips["path"]]
        asked = pd.DataFrame({"wav": wavs, "machine": clips["machine"].tolist(), "unit": clips["unit"].tolist()})
        assert model.predict(asked)["score"].tolist() == scores[clips["clip_id"]].tolist()
        with pytest.raises(MlflowException, match="no training clips of machine `fan`, unit `99`"):
            model.predict(asked.iloc[:1].assign(machine="fan", unit="99"))
        with pytest.raises(MlflowException, match="recording 0 is not base64"):
            model.predict(asked.iloc[:1].assign(wav="no audio"))


def test_publishing_twice_updates(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    before = {run.info.run_id for run in runs(project)}  # type: ignore[attr-defined]
    run(project, "dvc", "repro", "-s", "-f", "publish")
    after = runs(project)
    assert {run.info.run_id for run in after} == before  # type: ignore[attr-defined]
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    arm = next(run for run in after if run.data.tags["auscult.arm"] == "logmel_os_scl")  # type: ignore[attr-defined]
    assert len(runs(project, "study")) == 2
    curve = client.get_metric_history(arm.info.run_id, "curve/train_loss")  # type: ignore[attr-defined]
    assert [point.step for point in curve] == [1, 2]
    assert len(client.get_metric_history(arm.info.run_id, "auc/fan")) == 1  # type: ignore[attr-defined]


def test_queued_sweep_then_back(project: Path) -> None:
    """Two queued values of one parameter, one the workspace's own: what depends on it runs, and the workspace stays clean."""
    before = len(runs(project))
    run(project, "dvc", "exp", "run", "-S", "fph.reduction=16,64", "--queue")
    result = run(project, "dvc", "exp", "run", "--run-all")
    assert run(project, "git", "status", "--porcelain").stdout == "", result.stdout
    table = run(project, "dvc", "exp", "show", "--csv").stdout
    assert len(re.findall(r",Failed", table)) == 0
    assert "fph.reduction" in table.splitlines()[0]
    after = runs(project)
    values = sorted(r.data.params["fph.reduction"] for r in after if r.data.tags["auscult.arm"] == "logmel_os_scl")  # type: ignore[attr-defined]
    assert values == ["16", "64"]
    assert len(after) == before + 1  # the arm of OS-SCL with another width; the other runs are the same ones

    rows = list(csv.DictReader(table.splitlines()))
    name = next(row["Experiment"] for row in rows if row["fph.reduction"] == "16")
    run(project, "dvc", "exp", "branch", name, "tried")
    run(project, "git", "checkout", "-q", "tried")
    assert "fph.reduction" in run(project, "dvc", "params", "diff", "main").stdout
    there = stages_run(run(project, "dvc", "repro").stdout)
    assert there <= ALWAYS | {"embed@2024", "tables", "publish"}, "taking over a result trained again"
    run(project, "git", "checkout", "-q", "--", ".")
    run(project, "git", "checkout", "-q", "main")
    back = run(project, "dvc", "repro")
    assert stages_run(back.stdout) <= ALWAYS | {"embed@2024", "tables", "publish"}, "going back trained again"
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_a_torn_lock_is_mended_without_training(project: Path) -> None:
    """What docs/reliability.md says of a kill while DVC writes its own files."""
    before = yaml.safe_load((project / "dvc.lock").read_text())
    (project / "dvc.lock").write_text("")
    (project / ".dvc" / "tmp" / "rwlock").write_text('{"/half')
    assert run(project, "dvc", "repro", check=False).returncode != 0
    (project / "dvc.lock").unlink()
    (project / ".dvc" / "tmp" / "rwlock").unlink()
    mended = run(project, "dvc", "repro").stdout
    assert not {name for name in stages_run(mended) if name.startswith("train")}, mended
    assert yaml.safe_load((project / "dvc.lock").read_text()) == before
    run(
        project, "git", "checkout", "dvc.lock"
    )  # DVC writes stages in the order in which they ran, which is no fixed one
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_a_misspelt_parameter_is_refused(project: Path) -> None:
    refused = run(project, "dvc", "exp", "run", "-S", "fph.reducton=8", check=False)
    assert refused.returncode != 0
    with changed(project, {"params.yaml": replaced(project / "params.yaml", ("reduction: 64", "reducton: 64"))}):
        failed = run(project, "dvc", "repro", "train@logmel_os_scl-2024", check=False)
    assert failed.returncode != 0
    assert "did you mean" in failed.stderr
    assert "fph.reducton" in failed.stderr


def test_result_files_of_the_challenge(project: Path) -> None:
    run(project, "auscult", "run", "extras:submission", "-S", "submission.set=dev")
    folder = project / "data" / "tiny" / "submission" / "logmel_os_scl"
    clips = pd.read_parquet(project / "data/tiny/manifest/clips.parquet")
    names = {Path(path).name for path in clips.query("partition == 'test' and machine == 'fan'")["path"]}
    files = sorted(folder.glob("anomaly_score_fan_*.csv"))
    assert files
    rows = pd.concat([pd.read_csv(file, header=None, names=["name", "score"]) for file in files])
    assert set(rows["name"]) == names
    scores = pd.read_parquet(project / "data/tiny/scores/project/logmel_os_scl.parquet")
    scores = scores.query("backend == 'native' and machine == 'fan'")
    assert sorted(rows["score"]) == pytest.approx(sorted(scores["score"]))
    run(project, "git", "checkout", "-q", "--", ".")


def test_an_experiment_in_the_workspace_runs_only_its_own_stages(project: Path) -> None:
    """Another width, which one arm has, and a second seed: the arm without it keeps its first seed. Last: it is not undone."""
    done = run(project, "dvc", "exp", "run", "-S", "fph.reduction=8", "-S", "train.seeds=[2024,2025]")
    trained = {"train@logmel_os_scl-2024", "train@logmel_os_scl-2025", "train@spectral_knn-2025"}
    others = {"embed@2024", "embed@2025", "score", "tables", "publish"}
    assert stages_run(done.stdout) == ALWAYS | trained | others
    assert done.stderr.count("spectral_knn: embeddings are up to date") == 1
    unknown = re.findall(r"No file hash info found for '.*/(\w+)/(\d+)'", done.stderr)
    assert {seed for _, seed in unknown} == {"2025"}, "DVC knows all that was there before"
    summary = pd.read_csv(project / "data/tiny/results/project/summary.csv")
    assert (summary["seeds"] == 2).all(), "every table has a standard deviation"
    assert summary.loc[summary["arm"] == "logmel_os_scl", "std"].gt(0).any()
