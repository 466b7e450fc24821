"""TgramNet (STgram-MFN, Liu et al., ICASSP 2022): a learnt spectrogram of the waveform.

Layers as in the authors' code, which OS-SCL uses unchanged. Sizes in comments are for 10 s at 16 kHz.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from auscult.models.layers import framed_product


class Tgram(nn.Module):
    """Strided convolution in the place of the STFT, then three rounds of layer norm, leaky ReLU and convolution.

    Args:
        frames: frames of the clip, 1 + samples // hop; the layer norm has weights per frame, so a network serves one
            clip length.
        mels: channels, so that the output is as high as the log-mel image beside it.
        window: kernel of the first convolution in samples.
        hop: its stride in samples; frames are centred as those of the log-mel.
        layers: rounds after the first convolution.
    """

    def __init__(self, frames: int, mels: int, window: int = 1024, hop: int = 512, layers: int = 3) -> None:
        super().__init__()
        self.frame_conv = nn.Conv1d(1, mels, window, stride=hop, padding=window // 2, bias=False)
        self.padding, self.layers = window // 2, layers
        for index in range(layers):
            self.add_module(f"enc{index}", EncoderLayer(frames, mels))

    def forward(self, wave: Tensor) -> Tensor:
        """[B, 1, samples] -> [B, mels, frames]."""
        if wave.device.type == "cuda":
            conv = self.frame_conv
            x = framed_product(wave.squeeze(1), conv.weight.squeeze(1), conv.stride[0], self.padding).mT.contiguous()
        else:
            x = self.frame_conv(wave)  # [B, 128, 313]
        for index in range(self.layers):
            x = getattr(self, f"enc{index}")(x)  # [B, 128, 313]
        return x


class EncoderLayer(nn.Module):
    """Layer norm over time (not over channels), leaky ReLU, convolution of three frames."""

    def __init__(self, frames: int, mels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(frames)
        self.conv = nn.Conv1d(mels, mels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, mels, frames] -> the same shape."""
        return self.conv(functional.leaky_relu(self.ln(x), 0.2))
