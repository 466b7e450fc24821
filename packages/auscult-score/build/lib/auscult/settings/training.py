"""How a network is trained and tested: the section `train`, what every method's section has, and test conditions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from auscult.settings.section import Fraction, Input, Positive, Section
from auscult.settings.sections import SupplementSettings


class Train(Section):
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (2024,)
    """Each arm is trained once per seed; tables show mean and standard deviation over them."""
    device: str = "auto"
    """"auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"."""
    threads: Positive = 2
    """CPU threads, of one network or of so many at once: an arm with a network per machine type trains them side by side. Part
    of the result: sums in another order differ in the last bit."""
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
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 20.0
    """Training state is saved at the first epoch end after this many seconds."""

    def decisive(self) -> dict[str, Any]:
        """The keys that decide the weights of a network, given the seed."""
        return self.model_dump(exclude={"checkpoint_seconds", "prefetch", "processes", "resident_fraction", "seeds"})

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise PydanticCustomError("seeds", "a seed stands twice")
        return seeds


class ConditionSettings(Section):
    """What is done to test clips alone."""

    snr_db: float | None = None
    """Factory noise is added at this ratio of the recording's power to the noise's."""
    lowpass_hz: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0
    """Of the noise."""


_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": ("greater than", operator.gt),
    "ge": ("greater than or equal to", operator.ge),
    "lt": ("less than", operator.lt),
}


class MethodSettings(Section):
    """Base of every method's settings (each in its file under methods/): what it hears and how it is trained."""

    method: str
    any_length: ClassVar[bool] = False
    """Whether its networks take clips of any length, and can hear each as long as it is."""
    fill: Literal["none", "repeat", "zeros"] = "zeros"
    """What is heard of a recording that is shorter than the profile's clips: "none" = the recording alone (windows and pooled
    frames are its own; whole clips are batched by length); "repeat" = its waveform again and again; "zeros" = zeros, which are
    stored behind it. Where all clips are whole, the same."""
    input: Literal[""] | Input = ""
    """What is heard of two channels, where the profile has `inputs`; "" = as `data.input` says."""
    supplement: SupplementSettings = SupplementSettings()
    lowpass_hz: Annotated[float, Field(ge=0)] = 0.0
    """Every clip, in training and test, is low-passed at this frequency; 0 = as recorded."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the training clips; 0 = nothing is trained by gradient."""
    train_steps: Annotated[int, Field(ge=0)] = 0
    """Length of the training in steps instead of `epochs`; 0 = epochs."""
    step: Literal["pass", "update"] = "pass"
    """What `train_steps` and `warmup_steps` count: batches, or updates of the weights (`accumulate` batches each)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Clips (or windows of frames) whose losses are averaged for one step."""
    accumulate: Positive = 1
    """Batches whose gradients are averaged for one update; an epoch's last update takes those that are left."""
    clip_gradient: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of an update's gradient; 0 = any."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate at the start."""
    lr_min: Annotated[float, Field(ge=0)] = 0.0
    """Learning rate at the end of a cosine schedule."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Of the learning rate."""
    schedule_delay: Annotated[int, Field(ge=0)] = 0
    """Epochs at the first learning rate before the schedule starts."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises in a straight line to `lr`; the schedule follows."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of the optimiser."""
    valid_fraction: Fraction = 0.0
    """Part of the training clips held out, drawn by seed."""
    selection: Literal["valid_loss", "last"] = "last"
    """Which epoch's weights are kept. Never by a test clip."""

    @property
    def trained(self) -> bool:
        """Whether there is anything to train by gradient."""
        return bool(self.epochs or self.train_steps)

    @field_validator("fill")
    @classmethod
    def _offered(cls, value: str) -> str:
        if value == "none" and not cls.any_length:
            raise PydanticCustomError("fill", "the networks of this method have one length: use repeat or zeros")
        return value

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
