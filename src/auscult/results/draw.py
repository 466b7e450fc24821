"""Figures on demand, of chosen arms and back-ends, from what is cached: as PDF, SVG or PNG, whichever the name says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from auscult.errors import AuscultError
from auscult.evaluation.evaluate import machine_order
from auscult.results.arms import arm_files, history
from auscult.results.backends import plot_heatmap
from auscult.results.curves import curve_points, labelled, roc_points
from auscult.results.figures import FORMATS, add_legend, look, panels, plot_summary, say
from auscult.results.names import backend_name
from auscult.results.stale import stale_arms, stale_backends, stale_results
from auscult.results.sweep import plot_sweep
from auscult.scoring.made_from import making, settings_of_arms, stale_model
from auscult.settings.project import Project
from auscult.settings.section import near


@dataclass(frozen=True)
class Wanted:
    """What is drawn.

    Attributes:
        study: whose tables; "" = the project's.
        arms, backends: in this order; none = those of the tables, and all that these have numbers by.
        metric, machine, which: the number ("" = AUC, or what the study swept), the machine type or average, the set.
    """

    study: str = ""
    arms: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    metric: str = ""
    machine: str = "mean"
    which: str = "dev"


def draw(project: Project, name: str, paths: Sequence[Path], wanted: Wanted) -> None:
    """Write a figure of `FIGURES` to each of `paths`.

    Raises:
        AuscultError: an unknown figure, format, study, arm, back-end, metric or machine type; a choice that the figure does not
            have; nothing to draw; numbers of other settings than those in use.
    """
    if name not in FIGURES:
        raise AuscultError(f"there is no figure `{name}`{near(name, list(FIGURES))}", fix=f"use: {', '.join(FIGURES)}")
    for choice in NO_CHOICE.get(name, ()):
        if getattr(wanted, choice) != getattr(Wanted(), choice):
            option = "--set" if choice == "which" else f"--{choice}"
            raise AuscultError(f"the figure `{name}` has no choice of this kind", option, "leave it out")
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise AuscultError("no format of a figure", str(path), f"end its name with {', '.join(FORMATS)}")
    params = project.params
    if wanted.study and wanted.study not in params.studies:
        raise AuscultError(f"there is no study `{wanted.study}`{near(wanted.study, list(params.studies))}", "--study")
    for arm in wanted.arms:
        params.arm(arm)
    figure = FIGURES[name](project, wanted)
    for path in paths:
        figure(path)


def _summary(project: Project, wanted: Wanted) -> pd.DataFrame:
    """Every number of a report. Where a back-end is asked for that its tables do not have: with those of the sweep."""
    found = _read(project.paths.results(wanted.study) / "summary.csv", making(wanted.study))
    _refuse(stale_results(project, wanted.study) + stale_arms(project, _rows(project, wanted)))
    lacking = [name for name in wanted.backends if name not in set(found["backend"])]
    if lacking:
        sweep = _sweep(project, wanted, lacking)
        found = pd.concat([found, sweep[sweep["backend"].isin(lacking)]], ignore_index=True)
    for column, asked in (("metric", wanted.metric), ("machine", wanted.machine)):
        there = list(dict.fromkeys(found[column]))
        if there and asked not in ("", *there):
            raise AuscultError(
                f"there are no numbers of `{asked}`{near(asked, there)}", f"--{column}", f"use: {', '.join(there)}"
            )
    if wanted.arms:
        strange = [arm for arm in wanted.arms if arm not in set(found["arm"])]
        if strange:
            raise AuscultError(f"these tables have no numbers of `{strange[0]}`", fix="--study names those of a study")
    return found


def _asked_for(wanted: Wanted) -> str:
    """What to do about a back-end that nothing was scored by."""
    make = f"`{making(wanted.study)}` or `{making(wanted.study, backends=True)}`"
    return f"name it in `score.backends` or below `backends.sweep` of params.yaml; then run {make}"


def _sweep(project: Project, wanted: Wanted, backends: Sequence[str], file: str = "summary.csv") -> pd.DataFrame:
    """Numbers by every back-end of the sweep, which must have `backends`."""
    report = wanted.study or "project"
    path = project.paths.backends(report) / file
    fix = _asked_for(wanted)
    if not path.is_file() and backends:
        raise AuscultError(f"no numbers by the back-end `{backends[0]}`", str(path), fix)
    table = _read(path, making(wanted.study, backends=True))
    for name in backends:
        if name not in set(table["backend"]):
            there = list(dict.fromkeys(table["backend"]))
            raise AuscultError(f"no numbers by the back-end `{name}`{near(name, there)}", str(path), fix)
    _refuse(stale_backends(project, report) + stale_arms(project, _rows(project, wanted), sweep=True))
    return table


def _read(path: Path, make: str) -> pd.DataFrame:
    if not path.is_file():
        raise AuscultError("there are no numbers to draw", str(path), f"run: {make}")
    return pd.read_csv(path, dtype={"machine": str})


def _refuse(stale: Sequence[str]) -> None:
    """A picture has no room for a warning."""
    if stale:
        raise AuscultError("these numbers are not of the settings in use, and are not drawn", fix=" ".join(stale))


def _rows(project: Project, wanted: Wanted) -> list[str]:
    return list(wanted.arms) or project.params.rows(wanted.study)


# ------------------------------------------------------------------------------------------------------------- the figures
def _auc(project: Project, wanted: Wanted) -> Callable[[Path], None]:
    summary, rows = _summary(project, wanted), _rows(project, wanted)
    how = {"metric": wanted.metric or "auc", "set_name": wanted.which, "machine": wanted.machine}
    return lambda path: plot_summary(summary, path, arms=rows, backends=wanted.backends, **how)


def _parameter(project: Project, wanted: Wanted) -> Callable[[Path], None]:
    sweep = project.params.studies[wanted.study].sweep if wanted.study else None
    if sweep is None:
        have = [name for name, study in project.params.studies.items() if study.sweep is not None]
        raise AuscultError("there is no parameter that was swept", "--study", f"use one of: {', '.join(have)}")
    if len(wanted.backends) > 1:
        raise AuscultError("the figure `parameter` shows one back-end", "--backends", f"name one: {wanted.backends[0]}")
    sweep = sweep.model_copy(update={"metric": wanted.metric or sweep.metric})
    summary, backend = _summary(project, wanted), (wanted.backends or ("native",))[0]
    how = {"backend": backend, "set_name": wanted.which, "machine": wanted.machine}
    return lambda path: plot_sweep(summary, path, sweep, **how)


def _heat(project: Project, wanted: Wanted) -> Callable[[Path], None]:
    table = _sweep(project, wanted, wanted.backends, "table.csv")
    backends = list(wanted.backends) or list(dict.fromkeys(table["backend"]))
    return lambda path: plot_heatmap(table, path, _rows(project, wanted), backends, {})


def _roc(project: Project, wanted: Wanted) -> Callable[[Path], None]:
    rows = _rows(project, wanted)
    _refuse(stale_arms(project, rows))
    scores = _scores(project, rows, sweep=False)
    lacking = [name for name in wanted.backends if name not in set(scores["backend"])]
    if lacking:
        _refuse(stale_arms(project, rows, sweep=True))
        scores = pd.concat([scores, _scores(project, rows, sweep=True).query("backend in @lacking")])
        if strange := [name for name in lacking if name not in set(scores["backend"])]:
            raise AuscultError(f"no scores by the back-end `{strange[0]}`", fix=_asked_for(wanted))
    table = labelled(scores, pd.read_parquet(project.paths.labels))
    points = [roc_points(table, name, wanted.which) for name in wanted.backends or ("native",)]
    together = pd.concat(points).drop_duplicates(["arm", "backend", "machine", "fpr", "tpr"])
    return lambda path: plot_roc(together, path)


def _scores(project: Project, rows: Sequence[str], sweep: bool) -> pd.DataFrame:
    columns = ["clip_id", "set", "machine", "unit", "domain", "backend", "score", "seed"]
    found = [pd.DataFrame(columns=[*columns, "arm"])]
    for arm in rows:
        folder = (project.sweep if sweep else project.scores)(project.params.arm(arm).study)
        if (path := folder / f"{arm}.parquet").is_file():
            found.append(pd.read_parquet(path, columns=columns).assign(arm=arm))
    return pd.concat([frame for frame in found if len(frame)] or found, ignore_index=True)


def _training(project: Project, wanted: Wanted) -> Callable[[Path], None]:
    files = arm_files(project, _rows(project, wanted))
    # Of the models, for there may be no scores yet.
    settings = settings_of_arms(project)
    _refuse([f"`{arm}`: {text}" for arm in files for text in stale_model(project, arm, settings)])
    points = curve_points({arm: history(one) for arm, one in files.items()})
    return lambda path: plot_training(points, path)


FIGURES: Mapping[str, Callable[[Project, Wanted], Callable[[Path], None]]] = {
    "auc": _auc,
    "backends": _heat,
    "parameter": _parameter,
    "roc": _roc,
    "training": _training,
}

NO_CHOICE: Mapping[str, tuple[str, ...]] = {
    "backends": ("metric", "machine", "which"),
    "parameter": ("arms",),
    "roc": ("metric", "machine"),
    "training": ("backends", "metric", "machine", "which"),
}
"""What a figure shows as it is: asked for, it would be drawn otherwise than it was asked for."""


def plot_roc(points: pd.DataFrame, path: Path) -> None:
    """A panel per machine type, a line per arm and back-end.

    Args:
        points: of `roc_points`.
    """
    machines = sorted(points["machine"].unique(), key=machine_order)
    names = list(dict.fromkeys(zip(points["arm"], points["backend"], strict=True)))
    legend = [f"{arm}, {backend_name(backend)}" for arm, backend in names]
    with panels(len(machines), path, legend=legend) as (figure, axes):
        if not machines:
            say(axes[0], "no labelled clips of both classes")
            return
        lines: dict[str, Any] = {}
        for axis, machine in zip(axes, machines, strict=True):
            axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
            for index, (key, name) in enumerate(zip(names, legend, strict=True)):
                of = points[(points["machine"] == machine) & (points["arm"] == key[0]) & (points["backend"] == key[1])]
                style = {**look(index), "marker": "", "linewidth": 1.4}
                (lines[name],) = axis.step(of["fpr"], of["tpr"], where="post", **style)
            axis.set_title(machine)
            axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="false positive rate", ylabel="true positive rate")
        add_legend(figure, lines)


def plot_training(points: pd.DataFrame, path: Path) -> None:
    """A panel per arm: training and validation loss per epoch.

    Args:
        points: of `curve_points`.
    """
    losses = {"train_loss": "training loss", "valid_loss": "validation loss"}
    points = points[points["curve"].isin(list(losses))]
    arms = list(dict.fromkeys(points["arm"]))
    with panels(len(arms), path, legend=list(losses.values())) as (figure, axes):
        if not arms:
            say(axes[0], "none of these arms was trained by gradient, or its history is not here")
            return
        lines: dict[str, Any] = {}
        for axis, arm in zip(axes, arms, strict=True):
            for index, (curve, name) in enumerate(losses.items()):
                of = points[(points["arm"] == arm) & (points["curve"] == curve)].sort_values("epoch")
                (lines[name],) = axis.plot(
                    of["epoch"], of["value"], **{**look(index), "markersize": 3, "linewidth": 1.4}
                )
            axis.set_title(arm)
            axis.set(xlabel="epoch")
        add_legend(figure, lines)
