"""Training-free baseline on a clip's feature values as they are, all of them: what a back-end makes of them without a network.

For arrays of one's own (docs/your-own-features.md): modulation spectra, vibration features, embeddings from elsewhere. On a
log-mel of ten seconds it has 40,000 values per clip; `spectral_knn` pools those over time first.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from auscult.methods.base import Batch, Method, Network, Shape
from auscult.models.standardise import Standardise
from auscult.settings.untrained import FeatureKnnSettings


class FeatureKnn(Network):
    def __init__(self, settings: FeatureKnnSettings, shape: Shape) -> None:
        super().__init__()
        self.how = settings.standardise
        groups = shape.classes if self.how == "unit" else 1
        self.standardise = Standardise(shape.mels * shape.frames, groups, settings.floor)

    def prepare(self, batches: Iterable[Batch]) -> None:
        if self.how != "none":
            one = self.how == "machine"
            self.standardise.fit(
                (b.mel.flatten(1), b.label.new_zeros(len(b.label)) if one else b.label) for b in batches
            )

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """All values of a clip [B, mels * frames]. With attributes as classes a unit has several: the first one's scale."""
        group = batch.candidates.int().argmax(1) if self.how == "unit" else None
        return self.standardise(batch.mel.flatten(1), group), {}


METHOD = Method(settings=FeatureKnnSettings, build=FeatureKnn, scope="machine", distance="euclidean")
