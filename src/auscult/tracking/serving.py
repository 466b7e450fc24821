"""An arm as a model of MLflow, which scores recordings: `python -m auscult.tracking.serving ARM ...`, when it is wanted.

Not each time results are published: it copies the weights and the embeddings of the training clips into the store, hundreds of
megabytes for a large encoder. What it computes is what the pipeline does with a test clip: decode, embed, score by the back-end
that the arm is judged by.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types.schema import ColSpec, Schema

from auscult import __version__
from auscult.data.audio import probe
from auscult.data.pack import pack
from auscult.data.store import ClipStore
from auscult.errors import AuscultError, run
from auscult.results.results import headline_backend
from auscult.results.stale import stale_arms
from auscult.scoring import backends
from auscult.scoring.made_from import making
from auscult.scoring.table import bank_rules, knobs, read_embeddings, scored
from auscult.settings.params import Arm
from auscult.settings.profile import Profile
from auscult.settings.project import Project
from auscult.settings.schema import Data, Score
from auscult.settings.section import validated
from auscult.settings.training import Train
from auscult.tracking.publish import publishing, run_of
from auscult.tracking.store import store_uri, without_password
from auscult.training import modelfolder
from auscult.training.device import pick_device, prepare
from auscult.training.embed import embed

NAME = "scorer"
"""Of the model among the files of its run."""
CODE = """\
from mlflow.models import set_model

from auscult.tracking.serving import ArmModel

set_model(ArmModel())
"""
SIGNATURE = ModelSignature(
    Schema([ColSpec("string", "wav"), ColSpec("string", "machine"), ColSpec("string", "unit")]),
    Schema([ColSpec("double", "score")]),
)


class ArmModel(PythonModel):
    """Scores recordings by an arm, first seed. Higher is more anomalous.

    Input: `wav`, a recording's bytes (WAV or FLAC) in base64; `machine` and `unit`, which must be of the training. Output:
    `score`, that of the arm's headline back-end.
    """

    def load_context(self, context: Any) -> None:
        places = context.artifacts
        facts = json.loads(Path(places["facts"]).read_text(encoding="utf-8"))
        self.profile = validated(Profile, facts["profile"], places["facts"])
        self.data, self.score = validated(Data, facts["data"], ""), validated(Score, facts["score"], "")
        self.backend, train = facts["backend"], validated(Train, facts["train"], "")
        self.batch_size, self.precision = facts["batch_size"], train.precision
        self.device = pick_device("auto")
        prepare(self.device, train)
        self.trained = modelfolder.load(Path(places["model"]), str(self.device))
        for network in self.trained.networks.values():
            network.merge()
        self.reference = read_embeddings(Path(places["reference"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Scores [recordings] as a column `score`.

        Raises:
            MlflowException: no recording, one that cannot be read, or one of a machine or unit that was not trained on; the
                server passes it on.
        """
        try:
            return self._scores(model_input)
        except AuscultError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _scores(self, model_input: pd.DataFrame) -> pd.DataFrame:
        rows = model_input.reset_index(drop=True)
        if rows.empty:
            raise AuscultError("no recording was sent", "wav")
        self._refuse_unknown(rows)
        with TemporaryDirectory() as folder:
            clips = self._written(rows, Path(folder))
            packed = Path(folder) / "packed"
            pack(clips, Path(folder), packed, self.profile, self.data, [])
            store = ClipStore(packed, self.device, heard=self.trained.settings.input)
            vectors, meta = embed(self.trained, store, self.batch_size, self.precision)
        if self.backend in meta:
            scores = meta[self.backend].to_numpy(dtype=np.float64)
        else:
            domains = bank_rules(self.score, self.profile.rules.domains)
            settings = knobs(self.backend, self.score, domains, self.reference.rows)
            scores = scored(settings, self.reference.train, self.reference.train_meta, vectors, meta)
        return pd.DataFrame({"score": pd.Series(scores, index=meta["clip_id"]).reindex(rows.index)})

    def _refuse_unknown(self, rows: pd.DataFrame) -> None:
        known = set(zip(self.reference.train_meta["machine"], self.reference.train_meta["unit"], strict=True))
        for pair in zip(rows["machine"], rows["unit"], strict=True):
            if pair not in known:
                units = ", ".join(f"{machine} {unit}" for machine, unit in sorted(known))
                raise AuscultError(
                    f"no training clips of machine `{pair[0]}`, unit `{pair[1]}`", fix=f"use one of: {units}"
                )

    def _written(self, rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
        """The recordings as files below `folder`, and a row of the manifest for each."""
        found = []
        for number, row in enumerate(rows.itertuples(index=False)):
            path = folder / f"{number}.wav"
            try:
                path.write_bytes(base64.b64decode(str(row.wav), validate=True))
            except ValueError:  # not its alphabet, not its length, or not ASCII
                raise AuscultError(
                    f"recording {number} is not base64", "wav", "encode the bytes of a WAV file"
                ) from None
            found.append({"clip_id": number, "machine": row.machine, "unit": row.unit, "path": path.name})
            found[-1]["seconds"] = probe(path).seconds
        return pd.DataFrame(found).assign(set="dev", domain="unknown", attributes="")


def log_model(project: Project, name: str) -> str:
    """Put the model of an arm beside its published run. Returns its address, `runs:/<run>/scorer`.

    Raises:
        AuscultError: the arm has no scores, its scores are of other settings or hang on the other test clips, or it was not
            published.
    """
    from mlflow.tracking import MlflowClient

    arm = project.params.arm(name)
    if not project.scores_of(name).is_file():
        raise AuscultError(f"`{name}` has no scores yet", str(project.scores_of(name)), f"run: {making(arm.study)}")
    if arm.condition is not None or project.profile.arrays:
        raise AuscultError(
            f"`{name}` scores no recordings as they are", fix="name an arm that hears audio, under no condition"
        )
    if stale := stale_arms(project, [name]):
        raise AuscultError(f"the scores of `{name}` are not of the settings in use", fix=" ".join(stale))
    uri = store_uri()
    client = MlflowClient(uri)
    published = run_of(client, project, arm)
    if published is None:
        raise AuscultError(f"`{name}` has no run in {without_password(uri)}", fix=f"run: {publishing(arm.study)}")
    with TemporaryDirectory() as folder:
        save(project, arm, Path(folder) / NAME)
        client.log_artifacts(published, str(Path(folder) / NAME), NAME)
    return f"runs:/{published}/{NAME}"


def save(project: Project, arm: Arm, out: Path) -> None:
    """Write the model of an arm into the folder `out`, as MLflow keeps models.

    Raises:
        AuscultError: the back-end that the arm is judged by scores a clip by the other test clips, and a request has others.
    """
    seed = project.seeds[0]
    table = pd.read_parquet(project.scores_of(arm.name))
    backend = headline_backend(table.assign(arm=arm.name), arm.name)
    if backend in backends() and backends()[backend].transductive:
        what = f"`{backend}`, by which `{arm.name}` is judged, scores a clip by the other test clips"
        raise AuscultError(what, "score.backends", "name another back-end first, and run: dvc repro")
    facts = {
        **{name: project.section(name).model_dump(mode="json") for name in ("data", "score", "train")},
        "profile": project.profile.model_dump(mode="json"),
        "backend": backend,
        "batch_size": project.section("embed").batch_size,
    }
    with TemporaryDirectory() as work:
        reference = Path(work) / "reference"
        reference.mkdir()
        for file in ("train.npy", "train.parquet", "network.json"):
            shutil.copyfile(project.paths.embeddings(arm.name, seed) / file, reference / file)
        np.save(reference / "test.npy", np.load(reference / "train.npy")[:0])  # no test clip leaves the project
        pd.read_parquet(reference / "train.parquet").iloc[:0].to_parquet(reference / "test.parquet")
        (Path(work) / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        code = Path(work) / "scorer.py"  # nothing is pickled: the model is this line and auscult itself
        code.write_text(CODE, encoding="utf-8")
        places = {
            "model": project.paths.model(arm.weights, seed),
            "reference": reference,
            "facts": Path(work) / "facts.json",
        }
        save_model(
            path=str(out), python_model=str(code), artifacts={name: str(path) for name, path in places.items()},
            signature=SIGNATURE, input_example=_example(project, arm), pip_requirements=[f"auscult=={__version__}", "mlflow"],
            metadata={"arm": arm.name, "profile": project.profile.name},
        )  # fmt: skip


def _example(project: Project, arm: Arm) -> pd.DataFrame:
    """A request: noise, called a clip of the first unit; recordings belong to their licence."""
    rate, seconds = project.profile.sample_rate, project.profile.clip_seconds
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(rate * seconds))
    file = io.BytesIO()
    soundfile.write(file, noise.clip(-1, 1), rate, format="WAV", subtype="PCM_16")
    meta = pd.read_parquet(project.paths.embeddings(arm.name, project.seeds[0]) / "train.parquet")
    wav = base64.b64encode(file.getvalue()).decode()
    return pd.DataFrame([{"wav": wav, "machine": meta["machine"].iloc[0], "unit": meta["unit"].iloc[0]}])


def main() -> None:
    project = Project.open()
    for name in sys.argv[1:] or project.params.rows():
        address = log_model(project, name)
        store = without_password(store_uri())
        print(
            f"{name}: MLFLOW_TRACKING_URI={store} mlflow models serve -m {address} --env-manager local --host 127.0.0.1"
        )


if __name__ == "__main__":
    run(main)
