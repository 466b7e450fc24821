"""TWFR-GMM (Guan, Liu, Zhu, Zheng, Han, Wang; ICASSP 2023): Gaussian mixtures of log-mels that are pooled over time by rank.

Time-weighted frequency domain representation: every mel band's values are put in falling order and averaged with the weights
r^rank (models/gwrp.py); one mixture for each unit; a clip's score is minus the log-density of its nearest component, whose
weight in the mixture does not count (authors' code).

Authors choose r and the number of components of every machine type by the labels of test clips, and their page lists "only
using normal data" as still to be done. Here r is chosen by training clips alone; numbers given for machine types by name are
the authors' setting.

---
compare: [{}]
fidelity:
  twfr_gmm:
    arms: [twfr_gmm_printed]
    source: "Guan et al., ICASSP 2023; code liuyoude/TWFR-GMM 31c8109"
    parameters: {source: 0, unused: 0, words: "none is trained by gradient; a component has 128 means and 8,256 covariances"}
    remark: "A row of Han et al. Table VIII, whose cells are (mean of both AUC + pAUC) / 2, as the authors print them."
    deviations:
      - {what: "r, components", code: "the best of 51 and of 4 on the labels of the development test set, by machine type", here:
         "r: the one of 11 at which left-out training clips of other classes are told apart best; one component, chosen.
         `twfr_gmm_printed` has the authors' numbers", switch: "twfr_gmm.r, twfr_gmm.components"}
      - {what: classes to choose r by, here: "sections (2022), working conditions (from 2023 on); where a machine type has
         neither, r is 0.9"}
      - {what: SMOTE-TWFR-GMM, code: "second system, target clips multiplied before the mixtures", here: none}
      - {what: mixture, code: "k-means from seed 526, on the evaluation set from training clips of that set alone", here:
         "k-means from seed 0; one mixture from all training clips of a unit, whose sections the two sets do not share"}
      - {what: clips longer than 10 s, code: first 10 s, here: the profile's length}
      - {what: clips shorter than the year's longest (2023 on), code: none in its data, here: "pooled over each clip alone, to its
         last frame", switch: twfr_gmm.fill}
      - {what: a unit with fewer clips than components, here: "not trained, and the table says why"}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from auscult.methods.base import Batch, Method, Network, Shape
from auscult.models.gaussians import ClassMixtures
from auscult.models.gwrp import GRID, choose, gwrp
from auscult.settings.untrained import TwfrGmmSettings
from auscult.training import distributed


class TwfrGmm(Network):
    """Network of one machine type.

    Attributes:
        r: [1], what is used.
        owner: int64 [C], unit of each class.
    """

    r: Tensor
    owner: Tensor

    def __init__(self, settings: TwfrGmmSettings, shape: Shape) -> None:
        super().__init__()
        self.settings = settings
        machine = shape.names[0].split("/")[0] if shape.names else ""
        given = settings.r.get(machine, "auto") if isinstance(settings.r, dict) else settings.r
        several = settings.components
        self.components = several.get(machine, 1) if isinstance(several, dict) else several
        self.auto = given == "auto"
        self.register_buffer("r", torch.tensor([1.0 if isinstance(given, str) else given]))
        self.register_buffer("owner", torch.tensor(shape.units))
        self.mixtures = ClassMixtures()

    def finish(self, batches: Iterable[Batch]) -> None:
        """Choose r, if it is to be chosen, and fit a mixture to each unit."""
        seen, labels = [], []
        for batch in batches:
            seen.append(gwrp(batch.mel, GRID if self.auto else self.r.tolist()))
            labels.append(batch.label)
        pooled, label = torch.cat(seen), torch.cat(labels)  # [clips, mels, R], [clips]
        place = 0
        if self.auto:
            place, words = choose(pooled, label)
            self.r.fill_(GRID[place])
            distributed.say(words)
        self.mixtures.fit(
            pooled[:, :, place].cpu().numpy(), self.owner[label].cpu().numpy(), int(self.owner.max()) + 1, self.components,
            self.settings.reg_covar, tolerance=self.settings.tolerance,
        )  # fmt: skip

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled log-mel [B, mels], and minus the log-density [B] of the nearest component of the unit the clip may be of."""
        x = gwrp(batch.mel, self.r.tolist()).squeeze(2)
        each = -self.mixtures.nearest_log_density(x)  # [B, units]
        own = torch.zeros_like(each).index_add_(1, self.owner, batch.candidates.to(each.dtype)) > 0
        return x, {"native": each.masked_fill(~own, math.inf).amin(1)}


def untrainable(settings: TwfrGmmSettings, counts: Mapping[str, int]) -> str:
    """A mixture needs as many clips as components, and a covariance two."""
    units: dict[str, int] = {}
    for name, clips in counts.items():
        machine, unit = name.split("/")[:2]
        units[f"{machine}/{unit}"] = units.get(f"{machine}/{unit}", 0) + clips
    several = settings.components
    for name, clips in units.items():
        components = several.get(name.split("/")[0], 1) if isinstance(several, dict) else several
        if clips < max(components, 2):
            return f"unit `{name}` has {clips} training clip(s) and its Gaussian mixture needs {max(components, 2)}"
    return ""


METHOD = Method(
    settings=TwfrGmmSettings,
    build=TwfrGmm,
    scope="machine",
    distance="euclidean",
    untrainable=untrainable,
)
