"""Kaldi's log-mel filter bank over a batch of clips: the input of BEATs, AST, EAT and ImageBind.

The numbers are those of `torchaudio.compliance.kaldi.fbank`, which takes one clip and builds window and filter bank anew
for each. It differs from the project's other log-mels (auscult.features.logmel): frames are not padded at the edges, each has
its mean removed and its treble raised, and the logarithm is natural.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from auscult.errors import AuscultError
from auscult.features.constants import constant

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Window = Literal["povey", "hanning"]

_FLOOR = 2.0**-23  # Kaldi's, also in float64: the epsilon of float32, whose logarithm is -15.94
_PRE_EMPHASIS = 0.97


@dataclass(frozen=True)
class KaldiBank:
    """Settings of Kaldi's filter bank.

    Args:
        mels: triangles of height one, their edges at equal distances in mel.
        window: "hanning" (symmetric), or "povey", its power 0.85.
        sample_rate: in Hz.
        frame_length, frame_shift: in ms; parts of a sample are dropped.
        low: lower edge of the lowest triangle in Hz.
        high: upper edge of the highest in Hz; 0 or below counts from half the sampling rate.
    """

    mels: int = 128
    window: Window = "povey"
    sample_rate: int = 16_000
    frame_length: float = 25.0
    frame_shift: float = 10.0
    low: float = 20.0
    high: float = 0.0

    @property
    def size(self) -> int:
        """Samples of a frame."""
        return int(self.sample_rate * self.frame_length * 0.001)

    @property
    def shortest(self) -> int:
        """A frame."""
        return self.size

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.frame_shift * 0.001)

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples: those that lie in it whole.

        >>> KaldiBank().frames(160_000)
        998
        """
        return 1 + (samples - self.size) // self.hop

    def spectrogram(self, wave: Tensor, sample_rate: int | None = None, valid: Tensor | None = None) -> Tensor:
        """`kaldi_fbank` with the axes of `log_mel`: [..., samples] at `sample_rate` -> [..., mels, frames].

        `valid` changes nothing: no frame looks beyond itself.
        """
        clips = wave.reshape(-1, wave.shape[-1])
        bank = kaldi_fbank(clips, replace(self, sample_rate=sample_rate or self.sample_rate)).mT
        return bank.reshape(*wave.shape[:-1], *bank.shape[1:])


def kaldi_fbank(wave: Tensor, settings: KaldiBank) -> Tensor:
    """Natural logarithm of the power in triangles linear in mel(f) = 1127 ln(1 + f / 700).

    Args:
        wave: [B, samples] float32 or float64. Its scale counts: where a checkpoint wants 16-bit samples (BEATs), the
            caller multiplies by 32768.

    Returns:
        [B, 1 + (samples - frame) // shift, mels], on the device and in the precision of `wave`; at least ln 2^-23 = -15.94.
        A triangle so narrow that no FFT line falls into it always has that value. No gradient flows back.

    Raises:
        AuscultError: clips shorter than one frame.
        TypeError: `wave` is neither float32 nor float64.

    Source: Kaldi's compute-fbank-feats with dither 0 and no energy column, as torchaudio 2.11 computes it. Mixed precision
    is switched off inside: bfloat16 would be wrong by tenths.

    >>> import torch
    >>> kaldi_fbank(torch.zeros(2, 16_000), KaldiBank()).shape
    torch.Size([2, 98, 128])
    """
    import torch

    if wave.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"kaldi_fbank needs float32 or float64 samples, not {wave.dtype}")
    size = settings.size
    if wave.shape[-1] < size:
        raise AuscultError(
            f"a clip of {wave.shape[-1]} samples is shorter than one frame of the filter bank ({size} samples)",
            fix="leave out clips this short, or repeat them to the clip length of the profile",
        )
    n_fft = 1 << (size - 1).bit_length()
    with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
        values = (settings.mels, settings.window, float(settings.sample_rate), settings.low, settings.high)
        taper, bank = _constants(values, size, n_fft, wave.device, wave.dtype)
        frames = wave.unfold(-1, size, settings.hop)  # [B, frames, size], a view
        frames = frames - frames.mean(-1, keepdim=True)
        # In place from here on: on a CPU most of the time would go into fresh memory.
        padded = frames.new_zeros(*frames.shape[:-1], n_fft)
        taps = padded[..., :size]
        taps[..., 1:] = frames[..., :-1]  # the first sample has no predecessor, and a window that is zero
        taps.mul_(-_PRE_EMPHASIS).add_(frames).mul_(taper)
        parts = torch.view_as_real(torch.fft.rfft(padded)).square_()  # [B, frames, n_fft / 2 + 1, 2]
        return ((parts[..., 0] + parts[..., 1]) @ bank).clamp_(min=_FLOOR).log_()


@constant
def _constants(
    settings: tuple[int, Window, float, float, float], size: int, n_fft: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Window [size] and filter bank [n_fft / 2 + 1, mels], kept on the device for the next call."""
    import torch
    from torchaudio.compliance.kaldi import get_mel_banks

    mels, window, rate, low, high = settings
    taper = torch.hann_window(size, periodic=False, dtype=dtype)
    if window == "povey":
        taper = taper.pow(0.85)
    # The last arguments bend the frequency axis (vocal tract length); a factor of 1 leaves it straight.
    bank, _ = get_mel_banks(mels, n_fft, rate, low, high, 100.0, -500.0, 1.0)
    bank = torch.nn.functional.pad(bank, (0, 1))  # the line at half the sampling rate belongs to no triangle
    return taper.to(device), bank.T.contiguous().to(device, dtype)
