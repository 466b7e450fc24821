"""What is not served, and requests that hold no recording; tests/pipeline compares the scores of those that do."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

pytest.importorskip("mlflow")
from mlflow.exceptions import MlflowException

from auscult.errors import AuscultError
from auscult.settings.params import load_profile
from auscult.settings.project import Project
from auscult.settings.schema import Data
from auscult.tracking.serving import ArmModel, save
from support.projects import make_project


@pytest.fixture(scope="module")
def model() -> ArmModel:
    """A model that knows one unit, and would fail if it went on to its network."""
    made = ArmModel()
    made.reference = SimpleNamespace(train_meta=pd.DataFrame({"machine": ["fan"], "unit": ["00"]}))  # type: ignore[assignment]
    made.profile, made.data = load_profile("synthetic"), Data(profile="synthetic")
    return made


@pytest.mark.parametrize(
    ("wav", "machine", "words"),
    [
        ("bm8gc291bmQ", "fan", "recording 0 is not base64"),
        ("Ä" * 4, "fan", "recording 0 is not base64"),
        (base64.b64encode(b"no sound").decode(), "fan", "not a readable recording"),
        ("", "fan", "empty file"),
        ("UklGRg==", "../../fan", "no training clips of machine `../../fan`, unit `00`"),
    ],
)
def test_what_is_no_recording_of_the_training_is_refused(model: ArmModel, wav: str, machine: str, words: str) -> None:
    with pytest.raises(MlflowException, match=words):
        model.predict(None, pd.DataFrame({"wav": [wav], "machine": [machine], "unit": ["00"]}))


def test_a_request_of_nothing_is_refused(model: ArmModel) -> None:
    with pytest.raises(MlflowException, match="no recording was sent"):
        model.predict(None, pd.DataFrame(columns=["wav", "machine", "unit"]))


def test_scores_that_hang_on_other_test_clips_are_not_served(tmp_path: Path) -> None:
    project = Project.open(make_project(tmp_path / "project"))
    project.scores_of("ae").parent.mkdir(parents=True)
    pd.DataFrame({"backend": ["knn_cosine_transductive", "knn_cosine"]}).to_parquet(project.scores_of("ae"))
    with pytest.raises(AuscultError, match="by the other test clips"):
        save(project, project.params.arm("ae"), tmp_path / "model")
