"""A profile: where the recordings or arrays of a data set are, how they are read, and how results on them are judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from auscult.errors import AuscultError
from auscult.settings.rules import MetricRules
from auscult.settings.section import Fraction, Input, Section


class Profile(Section):
    name: str
    dataset: str
    """Whose printed numbers these results may stand beside ("dcase2020", ...)."""
    title: str
    licence: str
    source: dict[str, Any]
    """Where the clips come from: `kind` names an entry of auscult.data.download.sources, which checks the other keys. Empty:
    nowhere, there are scores alone."""
    grammar: str = ""
    """How file names are read: an entry of auscult.data.names.grammar.GRAMMARS. Arrays need none."""
    sets: dict[Literal["dev", "eval"], str] = Field(default={"dev": "."})
    """Folder of each set below the source's root."""
    eval_labels: str = ""
    """Labels of evaluation clips whose names carry none: "dcase2020", "dcase2021" or "dcase2022" (part of auscult);
    "dcase2022_ntt_list" (the list known to be wrong, which you provide); or a file or folder of labels below the source's
    root, "labels". Joined by name. "" = the names tell, and a clip whose name does not is scored but not judged."""
    machines: list[str] = Field(default_factory=list)
    """Machine types to use; empty = every one found."""
    holdout: Fraction = 0.0
    """Part of the normal training clips, chosen by the hash of their content, that becomes normal test clips: for
    recordings that come without a test set."""
    inputs: tuple[Input, ...] = ()
    """Recordings of two channels, near and far: which inputs are made of them, each kept by itself. Empty = one channel is
    heard (`data.input`)."""
    sample_rate: Annotated[int, Field(ge=0)] = 16000
    clip_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Longer clips keep their first part. Shorter ones have zeros behind them; a method's `fill` says what it hears."""
    class_label: Literal["unit", "attributes"] = "unit"
    """What a classifier tells apart: (machine, unit), or (machine, unit, attribute string)."""
    rules: MetricRules
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def arrays(self) -> bool:
        """Whether its clips are arrays of features: no audio, so that nothing above about audio counts."""
        return self.source.get("kind") == "arrays"

    def heard(self, chosen: str | int) -> str:
        """What arms hear that do not say: the chosen of its `inputs`, "" where it has none.

        Raises:
            AuscultError: it is none of them.
        """
        if not self.inputs or chosen in self.inputs:
            return str(chosen) if self.inputs else ""
        fix = f"use one of: {', '.join(self.inputs)}, or add it to `inputs` of the profile"
        raise AuscultError(f"the profile `{self.name}` has no input `{chosen}`", "params.yaml: data.input", fix)

    @model_validator(mode="after")
    def _says_how_audio_is_read(self) -> Profile:
        values: dict[str, Any] = {"grammar": self.grammar, "sets": "sets" in self.model_fields_set and self.sets}
        values |= {"sample_rate": self.sample_rate, "clip_seconds": self.clip_seconds}
        lacking = ", ".join(f"`{key}`" for key, value in values.items() if not value)
        if lacking and self.source and not self.arrays:
            raise PydanticCustomError("audio", "audio needs {keys} (not empty, greater than 0)", {"keys": lacking})
        if self.arrays and (self.grammar or self.eval_labels):
            raise PydanticCustomError("arrays", "arrays have no names to read: leave `grammar` and `eval_labels` empty")
        return self
