"""A network around a pre-trained encoder: where its weights come from, and which of them are kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from auscult.encoders.base import new_encoder, read_checkpoint
from auscult.errors import AuscultError
from auscult.methods.base import Network, Shape
from auscult.settings.sections import EncoderSettings


class Pretrained(Network):
    """Holds an encoder with random weights, until `start` puts a checkpoint's in their place.

    Attributes:
        encoder: of the settings.
        layer: whose tokens are used; 0 = the encoder's output.
        moves: name of a module of the encoder that was wrapped -> where it is now.
    """

    def __init__(self, encoder: EncoderSettings, shape: Shape) -> None:
        super().__init__()
        self.encoder = new_encoder(encoder)
        self.layer, self._settings, self._rate, self._started = encoder.layer, encoder, shape.sample_rate, False
        self._exact = False
        self.moves: dict[str, str] = {}
        self._published = [name for name, _ in _tensors(self.encoder)]
        self.check_length(shape.samples)
        if encoder.layer > self.encoder.depth:
            what = f"layer {encoder.layer} of `{encoder.name}`, which has {self.encoder.depth}"
            raise AuscultError(what, "encoder.layer", "0 is the output")

    def check_length(self, samples: int) -> None:
        """
        Raises:
            AuscultError: so many samples give no token.
        """
        resampled = samples * self.encoder.sample_rate // self._rate
        if resampled < self.encoder.min_samples:
            what = f"{resampled} samples at {self.encoder.sample_rate} Hz are too short for `{self._settings.name}`"
            fix = f"its first token takes {self.encoder.min_samples}: use longer ones"
            raise AuscultError(what, "the profile's clip_seconds, or chunk_seconds", fix)

    def front_end(self, wave: Tensor) -> Tensor:
        """Waveforms float32 [B, n] at the profile's rate -> what the encoder reads; always in float32."""
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            if self._rate != self.encoder.sample_rate:
                wave = resample(wave, self._rate, self.encoder.sample_rate)
            if not self._exact or not self.encoder.spectrogram:
                return self.encoder.front_end(wave)
            spectrogram = self.encoder.front_end(wave.double())
            if spectrogram.dtype != torch.float64:
                what = f"the front-end of encoder `{self._settings.name}` computes in {spectrogram.dtype} whatever it is given"
                raise AuscultError(what, "Encoder.front_end", "let it compute in the precision of the waveform")
            return spectrogram.float()

    def exact_spectra(self) -> None:
        self._exact = True

    def frozen(self) -> bool:
        """Whether the encoder's own weights keep their values in training."""
        return False

    def published(self) -> list[str]:
        """Names of the encoder's own tensors here."""
        return [f"encoder.{_moved(name, self.moves)}" for name in self._published]

    def start(self) -> None:
        """Put the checkpoint's weights in place of the random ones; what has been added to the encoder stays."""
        if self._started or not self._settings.checkpoint:
            return
        read = new_encoder(self._settings)
        read_checkpoint(read, self._settings)
        own = dict(_tensors(self))
        with torch.no_grad():
            for name, (_, value) in zip(self.published(), _tensors(read), strict=True):
                own[name].copy_(value)
        self._started = True

    def saved_state(self) -> dict[str, Tensor]:
        """All but the frozen weights that a checkpoint holds."""
        left = set(self.published()) if self.frozen() and self._settings.checkpoint else set()
        return {name: value for name, value in self.state_dict().items() if name not in left}

    def load_saved(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved tensors, and the checkpoint's where they are not among them."""
        odd = sorted(self.saved_state().keys() ^ state.keys())
        if odd:
            raise RuntimeError(f"{len(odd)} tensors are missing or too many: {', '.join(odd[:5])}")
        if len(state) < len(self.state_dict()):
            self.start()
        self.load_state_dict(state, strict=False)

    def train(self, mode: bool = True) -> Pretrained:
        super().train(mode)
        if self.frozen():  # running statistics are weights, too
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def _moved(name: str, moves: Mapping[str, str]) -> str:
    """Where a tensor is after modules were wrapped: `moves` says of a module's name what it has become."""
    parts, out = name.split("."), ""
    for i, part in enumerate(parts):
        out = f"{out}.{part}" if out else part
        before = ".".join(parts[: i + 1])
        if before in moves:
            out += moves[before].removeprefix(before)
    return out


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Every tensor of the state dict, by name."""
    return list(module.state_dict(keep_vars=True).items())
