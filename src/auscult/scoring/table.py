"""The score table of an arm: every test clip under every back-end. Labels are not an input."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auscult.errors import AuscultError
from auscult.evaluation.metrics import Floats
from auscult.files import atomic_folder
from auscult.scoring import backends
from auscult.scoring.banks import BackendSettings
from auscult.settings.schema import Score

COLUMNS = ["clip_id", "set", "machine", "unit", "domain", "backend", "score"]


@dataclass(frozen=True)
class Embedded:
    """Embeddings of an arm with one seed. Labels are not in it.

    Attributes:
        train, test: float32 [clips, D].
        train_meta, test_meta: clip_id, set, machine, unit, domain of each row, and the method's native scores.
        rows: frequency rows that an embedding is made of, D = rows * D'; 1 where the arm keeps none apart.
    """

    train: np.ndarray
    train_meta: pd.DataFrame
    test: np.ndarray
    test_meta: pd.DataFrame
    rows: int = 1

    @property
    def native(self) -> dict[str, np.ndarray]:
        """Its native scores of the test clips: `native`, `native_<name>`."""
        names = [name for name in self.test_meta.columns if name.split("_")[0] == "native"]
        return {name: self.test_meta[name].to_numpy() for name in names}


def read_embeddings(folder: Path) -> Embedded:
    """What the stage `embed` left in `folder`."""
    train, test = np.load(folder / "train.npy"), np.load(folder / "test.npy")
    train_meta, test_meta = (pd.read_parquet(folder / f"{partition}.parquet") for partition in ("train", "test"))
    return Embedded(train, train_meta, test, test_meta, int(_network(folder).get("rows", 1)))


def bank_rules(score: Score, domains: bool) -> bool:
    """Whether each domain has a bank of its own: as `score` says, or else the profile's rules (`domains`)."""
    return domains if score.domain_banks is None else score.domain_banks


def knobs(kind: str, score: Score, domains: bool, rows: int = 1) -> BackendSettings:
    """Settings of a back-end as the section `score` has them, for an arm's `rows`, all other knobs at their defaults."""
    model = backends()[kind].settings
    values: dict[str, Any] = {"k": score.k} if "k" in model.model_fields else {}
    return model(kind=kind, **values).filled(score.scope, bank_rules(score, domains), rows)


def scored(
    settings: BackendSettings, train: np.ndarray, train_meta: pd.DataFrame, test: np.ndarray, test_meta: pd.DataFrame
) -> Floats:
    """Scores [test clips] by a back-end that is fitted to the training clips, see `banks.Backend`.

    >>> from auscult.scoring.knn import KnnSettings
    >>> meta = pd.DataFrame({"machine": ["fan"] * 2, "unit": ["00"] * 2, "domain": ["source"] * 2})
    >>> train, test = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 2.0]])
    >>> scored(KnnSettings(kind="knn_euclidean"), train, meta, test, meta).tolist()
    [1.0, 2.0]
    """
    backend = backends()[settings.kind]
    return backend.score(backend.fit(train, train_meta, settings), test, test_meta)


def score_table(embeddings: Path, score: Score, domains: bool) -> pd.DataFrame:
    """Score the embeddings in a folder with each of `score.backends`; long form, columns `COLUMNS`.

    `native` stands for the scores that the method itself gives: one back-end for each (`native`, `native_<name>`), none if it
    has none. A method without `native` is judged by its nearest neighbours, at the distance that it says: they come first, for
    the first back-end of an arm is its headline. A folder without clips (no network could be trained) gives a table without rows.

    Args:
        domains: whether the profile's rules know domains.

    Raises:
        AuscultError: unknown back-end, nothing to score with, or a score that is not finite.
    """
    unknown = [name for name in score.backends if name not in ("native", *backends())]
    if unknown:
        fix = f"use: native, {', '.join(backends())}"
        raise AuscultError(f"unknown back-end `{unknown[0]}`", "score.backends", fix)
    of = read_embeddings(embeddings)
    scores: dict[str, np.ndarray] = {}
    for name in score.backends:
        if name == "native":
            scores |= of.native
        else:
            scores[name] = scored(knobs(name, score, domains, of.rows), of.train, of.train_meta, of.test, of.test_meta)
    if not scores:
        raise AuscultError("no back-end is left to score this arm", "score.backends", "add knn_cosine")
    if "native" not in scores:
        lead = f"knn_{own_distance(embeddings)}"
        scores = dict(sorted(scores.items(), key=lambda item: (item[0] != lead, item[0].startswith("native_"))))
    return long_form(of, scores, embeddings)[COLUMNS]


def own_distance(embeddings: Path) -> str:
    """By which distance the method's neighbours are found: "cosine", unless `network.json` in the folder says another."""
    return str(_network(embeddings).get("distance", "cosine"))


def _network(embeddings: Path) -> dict[str, Any]:
    """What the stage `embed` says of the network; of embeddings from elsewhere nothing."""
    facts = embeddings / "network.json"
    found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    return found


def long_form(of: Embedded, scores: dict[str, np.ndarray], embeddings: Path) -> pd.DataFrame:
    """One row per test clip and back-end.

    Raises:
        AuscultError: a score that is not finite.
    """
    for name, values in scores.items():
        if not np.isfinite(values).all():
            what = f"back-end `{name}` gives scores that are not finite"
            raise AuscultError(what, str(embeddings), "train the arm again")
    clips = of.test_meta.drop(columns=list(of.native))
    return pd.concat([clips.assign(backend=name, score=values) for name, values in scores.items()], ignore_index=True)


def write_scores(
    out: Path,
    arms: Mapping[str, Mapping[int, Path]],
    scores: Callable[[Path], pd.DataFrame],
    settings: Mapping[str, Any],
    also: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write `<arm>.parquet` of all seeds into the folder `out`, and `made_from.json`.

    That file has the settings, and the digest of what each embedding was made from, every byte of its model among it: the folder
    changes whenever an embedding or a model does, so a stage that depends on the scores depends on those as well.

    Args:
        arms: arm -> training seed -> folder of its embeddings.
        scores: such a folder -> its table.
        settings: of `made_from.scores_settings`.
        also: writes more into the folder, beside the tables.
    """
    made_from: dict[str, dict[str, str]] = {}
    with atomic_folder(out) as part:
        for arm, folders in arms.items():
            tables = [scores(folder).assign(seed=seed) for seed, folder in folders.items()]
            pd.concat(tables, ignore_index=True).to_parquet(part / f"{arm}.parquet", index=False)
            made_from[arm] = {str(seed): (at / "made_from.txt").read_text().strip() for seed, at in folders.items()}
        record = {"settings": settings, "arms": made_from}
        (part / "made_from.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        also(part)
