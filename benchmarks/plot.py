"""The picture of metrics/benchmarks.csv: ratios, phases of an epoch, methods, growth, and memory, one panel each.

PYTHONPATH=src python benchmarks/plot.py [TABLE] [PNG]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from record import TABLE

PHASES = ["gather", "log-mel", "forward", "backward", "update", "average", "validation", "rest"]
COLOURS = dict(zip(PHASES, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
COMPARED = ["epoch vs authors", "train_step", "loading", "gather", "pack"]


def short(text: str, most: int = 84) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def bars(axes: Axes, names: list[str], values: list[float], label: str, log: bool = False) -> None:
    """Horizontal bars with their numbers, the first on top."""
    if not values:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    axes.barh(range(len(values)), values, color="tab:blue", height=0.7)
    axes.set_yticks(range(len(values)), [short(name) for name in names], fontsize=7)
    axes.invert_yaxis()
    for at, value in enumerate(values):
        axes.annotate(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", (value, at), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=7)  # fmt: skip
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(label)
    low, high = axes.get_xlim()
    axes.set_xlim(min(values) / 2 if log else low, high * 3 if log else high * 1.15)
    axes.spines[["top", "right"]].set_visible(False)


def ratios(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].isin(COMPARED) & (table["ratio"] > 0) & ~table["unit"].str.contains("processor")]
    rows = rows.sort_values("benchmark", key=lambda names: names.map(COMPARED.index), kind="stable")
    names = [f"{row.benchmark}: {row.variant}" for row in rows.itertuples()]
    bars(axes, names, list(rows["ratio"]), "times faster than the other side, measured in turns", log=True)
    if names:
        axes.axvline(1, color="0.4", lw=1)
    axes.set_title("Beside other code")


def phases(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].eq("epoch") & table["variant"].str.contains(": ") & (table["ratio"] > 0)]
    rows = rows[rows["variant"].str.rsplit(": ", n=1).str[1].isin(PHASES)]
    arms = list(dict.fromkeys(rows["variant"].str.rsplit(": ", n=1).str[0]))
    for at, arm in enumerate(arms):
        left = 0.0
        for phase in PHASES:
            share = rows.loc[rows["variant"] == f"{arm}: {phase}", "ratio"]
            width = 100 * float(share.iloc[0]) if len(share) else 0.0
            axes.barh(at, width, left=left, color=COLOURS[phase], label=phase if at == 0 else None, height=0.6)
            if width > 7:
                axes.text(left + width / 2, at, f"{width:.0f}", ha="center", va="center", color="white", fontsize=8)
            left += width
    axes.set_yticks(range(len(arms)), [short(arm) for arm in arms], fontsize=7)
    axes.set_xlabel("share of an epoch (%)")
    axes.set_title("Phases of an epoch")
    if arms:
        handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[phase]) for phase in PHASES]
        axes.legend(
            handles, PHASES, fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False
        )
    axes.spines[["top", "right"]].set_visible(False)


def methods(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["benchmark"].eq("method: train")].sort_values("value")
    bars(axes, list(rows["variant"]), list(rows["value"]), "ms per 10 s clip and epoch", log=True)
    axes.set_title("Training, by method")


def growth(axes: Axes, table: pd.DataFrame, axis: str) -> None:
    rows = table[table["benchmark"].eq(f"growth with {axis}")]
    powers = rows[rows["unit"] == "exponent of time"].set_index("variant")["value"]
    timed = rows[rows["unit"] == "s"]
    pattern = r"^(.*), (\d+) clips of ([\d.]+) s$"
    parts = timed["variant"].str.extract(pattern)
    for name, power in powers.items():
        mine = parts[0] == name
        x = parts.loc[mine, 1 if axis == "clips" else 2].astype(float)
        curve = pd.Series(timed.loc[mine, "value"].to_numpy(), index=x.to_numpy()).sort_index()
        axes.loglog(curve.index, curve.to_numpy(), "o-", ms=4, label=f"{name} (exponent {power:.2f})")
    axes.set_xlabel("clips of 0.5 s" if axis == "clips" else "length of clips (s)")
    axes.set_ylabel("s")
    axes.set_title(f"Growth with {axis if axis == 'clips' else 'the length of clips'}")
    if len(powers):
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def memory(axes: Axes, table: pd.DataFrame) -> None:
    rows = table[table["unit"].eq("MiB at most") & ~table["benchmark"].eq("memory")].sort_values("value")
    bars(axes, [f"{row.benchmark.removesuffix(': memory')}: {row.variant}" for row in rows.itertuples()],
         list(rows["value"]), "peak of memory of the process (MiB)")  # fmt: skip
    axes.set_title("Memory")


def plot(table: Path, out: Path) -> None:
    """Draw the rows of `table` into `out`; panels without rows say so."""
    frame = pd.read_csv(table)
    frame["ratio"] = pd.to_numeric(frame["ratio"], errors="coerce")
    frame["value"] = pd.to_numeric(frame["value"], errors="coerce")
    with plt.rc_context({"font.size": 8, "axes.titlesize": 10}):
        figure, places = plt.subplots(3, 2, figsize=(17, 18), layout="constrained")
        ratios(places[0, 0], frame)
        phases(places[0, 1], frame)
        methods(places[1, 0], frame)
        memory(places[1, 1], frame)
        growth(places[2, 0], frame, "clips")
        growth(places[2, 1], frame, "length")
        known = frame[frame["machine"].notna()]
        if len(known):
            figure.suptitle(
                "; ".join(dict.fromkeys(known["machine"] + ", " + known["versions"])), fontsize=8, color="0.3"
            )
        figure.savefig(out, dpi=80)
        plt.close(figure)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    source = given[0] if given else TABLE
    plot(source, given[1] if len(given) > 1 else source.with_suffix(".png"))
