"""Every knob: the sections of `params.yaml`, of the studies and of the profiles as frozen models that refuse unknown keys.

How the settings of an arm are put together from them: params.py.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from auscult.errors import AuscultError
from auscult.settings.backends import AnyBackend, EnsembleSettings
from auscult.settings.rules import MetricRules


class Section(BaseModel):
    """Base of every section: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=BaseModel)
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


# ---------------------------------------------------------------------------------------------- sections of the pipeline
class Data(Section):
    profile: str
    """Name of a file in profiles/."""
    channel: Literal["mean"] | Annotated[int, Field(ge=0)] = 0
    """How several channels become one: their mean, or the channel of this index (0 = first)."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Threads or processes that generate, read and decode; 0 = one per core."""


class Features(Section):
    frontends: list[str] = []
    """Log-mel front-ends computed once and memory-mapped; any other is computed on the fly, batch by batch."""


class Train(Section):
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (2024,)
    """Each arm is trained once per seed; tables show mean and standard deviation over them."""
    device: str = "auto"
    """"auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"."""
    threads: Positive = 2
    """CPU threads. Part of the result: sums in another order differ in the last bit."""
    processes: Literal["all"] | Positive = 1
    """Processes of this machine that train one network together, one per GPU ("all" = every GPU). Not a reason to train again:
    results differ in the last bits alone, and from dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """"bfloat16" autocasts the networks; losses, norms and scores stay in float32. On a CPU it is slower, but for large
    encoders (docs/performance.md)."""
    long_on_cpu: bool = False
    """Whether large encoders are trained on a CPU, too, where the papers' schedules take weeks; otherwise such an arm is left
    out and says so."""
    resident_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The data set is kept on the device when it fits this fraction of its free memory, else streamed from disk."""
    prefetch: Annotated[int, Field(ge=0)] = 2
    """Batches that a thread reads ahead of a GPU from a streamed data set; 0 = each when its turn comes. Same batches."""
    compile: Literal["none", "compile", "graphs"] = "none"
    """"compile": the loss through torch.compile, in one process; "graphs": replayed as CUDA graphs, too. Both add minutes at
    the start, and sums are formed in another order."""
    matmul: Literal["highest", "high"] = "highest"
    """Products in float32 on a GPU: "highest" are float32, "high" are TF32 (three digits), in convolutions too."""
    on_out_of_memory: Literal["stop", "halve"] = "stop"
    """When a batch does not fit the device: stop and name the knobs, or process batches in two (four, ...) parts from the
    last saved state on, adding up gradients. Batch norms and losses within a batch then see parts: other results."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    """Training state is saved at the first epoch end after this many seconds."""

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise PydanticCustomError("seeds", "a seed stands twice")
        return seeds


class Embed(Section):
    batch_size: Positive = 64


class Score(Section):
    backends: list[str] = ["native", "knn_cosine"]
    k: Positive = 1
    """Neighbours of the kNN back-ends; the score is the mean distance to them."""
    scope: Literal["unit", "machine"] = "unit"
    """A test clip is compared with the training clips of its unit, or of its whole machine type (Han et al., 2021 on)."""
    domain_banks: bool | None = None
    """One bank per domain and the smaller score; null = as the profile's rules say."""


class BackendSweep(Section):
    """Back-ends that every arm's embeddings are scored with, beside those of `score`."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the split that gives training clips scores of their own, for fusion."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of that split."""
    replicates: Positive = 200
    """Bootstrap resamples behind the intervals of this table: it has a hundred times as many numbers as another."""
    sweep: dict[str, AnyBackend] = {}
    """Name -> kind and knobs."""
    ensembles: dict[str, EnsembleSettings] = {}
    """Rows of the table that stand for several arms."""

    @model_validator(mode="after")
    def _named(self) -> BackendSweep:
        for name, settings in self.sweep.items():
            if (settings.kind == "native") != (name == "native") or name.startswith("native_"):
                raise PydanticCustomError("native", "`native` is the name of the kind `native`, and of no other")
            for member in settings.of if settings.kind == "fusion" else ():
                self._standardised(f"sweep.{name}", member, fusion=False)
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
        if kind in ("native", "knn_cosine_transductive") or (kind == "fusion" and not fusion):
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


_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": ("greater than", operator.gt),
    "ge": ("greater than or equal to", operator.ge),
    "lt": ("less than", operator.lt),
}


class MethodSettings(Section):
    """Base of every method's settings (each in its file under methods/): what it hears and how it is trained."""

    method: str
    lowpass_hz: Annotated[float, Field(ge=0)] = 0.0
    """Every clip, in training and test, is low-passed at this frequency; 0 = as recorded."""
    epochs: Annotated[int, Field(ge=0)] = 0
    train_steps: Annotated[int, Field(ge=0)] = 0
    """Length of the training in steps instead of `epochs`; 0 = epochs."""
    step: Literal["pass", "update"] = "pass"
    """What `train_steps` and `warmup_steps` count: batches, or updates of the weights (`accumulate` batches each)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    accumulate: Positive = 1
    """Batches whose gradients are averaged for one update; an epoch's last update takes those that are left."""
    clip_gradient: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of an update's gradient; 0 = any."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    lr_min: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    schedule_delay: Annotated[int, Field(ge=0)] = 0
    """Epochs at the first learning rate before the schedule starts."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises in a straight line to `lr`; the schedule follows."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    valid_fraction: Fraction = 0.0
    """Part of the training clips held out, drawn by seed."""
    selection: Literal["valid_loss", "last"] = "last"
    """Which epoch's weights are kept. Never by a test clip."""

    @property
    def trained(self) -> bool:
        """Whether there is anything to train by gradient."""
        return bool(self.epochs or self.train_steps)

    @field_validator(
        "epochs", "train_steps", "batch_size", "accumulate", "clip_gradient", "lr", "lr_min", "schedule_delay", "warmup_steps",
        "weight_decay", "valid_fraction",
    )  # fmt: skip
    @classmethod
    def _in_range(cls, value: float, info: ValidationInfo) -> float:
        """The ranges above also hold in a method's model, which declares a field again to give it another default."""
        for limit in MethodSettings.model_fields[str(info.field_name)].metadata:
            for name, (words, holds) in _LIMITS.items():
                bound = getattr(limit, name, None)
                if bound is not None and not holds(value, bound):
                    raise PydanticCustomError(
                        "range", "Input should be {words} {bound}", {"words": words, "bound": bound}
                    )
        return value


# ----------------------------------------------------------------------------------------------------------------- profile
class Profile(Section):
    name: str
    dataset: str
    """Whose printed numbers these results may stand beside ("dcase2020", ...)."""
    title: str
    licence: str
    source: dict[str, Any]
    """Where the audio comes from: `kind` names an entry of auscult.data.download.sources, which checks the other keys."""
    grammar: str
    """How file names are read: an entry of auscult.data.names.grammar.GRAMMARS."""
    sets: dict[Literal["dev", "eval"], str]
    """Folder of each set below the source's root."""
    eval_labels: str = ""
    """Labels of evaluation clips whose names carry none: "dcase2020", "dcase2021" or "dcase2022" (part of auscult);
    "dcase2022_ntt_list" (the list known to be wrong, which you provide); or a file or folder of labels below the source's
    root, "labels". Joined by name. "" = the names tell, and a clip whose name does not is scored but not judged."""
    machines: list[str] = []
    """Machine types to use; empty = every one found."""
    holdout: Fraction = 0.0
    """Part of the normal training clips, chosen by the hash of their content, that becomes normal test clips: for
    recordings that come without a test set."""
    sample_rate: Positive = 16000
    clip_seconds: Annotated[float, Field(gt=0)]
    """Longer clips keep their first part, shorter ones are padded with zeros (their valid length is kept)."""
    class_label: Literal["unit", "attributes"] = "unit"
    """What a classifier tells apart: (machine, unit), or (machine, unit, attribute string)."""
    rules: MetricRules
    overrides: dict[str, dict[str, Any]] = {}


# ------------------------------------------------------------------------------------------------------------------- study
class ConditionSettings(Section):
    """What is done to test clips alone."""

    snr_db: float | None = None
    """Factory noise is added at this ratio of the recording's power to the noise's."""
    lowpass_hz: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0
    """Of the noise."""


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
    tables: dict[str, TableSettings] = {}
    sweep: Sweep | None = None
    confusion: tuple[str, ...] = ()
    """Arms whose confusions between the units of a machine type are drawn."""


# ------------------------------------------------------------------------------------------------------------------ checking
def near(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def validated(model: type[S], values: Any, where: str) -> S:
    """`model(**values)`; each unknown key, wrong type or range is reported with its full name, all at once."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            hint = near(str(item["loc"][-1]), _keys(model, item["loc"])) if item["type"] == "extra_forbidden" else ""
            message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
            problems.append(f"{where}.{key}: {message}{hint}" if key else f"{where}: {message}")
        raise AuscultError("settings are not valid:\n    " + "\n    ".join(problems), fix="mend these keys") from None


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys known where a problem lies: those of the model itself, or of the section nested at `loc[:-1]`."""
    for part in loc[:-1]:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
