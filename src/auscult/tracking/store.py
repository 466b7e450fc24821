"""MLflow's store as the runs of arms and studies need it: where it is, its experiment, and runs found again by a key.

It is the checkout's own `mlflow.db`, also for experiments that DVC runs in a temporary copy, or the one that the environment
names.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from auscult.settings.paths import project_root
from auscult.tracking.values import param_text


def store_uri() -> str:
    """Where runs are: the checkout's own store, or the one that the environment names."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root().resolve() / 'mlflow.db'}"


def without_password(text: str) -> str:
    """Text without what stands before the @ of an address.

    >>> without_password("not at http://me:secret@host:5000")
    'not at http://host:5000'
    """
    return re.sub(r"//[^/@\s]*@", "//", text)


def experiment_of(client: Any, name: str, store: Path) -> str:
    """The experiment of this name, made when absent. Of the project's own store only one whose files lie in this project.

    The place of its files is fixed when an experiment is made. Where the project was moved or copied since, its runs stay as
    they are under another name, and a new experiment takes their place: nothing is written where the project was before.
    """
    kind = {"mlflow.experimentKind": "custom_model_development"}  # or the pages are those for language models
    found = client.get_experiment_by_name(name)
    if client.tracking_uri.startswith("http"):
        return str(found.experiment_id if found else client.create_experiment(name, tags=kind))
    # An explicit place: the default is relative to whatever folder the process happens to run in.
    place = (store / "mlartifacts" / name).as_uri()
    if found and found.artifact_location != place and not os.environ.get("MLFLOW_TRACKING_URI"):
        old = f"{name}, files in {found.artifact_location.removeprefix('file://')}"
        client.rename_experiment(found.experiment_id, old)
        print(
            f"the project was moved or copied: its runs so far are the experiment `{old}`; publishing anew",
            file=sys.stderr,
        )
        here = [one for one in client.search_experiments() if one.artifact_location == place]
        found = here[0] if here else None
        if found:  # it was here before
            client.rename_experiment(found.experiment_id, name)
    return str(found.experiment_id if found else client.create_experiment(name, artifact_location=place, tags=kind))


def found_run(client: Any, experiment: str, key: str) -> Any:
    quote = '"' if "'" in key else "'"
    found = client.search_runs([experiment], f"tags.`auscult.key` = {quote}{key}{quote}", max_results=1)
    return found[0] if found else None


def run_with(client: Any, experiment: str, key: str) -> Any:
    return found_run(client, experiment, key) or client.create_run(experiment, tags={"auscult.key": key})


def has_curves(client: Any, run_id: str, curves: list[Any]) -> bool:
    """Whether the last point that would be written is there."""
    return not curves or any(p.step == curves[-1].step for p in client.get_metric_history(run_id, curves[-1].key))


def log(
    client: Any,
    run_id: str,
    metrics: Sequence[Any] = (),
    params: Mapping[str, Any] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
) -> None:
    from mlflow.entities import Param, RunTag

    for start in range(0, len(metrics), 1000):  # the store takes a thousand at a time
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    entries = [Param(name, param_text(value)) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[start : start + 100])
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
