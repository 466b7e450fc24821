"""The sections of `params.yaml` that the pipeline reads, and what a study's file says beside the sections of its arms.

How the settings of an arm are put together: params.py. What a method's section may hold: training.py and the methods.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from auscult.scoring import NEIGHBOURS, SweepEntry, backends
from auscult.settings.section import Input, Positive, Section, near
from auscult.settings.training import Train


# ---------------------------------------------------------------------------------------------- sections of the pipeline
class Data(Section):
    profile: str
    """Name of a file in profiles/."""
    input: Input | Annotated[int, Field(ge=0)] = "near"
    """How several channels become one. Where the profile has `inputs`: what arms hear that say nothing else. Elsewhere the
    channel of this index (0 = first; `near` and `far` are 0 and 1), or the `mean` of all."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Threads or processes that generate, read and decode; 0 = one per core."""


class Features(Section):
    frontends: list[str] = Field(default_factory=list)
    """Log-mel front-ends computed once and memory-mapped; any other is computed on the fly, batch by batch."""


class Embed(Section):
    batch_size: Positive = 64


class Score(Section):
    backends: tuple[str, ...] = ("native", "knn_cosine")
    k: Positive = NEIGHBOURS
    """Neighbours of the kNN back-ends; the score is the mean distance to them."""
    scope: Literal["unit", "machine"] = "unit"
    """A test clip is compared with the training clips of its unit, or of its whole machine type (Han et al., 2021 on)."""
    domain_banks: bool | None = None
    """One bank per domain and the smaller score; null = as the profile's rules say."""


class EnsembleSettings(Section):
    """Several arms as one."""

    arms: Annotated[tuple[str, ...], Field(min_length=2)]
    backend: str
    """A back-end of the sweep."""
    how: Literal["mean", "min", "rank"] = "mean"
    """Of their scores, as of a fusion's."""


NO_CHOICE = ("native", "blind", "knn_cosine_transductive")
"""Kinds that held-out training clips get no score by, or another one than test clips."""


class ChoiceSettings(Section):
    """Of a choice without labels among entries of the sweep (scoring/choice.py)."""

    of: tuple[str, ...] = ()
    """Candidates; none = no choice is made."""
    splits: Positive = 10
    """Times that half of the training clips are held out."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of these splits."""
    veto: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the candidates, worst by development score, that is left out where the evaluation set is chosen for."""


class BackendSweep(Section):
    """Back-ends that every arm's embeddings are scored with, beside those of `score`."""

    model_config = ConfigDict(defer_build=True)  # back-ends are imported by whoever reads params.yaml, not before
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the split that gives training clips scores of their own, for fusion."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of that split."""
    replicates: Positive = 200
    """Bootstrap resamples behind the intervals of this table: it has a hundred times as many numbers as another."""
    sweep: dict[str, Annotated[Any, SweepEntry()]] = Field(default_factory=dict)
    """Name -> kind and knobs."""
    ensembles: dict[str, EnsembleSettings] = Field(default_factory=dict)
    """Rows of the table that stand for several arms."""
    choice: ChoiceSettings = ChoiceSettings()

    @model_validator(mode="after")
    def _named(self) -> BackendSweep:
        for name, settings in self.sweep.items():
            if (settings.kind == "native") != (name == "native") or name.startswith("native_"):
                raise PydanticCustomError("native", "`native` is the name of the kind `native`, and of no other")
            of = getattr(settings, "of", ())
            for member in (of,) if isinstance(of, str) else of:
                self._standardised(f"sweep.{name}", member, fusion=False)
        strange = [name for name in self.choice.of if name not in self.sweep or self.sweep[name].kind in NO_CHOICE]
        if strange:
            text = "choice.of: `{name}` cannot be chosen: it is no entry of the sweep, or its scores are not those of one machine"
            raise PydanticCustomError("choice", text, {"name": strange[0]})
        for name, ensemble in self.ensembles.items():
            self._standardised(f"ensembles.{name}", ensemble.backend, fusion=True)
        return self

    def _standardised(self, where: str, member: str, fusion: bool) -> None:
        """Refuse a member that training clips have no score of their own by."""
        words = {"where": where, "member": member}
        if member not in self.sweep:
            hint = near(member, list(self.sweep))
            raise PydanticCustomError(
                "member", "{where}: there is no back-end `{member}` in the sweep{hint}", words | {"hint": hint}
            )
        kind = self.sweep[member].kind
        usable = (kind in backends() and not backends()[kind].transductive) or (kind == "fusion" and fusion)
        if not usable:
            text = "{where}: `{member}` cannot be fused: no training clip has a score of its own by it"
            raise PydanticCustomError("member", text, words)


class Evaluate(Section):
    replicates: Positive = 1000
    """Bootstrap resamples of the test clips behind every interval."""
    seed: int = 0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    reference: str = ""
    """Arm whose difference to every other is tabled; "" = the last of the table that has scores."""


class Submission(Section):
    """The challenge's result files."""

    backend: str = "native"
    """Whose scores; an arm without its own is submitted with its first back-end."""
    set: Literal["dev", "eval"] = "eval"
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of a unit's training clips that the threshold calls anomalies (the challenge's baselines: 0.1)."""


class TableSettings(Section):
    """One table of a report."""

    title: str
    metrics: tuple[str, ...]
    printed: str = ""
    """Printed table whose values stand beside ours (a name of auscult.papers, "os_scl_table2"), where the data agree."""


PIPELINE: dict[str, type[Section]] = {
    "data": Data,
    "features": Features,
    "train": Train,
    "embed": Embed,
    "score": Score,
    "evaluate": Evaluate,
    "submission": Submission,
    "backends": BackendSweep,
}


# ------------------------------------------------------------------------------------------------------------------- study
class Sweep(Section):
    """A picture of one number against a parameter."""

    parameter: str
    """What the axis is called."""
    lines: dict[str, dict[str, float | str]]
    """Line -> arm -> value of the parameter; a value that is no number stands at the end of the axis."""
    metric: str = "auc"


class Study(Section):
    """studies/<name>/params.yaml without the sections of its arms."""

    title: str
    rows: Annotated[tuple[str, ...], Field(min_length=1)]
    """Arms of the tables, in order: of this study, of the project, or of other studies."""
    arms: tuple[str, ...] = ()
    """Arms trained (or tested under a condition) by this study."""
    reference: str = ""
    """Arm the others are compared with; "" = the last row that has scores."""
    tables: dict[str, TableSettings] = Field(default_factory=dict)
    sweep: Sweep | None = None
    confusion: tuple[str, ...] = ()
    """Arms whose confusions between the units of a machine type are drawn."""
