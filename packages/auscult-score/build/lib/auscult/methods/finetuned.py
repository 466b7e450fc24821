"""What fine-tuned encoders have in common: waveform -> front-end -> SpecAug -> tokens -> pooling -> linear map, and ArcFace.

The paper of AnoPatch, sections 3.1 and 3.2; Han et al. build on it (their section III-A). Methods with another loss take all
but the head (`EncoderEmbedding`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from auscult.encoders.base import new_encoder
from auscult.errors import AuscultError
from auscult.losses.arcface import margin_nll
from auscult.methods.base import Batch, Drawn, Shape
from auscult.methods.classifier import ArcFaceClassifier, ClassifierSettings, arcface_head
from auscult.methods.pretrained import Pretrained
from auscult.models.pooling import AttentiveStatistics, Clean, cleaned
from auscult.models.rows import RowPooling, grid, pool_rows
from auscult.models.specaug import draw_masks, masked
from auscult.settings.section import Positive
from auscult.settings.sections import ArcFaceSettings, EncoderSettings, SpecAugSettings
from auscult.training import distributed


class EmbeddingSettings(ClassifierSettings):
    fill: Literal["none", "repeat", "zeros"] = "repeat"
    encoder: EncoderSettings = EncoderSettings(checkpoint="beats_iter3")
    pooling: Literal["attentive", "class_token"] = "attentive"
    embedding: Positive = 128
    specaug: SpecAugSettings = SpecAugSettings()
    chunk_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Training sees one chunk of this length of each clip, from a random place; 0 = whole clips."""
    embed_from: Literal["head", "rows"] = "head"
    """What neighbours are looked for in: x, which the head sees, or the tokens before it, pooled by frequency rows."""
    rows: RowPooling = RowPooling()
    clean: Clean = "none"
    """Of the tokens that `rows` are pooled from; "eat" is meant for EAT. The head sees them as they are."""
    test_clip: Literal["whole", "chunks"] = "whole"
    """Embedding of a test clip: of the whole of it, or the mean of the normalised ones of its consecutive chunks, the last of
    which ends where the clip ends."""


class FineTuneSettings(EmbeddingSettings):
    arcface: ArcFaceSettings = ArcFaceSettings(margin=0.2)


class EncoderEmbedding(Pretrained):
    """Encoder, pooling and projection.

    Attributes:
        frequency_rows: F, that the embedding keeps apart.
    """

    def __init__(self, settings: EmbeddingSettings, shape: Shape) -> None:
        super().__init__(settings.encoder, shape)
        self.settings = settings
        self.chunk = min(shape.samples, round(settings.chunk_seconds * shape.sample_rate)) or shape.samples
        self._check()
        self._spectrogram: tuple[int, ...] | None = None  # frames and bins of a chunk
        self.frequency_rows = self.encoder.rows if settings.embed_from == "rows" else 1
        self.pool, width = self.pooling(self.encoder.width)
        self.project = nn.Linear(width, settings.embedding)

    def pooling(self, width: int) -> tuple[nn.Module | None, int]:
        """What makes one vector of tokens of this width, and its size; None takes the class token."""
        return (AttentiveStatistics(width), 2 * width) if self.settings.pooling == "attentive" else (None, width)

    def _check(self) -> None:
        name, e = self.settings.encoder.name, self.encoder
        self.check_length(self.chunk)
        if self.settings.embed_from == "rows" and self.settings.test_clip != "whole":
            raise AuscultError("frequency rows are those of a whole clip", "test_clip", "use: whole")
        if self.settings.pooling == "class_token" and not e.class_token:
            raise AuscultError(f"encoder `{name}` has no class token", "pooling", "use: attentive")
        if self.settings.specaug.frequency + self.settings.specaug.time and not e.spectrogram:
            what = f"encoder `{name}` reads waveforms: there is no spectrogram to mask"
            raise AuscultError(what, "specaug", "set specaug.frequency and specaug.time to 0")

    # ----------------------------------------------------------------------------------------------------- the embedding
    def embedding(self, wave: Tensor, masks: Tensor | None = None) -> Tensor:
        """Waveforms [B, n] at the profile's rate -> x [B, E], not normalised; masked by SpecAug if `masks` [4, B] are given."""
        return self.projected(self.tokens(wave, masks))

    def tokens(self, wave: Tensor, masks: Tensor | None = None) -> Tensor:
        """[B, T, D]; arguments as of `embedding`."""
        spectrogram = self.front_end(wave)
        return self.encoder.tokens(spectrogram if masks is None else masked(spectrogram, masks), self.layer)

    def projected(self, tokens: Tensor) -> Tensor:
        """[B, T, D] -> x [B, E]."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            pooled = tokens[:, 0] if self.pool is None else self.pool(tokens)
            x: Tensor = self.project(pooled)
        return x

    def draw(self, batch: Batch, rng: np.random.Generator) -> Drawn:
        """Where chunks begin, "chunk" float64 [B] in [0, 1), if they are shorter than clips; "masks" int64 [4, B], if any."""
        clips, specaug, drawn = batch.size, self.settings.specaug, Drawn()
        if batch.wave.shape[1] > self.chunk:
            drawn["chunk"] = torch.from_numpy(rng.random(clips))
        if self.encoder.spectrogram and (specaug.frequency or specaug.time):
            if self._spectrogram is None:
                self._spectrogram = self.front_end(batch.wave.new_zeros(1, self.chunk)).shape[1:]
            drawn["masks"] = draw_masks(clips, self._spectrogram, specaug.frequency, specaug.time, rng)
        return drawn

    def random_chunk(self, batch: Batch, drawn: Drawn) -> Tensor:
        """[B, chunk], each clip's from its own place."""
        wave = batch.wave
        if "chunk" not in drawn:
            return wave
        last = wave.shape[1] - self.chunk  # last possible start
        room = last if batch.valid is None else (batch.valid - self.chunk).clamp(min=0)
        starts = (drawn["chunk"] * (room + 1)).long()  # int64 [B]
        return wave.unfold(1, self.chunk, 1)[torch.arange(len(wave), device=wave.device), starts]

    def training_embedding(self, batch: Batch, drawn: Drawn) -> Tensor:
        """x [B, E] of a random chunk of each clip, masked."""
        return self.embedded(self.random_chunk(batch, drawn), drawn)

    def embedded(self, wave: Tensor, drawn: Drawn) -> Tensor:
        """x [B, E] of waveforms, masked as was drawn, each process its part."""
        masks = drawn.get("masks")

        def embedding(part: slice) -> Tensor:
            return self.embedding(wave[part], None if masks is None else masks[:, part])

        return distributed.by_parts(embedding, len(wave))

    def features(self, batch: Batch) -> Tensor:
        """Embeddings of whole clips, or means over consecutive chunks, the last of which ends where the clip does: [B, E]."""
        wave = batch.wave
        clips, samples = wave.shape
        if self.settings.test_clip == "whole" or self.chunk == samples:
            return self.embedding(wave)
        first = torch.arange(-(-samples // self.chunk), device=wave.device) * self.chunk  # [chunks]
        if batch.valid is None:
            starts, counts = (
                first.clamp(max=samples - self.chunk).expand(clips, -1),
                torch.ones_like(first).expand(clips, -1),
            )
        else:
            starts = torch.minimum(first, (batch.valid - self.chunk).clamp(min=0)[:, None])  # [B, chunks]
            counts = (first < batch.valid.clamp(min=1)[:, None]).long()  # 0 for a chunk that begins after the end
        rows = torch.arange(clips, device=wave.device)[:, None]
        chunks = wave.unfold(1, self.chunk, 1)[rows, starts].flatten(0, 1)  # [B * chunks, chunk]
        x = normalize(self.embedding(chunks)).unflatten(0, (clips, -1))  # [B, chunks, E]
        return (x * counts[..., None]).sum(1) / counts.sum(1, keepdim=True)

    def vectors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What neighbours are looked for in, x [B, E] or rows [B, F * D], and x."""
        if self.settings.embed_from == "head":
            x = self.features(batch)
            return x, x
        tokens = self.tokens(batch.wave)
        clean = cleaned(tokens, self.settings.clean)
        rows = pool_rows(grid(clean, self.encoder.rows, self.encoder.class_token), self.settings.rows)
        return rows.flatten(1), self.projected(tokens)


class FineTuned(EncoderEmbedding, ArcFaceClassifier):
    """The embedding and its head.

    Attributes:
        slot: int64 [C], place of each class in the head; -1 for a class that is left out of it.
        member: bool [C, slots], the head's places of each class.
    """

    settings: FineTuneSettings
    slot: Tensor
    member: Tensor

    def __init__(
        self, settings: FineTuneSettings, shape: Shape, headless: tuple[int, ...] = (), extra: int = 0
    ) -> None:
        """
        Args:
            headless: classes without a place in the head.
            extra: places in the head that belong to no class yet.
        """
        super().__init__(settings, shape)
        places = [c for c in range(shape.classes) if c not in headless]
        slot = torch.full((shape.classes,), -1)
        slot[places] = torch.arange(len(places))
        member = torch.zeros(shape.classes, len(places) + extra, dtype=torch.bool)
        member[places, slot[places]] = True
        self.scores_itself = not headless or extra > 0  # otherwise the head does not know every class
        self.register_buffer("slot", slot)
        self.register_buffer("member", member)
        names = [shape.names[c] for c in places] if shape.names else ()
        self.arcface = arcface_head(settings, len(places) + extra, names)

    # --------------------------------------------------------------------------------------------------------- the losses
    def class_loss(self, x: Tensor, slots: Tensor) -> Tensor:
        """Eq. (1) of AnoPatch, (7) of Han et al.: mean over the clips that have a place in the head (`slots` >= 0)."""
        total = cross_entropy(self.arcface(x, slots.clamp(min=0)), slots, ignore_index=-1, reduction="sum")
        return total / (slots >= 0).sum().clamp(min=1)

    def loss(self, batch: Batch, drawn: Drawn) -> dict[str, Tensor]:
        x = self.training_embedding(batch, drawn)
        return {"loss": self.class_loss(x, self.slot[batch.label])}

    def valid_loss(self, batch: Batch) -> Tensor:
        """[B]; 0 for a clip whose class is left out of the head."""
        slots = self.slot[batch.label]
        logits = self.arcface(self.features(batch), slots.clamp(min=0))
        return cross_entropy(logits, slots, ignore_index=-1, reduction="none")

    def embed(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """x [B, E], or its rows [B, F * D], and, where every class has a place in the head, `margin_nll` of those the clip may
        belong to [B].

        That is not their headline: both papers score by the nearest neighbour of x (AnoPatch section 3.2, Han et al. IV-E).
        """
        vector, x = self.vectors(batch)
        if not self.scores_itself:
            return vector, {}
        places = (batch.candidates.float() @ self.member.float()) > 0
        margin = self.arcface.margin if self.score_margin else 0.0
        return vector, {"native_arcface": margin_nll(self.arcface.cosine(x), places, self.arcface.scale, margin)}


def encoder_size(settings: EmbeddingSettings) -> int:
    """Parameters of the encoder; nothing is allocated."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in new_encoder(settings.encoder).parameters())
