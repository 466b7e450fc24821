"""The front-ends by name. A new one is a line here, and a file beside this one if it is no log-mel.

What an arm depends on is its own front-end, whose values and module are counted by pipeline/inputs.py: not this list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from auscult.features.kaldi import KaldiBank
from auscult.features.logmel import LogMel

if TYPE_CHECKING:
    from torch import Tensor


class FrontEnd(Protocol):
    """What the rest of the project asks of a front-end."""

    @property
    def mels(self) -> int:
        """Bands."""

    @property
    def shortest(self) -> int:
        """Samples of the shortest clip it can be computed of."""

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""

    def spectrogram(self, wave: Tensor, sample_rate: int | None = None, valid: Tensor | None = None) -> Tensor:
        """[..., samples] at `sample_rate` (None: the front-end's own) -> [..., mels, frames], in the precision of `wave`.

        Where only the first `valid` samples (int64 [...]) of a clip are sound, and zeros follow: its first `frames(valid)`
        frames are those of that sound alone.
        """


_DOUBLE_EPSILON = 2.0**-52  # sys.float_info.epsilon, which the NumPy-based baselines add before the logarithm

LOG_MELS = {
    # OS-SCL, authors' code (the paper gives only the shape 128 x 313).
    "osscl": LogMel("osscl", 2048),
    # Noisy-ArcMix, authors' code: silence is -156.5 dB, not -100 dB.
    "noisyarcmix": LogMel("noisyarcmix", 2048, log="add", epsilon=_DOUBLE_EPSILON),
    # STgram-MFN and the AE / IDNN code of the same group.
    "stgram": LogMel("stgram", 1024, pad_mode="reflect", mel_scale="htk", norm=None),
    # DCASE 2020 baseline: its padding is librosa's default, which changed from reflect to zeros in librosa 0.10.
    "dcase_reflect": LogMel("dcase_reflect", 1024, pad_mode="reflect", log="add", epsilon=_DOUBLE_EPSILON),
    "dcase_constant": LogMel("dcase_constant", 1024, log="add", epsilon=_DOUBLE_EPSILON),
    # Sub-cluster AdaCos, authors' code: NumPy's Hann window, which is symmetric.
    "sc_adacos": LogMel("sc_adacos", 1024, window="hann_symmetric", pad_mode="reflect"),
}
FRONTENDS: dict[str, FrontEnd] = {
    **LOG_MELS,
    # That of BEATs, AST, EAT and ImageBind, for networks trained from scratch; in natural logarithms, not dB.
    "kaldi": KaldiBank(),
}
