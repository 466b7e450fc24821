"""The page of `auscult fit --html`: what was learnt from, what was left out, and which recordings are worth listening to."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from auscult.detector.fit import Fitted
from auscult.detector.folder import Bundle
from auscult.detector.normals import Normals
from auscult.detector.page.charts import distribution, scale
from auscult.detector.page.parts import about, in_words, number, place, write_page
from auscult.detector.page.sounds import alone
from auscult.detector.places import require_page
from auscult.detector.thresholds import needed
from auscult.detector.words import counted

SHOWN = 6
"""Recordings least like the others."""
RATES = (0.1, 0.05, 0.02, 0.01, 0.005)


@dataclass(frozen=True)
class Odd:
    """The window of a recording that is least like the others: `start` in seconds, `window` float32 [window]."""

    name: str
    start: float
    score: float
    window: np.ndarray


class FitPage:
    """Listens while a bundle is fitted, and writes the page afterwards.

    Raises:
        AuscultError: the page cannot be written there.
    """

    def __init__(self, out: Path) -> None:
        require_page(out)
        self.out = out
        self.odd: list[Odd] = []

    def listen(self, normals: Normals, fitted: Fitted) -> None:
        """Keep what the bundle will not hold: the sound of the recordings that are least like the others."""
        table = normals.windows.table.assign(score=fitted.normal)
        worst = table.loc[table.groupby("name")["score"].idxmax()].sort_values("score", ascending=False, kind="stable")
        self.odd = [
            Odd(
                str(row["name"]), float(row["number"]) * normals.samples / normals.sample_rate, float(row["score"]),
                normals.windows.audio[window].astype(np.float32) * np.float32(1 / 32768),
            )
            for window, row in zip(worst.index.tolist(), worst.to_dict("records")[:SHOWN], strict=False)
        ]  # fmt: skip

    def write(self, bundle: Bundle) -> Path:
        """Write the page of the bundle that came of it.

        Raises:
            DiskFull: there is no room.
        """
        facts = bundle.facts["training"]
        at = scale(bundle.threshold, bundle.normal, [])
        unused = facts["seconds"] - facts["windows"] * facts["window_seconds"]
        return write_page(
            self.out, "fit.html.j2", bundle=about(bundle), units=facts["units"], notes=facts["notes"],
            left_out=_left_out(facts), unused=f"{unused:.0f} s" if unused > 0.05 * facts["seconds"] else "",
            spread=distribution(at, [], f"How often normal sound has which score; {in_words(at)}"),
            needed=smaller_rates(bundle.rule.rate, facts["recordings"]), number=number,
            odd=[_shown(bundle, one) for one in self.odd],
        )  # fmt: skip


def smaller_rates(rate: float, recordings: int) -> list[tuple[str, str, str]]:
    """For the rate in force and smaller ones: the rate, false alarms a day at a recording an hour, and recordings missing."""
    found = []
    for each in [rate, *(smaller for smaller in RATES if smaller < rate)]:
        count = needed(each)
        missing = counted(count - recordings, "more recording") if count > recordings else "enough"
        found.append((f"{100 * each:.3g} %", f"{24 * each:.3g}", f"{count:,}: {missing}"))
    return found


def _left_out(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Recording -> why it was not learnt from."""
    copies = [(name, f"holds the same sound as {other}") for name, other in facts["same_sound"].items()]
    return [*facts["left_out"].items(), *copies]


def _shown(bundle: Bundle, one: Odd) -> dict[str, str]:
    end = one.start + len(one.window) / bundle.sample_rate
    side = "above the threshold" if one.score > bundle.threshold else "not above the threshold"
    return {
        "name": one.name, "score": f"{number(one.score)}, {side}",
        "pictures": alone(bundle, one.window, "Its least usual window", escape(place(one.start, end))),
    }  # fmt: skip
