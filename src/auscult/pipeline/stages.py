"""The stages of the pipeline files as mappings: command, dependencies, parameters and outputs of each.

Code and settings of arms are no dependencies themselves: a stage depends on the small file that says what they mean
(inputs.py), so that a comment or a moved file runs nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from auscult.scoring.made_from import CLIPS
from auscult.settings.params import Arm, Params

Stage = dict[str, Any]
PROFILE = "profiles/${data.profile}.yaml"
DATA = "data/${data.profile}"
FEATURES = f"{DATA}/features"
LABELS = f"{DATA}/manifest/labels.parquet"
MODELS = "models/${data.profile}"


def command(script: str, *arguments: str) -> str:
    return " ".join(["PYTHONPATH=src python", f"stages/{script}.py", *arguments])


def code_of(script: str) -> str:
    """The file that says what a stage's code means."""
    return f"{DATA}/digests/stages/{script}.json"


def inputs_of(arm: str) -> str:
    """The file that says what an arm's weights depend on."""
    return f"{DATA}/digests/arms/{arm}.json"


def report_of(study: str) -> str:
    """The file that says what a study's report holds: as parameters, each of its keys would be a column of `dvc exp show`."""
    return f"{DATA}/digests/studies/{study}.json"


def scores_of(arms: Iterable[Arm], folder: str = "scores") -> list[str]:
    """The folders that the scores of these arms lie in, one per study.

    They change whenever an embedding or a model of the study does (`scoring.table.write_scores`): a stage that depends on
    them depends on those as well. DVC reads all pipeline files several times in a run, and every path costs time.
    """
    return list(dict.fromkeys(f"{DATA}/{folder}/{arm.study or 'project'}" for arm in arms))


def uncached(path: str, persist: bool = False) -> dict[str, Any]:
    """An output that git keeps, or nobody; with `persist` it is there when its stage runs again."""
    return {path: {"cache": False, "persist": True} if persist else {"cache": False}}


# ---------------------------------------------------------------------------------------------------------- the data stages
def data_stages() -> dict[str, Stage]:
    return {
        "digests": {
            "desc": "what arms and stages depend on: settings and the meaning of code; looked at in every run",
            "cmd": command("digests"),
            "always_changed": True,
            "outs": [{f"{DATA}/digests": {"persist": True}}, uncached("checkpoints/found.json", persist=True)],
        },
        "download": {
            "desc": "the profile's recordings, generated, fetched, or used in place",
            "cmd": command("download"),
            "deps": [code_of("download")],
            "params": [
                "data.profile",
                {PROFILE: ["source", "sets", "eval_labels", "machines", "sample_rate", "clip_seconds"]},
            ],
            "outs": [f"{DATA}/raw"],
        },
        "manifest": {
            "desc": "what every file name and header says; labels in a table of their own",
            "cmd": command("manifest"),
            "deps": [code_of("manifest"), f"{DATA}/raw"],
            "params": [
                "data.profile",
                {PROFILE: ["dataset", "grammar", "sets", "eval_labels", "machines", "holdout", "sample_rate"]},
            ],
            "outs": [f"{DATA}/manifest/clips.parquet", LABELS],
        },
        "features": {
            "desc": "one decode to memory-mapped int16, and the log-mel front-ends",
            "cmd": command("features"),
            "deps": [code_of("features"), f"{DATA}/raw", f"{DATA}/manifest/clips.parquet"],
            "params": ["data.profile", "data.input", "features", {PROFILE: ["inputs", "sample_rate", "clip_seconds"]}],
            "outs": [f"{FEATURES}/train", f"{FEATURES}/test"],
        },
    }


# ------------------------------------------------------------------------------------------------------- the stages of arms
def arm_stages(params: Params, study: str = "") -> dict[str, Stage]:
    """Train, embed and score the arms of the project or of a study.

    Arms whose embeddings are clustered for others are embedded before these are trained, in a stage of their own.
    """
    arms = params.own(study)
    sources = {arm.name: params.labels(arm.name) for arm in params.arms.values()}
    sources = {name: labels for name, labels in sources.items() if labels.clustered}
    seen = {labels.embeddings for labels in sources.values()}
    stages: dict[str, Stage] = {}
    trained = [arm.name for arm in arms if arm.weights == arm.name]
    clustered = [name for name in trained if name in sources]
    if plain := [name for name in trained if name not in clustered]:
        stages["train"] = _train_stage(plain)
    if first := [arm for arm in arms if arm.name in seen]:
        stages["embed_first"] = _embed_stage(first)
    if clustered:
        stages["clusters"] = _clusters_stage({name: sources[name].embeddings for name in clustered})
        stages["train_on_clusters"] = _train_stage(clustered, f"{DATA}/clusters/${{item.arm}}/${{item.seed}}.parquet")
    if rest := [arm for arm in arms if arm.name not in seen]:
        stages["embed"] = _embed_stage(rest)
    if arms:
        stages["score"] = _score_stage(arms)
    return stages


def _train_stage(arms: list[str], *further: str) -> Stage:
    return {
        "desc": "the networks of one arm and seed, from training clips alone",
        "matrix": {"arm": arms, "seed": "${train.seeds}"},
        "cmd": command("train", "${item.arm}", "${item.seed}"),
        "deps": [inputs_of("${item.arm}"), f"{FEATURES}/train", *further],
        "outs": [f"{MODELS}/${{item.arm}}/${{item.seed}}"],
    }


def _clusters_stage(sources: dict[str, str]) -> Stage:
    """Classes of clips without attributes for all arms that ask for them; `sources`: arm -> the arm whose embeddings it takes."""
    embedded = [f"{DATA}/embeddings/{name}/${{item.seed}}/train" for name in dict.fromkeys(sources.values())]
    return {
        "desc": "clusters of training clips without attributes, from embeddings of training clips alone",
        "matrix": {"seed": "${train.seeds}"},
        "cmd": command("clusters", "${item.seed}", *sources),
        "deps": [
            code_of("clusters"),
            *map(inputs_of, sources),
            f"{FEATURES}/train",
            *(f"{path}.{kind}" for path in embedded for kind in ("npy", "parquet")),
        ],
        "outs": [f"{DATA}/clusters/{name}/${{item.seed}}.parquet" for name in sources],
    }


def _embed_stage(arms: list[Arm]) -> Stage:
    """Embeddings of all arms in one process, which leaves alone what is up to date: so they outlast a run of the stage.

    An arm that tests another's weights under a condition takes the training clips' embeddings from that one.
    """
    tested = [arm for arm in arms if arm.weights != arm.name]
    names = [arm.name for arm in (*(arm for arm in arms if arm.weights == arm.name), *tested)]
    others = dict.fromkeys(arm.weights for arm in tested if arm.weights not in names)
    return {
        "desc": "embeddings and native scores of every clip",
        "matrix": {"seed": "${train.seeds}"},
        "cmd": command("embed", "${item.seed}", *names),
        "deps": [
            code_of("embed"),
            f"{FEATURES}/train",
            f"{FEATURES}/test",
            *(f"{MODELS}/{name}/${{item.seed}}" for name in dict.fromkeys(arm.weights for arm in arms)),
            *(f"{DATA}/embeddings/{name}/${{item.seed}}" for name in others),
            *(inputs_of(arm.name) for arm in tested),
        ],
        "params": ["embed", "train.device", "train.threads", "train.precision", "train.matmul"],
        "outs": [{f"{DATA}/embeddings/{name}/${{item.seed}}": {"persist": True}} for name in names],
    }


def _score_stage(arms: list[Arm]) -> Stage:
    return {
        "desc": "every back-end's score of every test clip, without its label",
        "cmd": command("score", *{arm.study for arm in arms if arm.study}),
        "deps": [code_of("score"), *(f"{DATA}/embeddings/{arm.name}" for arm in arms)],
        "params": ["data.input", "score", "train.seeds", {PROFILE: ["rules", *CLIPS]}],
        "outs": scores_of(arms),
    }


# --------------------------------------------------------------------------------------------------- the stages of a report
def report_stages(params: Params, study: str) -> dict[str, Stage]:
    """Tables, plots and MLflow of the project's own arms, or of a study."""
    rows = [params.arm(name) for name in params.rows(study)]
    own = params.own(study)
    out = metrics_folder(study)
    here = [] if study else ["arms", "tables"]
    said = [report_of(study)] if study else []
    words = [study] if study else []
    stages: dict[str, Stage] = {
        "tables": {
            "desc": "metrics with intervals, tables and plots; the first stage that sees the labels of test clips",
            "cmd": command("tables", *words),
            "deps": [code_of("tables"), LABELS, *said, *scores_of(rows)],
            "params": ["evaluate", "train.seeds", *here, {PROFILE: ["name", "dataset", "rules"]}],
            "outs": [uncached(out), results_folder(study)],
        }
    }
    if study and params.studies[study].confusion:
        arms = params.studies[study].confusion
        stages["confusion"] = {
            "desc": "which unit's sound passes for which other's; sees which test clips are normal",
            "cmd": command("confusion", study),
            "deps": [code_of("confusion"), LABELS, *said, *(f"{DATA}/embeddings/{name}" for name in arms)],
            "params": ["score", "train.seeds", *here, {PROFILE: ["name"]}],
            "outs": [f"{DATA}/confusion/{study}"],
        }
    if own:
        stages["publish"] = {
            "desc": "one MLflow run per arm; its out is never cached, so it follows every change of the results",
            "cmd": command("publish", *words),
            "deps": [
                code_of("publish"),
                f"{DATA}/manifest/clips.parquet",
                *said,
                results_folder(study),
                *scores_of(own),
            ],
            "params": ["train.seeds", *here],
            "outs": [uncached(f".published/{f'{study}/' if study else ''}${{data.profile}}.json", persist=True)],
        }
    return stages


def metrics_folder(study: str = "") -> str:
    """What git keeps of the results of the project, or of a study."""
    return f"studies/{study}/metrics/${{data.profile}}" if study else "metrics/${data.profile}"


def results_folder(study: str = "") -> str:
    """Everything else of the results, in DVC's cache."""
    return f"{DATA}/results/{study or 'project'}"


# ----------------------------------------------------------------------------------------------------- what runs on demand
def backend_stages(params: Params, study: str = "") -> dict[str, Stage]:
    """Every back-end of the sweep on the arms of the project or of a study, and a table of it."""
    own = params.own(study)
    rows = [params.arm(name) for name in params.rows(study)]
    stages: dict[str, Stage] = {}
    if own:
        stages["sweep" if study else "sweep-project"] = {
            "desc": "scores of cached embeddings under every back-end of the sweep, without labels",
            "cmd": command("sweep", *([study] if study else [])),
            "deps": [code_of("sweep"), *scores_of(own)],
            "params": ["backends", "score", "train.seeds", {PROFILE: ["rules"]}],
            "outs": scores_of(own, "sweep"),
        }
    stages["backends" if study else "backends-project"] = {
        "desc": "arms x back-ends; sees the labels of test clips",
        "cmd": command("backends", study or "project"),
        "deps": [code_of("backends"), LABELS, *scores_of(rows, "sweep")],
        "params": ["backends", "evaluate", "train.seeds", {PROFILE: ["name", "dataset", "rules"]}],
        "outs": [f"{DATA}/backends/{study or 'project'}"],
    }
    return stages


def submission_stage(params: Params) -> Stage:
    """The challenge's result files of the project's arms; not every data set has an evaluation set."""
    arms = [params.arm(name) for name in params.rows()]
    return {
        "desc": "scores and decisions in the challenge's format, from scores and training clips alone",
        "cmd": command("submission", *(arm.name for arm in arms)),
        "deps": [code_of("submission"), f"{DATA}/manifest/clips.parquet", *scores_of(arms)],
        "params": ["submission", "score", "train.seeds", {PROFILE: ["rules"]}],
        "outs": [f"{DATA}/submission"],
    }


def page_stage(params: Params) -> Stage:
    """The page of the project's own arms: it costs a minute, and plain `dvc repro` need not wait for it."""
    rows = [params.arm(name) for name in params.rows()]
    return {
        "desc": "one page of all results that opens without a network; sees the labels of test clips",
        "cmd": command("report"),
        "deps": [
            code_of("report"),
            f"{DATA}/manifest",
            FEATURES,
            results_folder(),
            *scores_of(rows),
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
        "outs": [f"{DATA}/report"],
    }
