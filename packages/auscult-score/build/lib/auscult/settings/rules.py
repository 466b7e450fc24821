"""Which numbers a data set is judged by: part of its profile."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_PARTS = {
    "dcase2020": ("auc", "pauc"),
    "dcase2021": ("auc_source", "pauc_source", "auc_target", "pauc_target"),
    "dcase2022": ("auc_source", "auc_target", "pauc"),
}


class MetricRules(BaseModel):
    """Which numbers a data set is judged by.

    scheme:
        `dcase2020`: no domains; `official` is the arithmetic mean of AUC and pAUC (what the papers print as the mean
        of both; the challenge itself ranked).
        `dcase2021`: AUC and pAUC per domain, from the clips of that domain only; `official` is their harmonic mean.
        `dcase2022` (2022 to 2026): AUC_source ranks the source normals against the anomalies of both
        domains, AUC_target likewise, pAUC ranks all clips; `official` is their harmonic mean.
    max_fpr: upper limit of the false positive rate of the pAUC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    scheme: Literal["dcase2020", "dcase2021", "dcase2022"] = "dcase2020"
    max_fpr: float = Field(default=0.1, gt=0, lt=1)

    @property
    def domains(self) -> bool:
        """Whether source and target clips are told apart."""
        return self.scheme != "dcase2020"

    @property
    def parts(self) -> tuple[str, ...]:
        """Metrics of one ROC group that enter the official score."""
        return _PARTS[self.scheme]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of one ROC group."""
        return tuple(dict.fromkeys(("auc", "pauc", *self.parts)))
