"""Dense autoencoder of the DCASE 2020 Task 2 baseline, and IDNN (Suefusa et al., ICASSP 2020) by its input and output.

The baseline reads five consecutive log-mel frames and reconstructs them (640 -> 640); IDNN reads them without the
middle one and predicts it (512 -> 128). Epsilon and momentum of the batch norms are PyTorch's, not Keras's.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Autoencoder(nn.Module):
    """Nine layers of linear, batch norm and ReLU (four wide, the bottleneck, four wide), then a linear output.

    Args:
        inputs: size of a window, frame-major (all mels of its first frame come first).
        outputs: size of the target.
        hidden: width of the wide layers.
        bottleneck: width of the middle layer.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 128, bottleneck: int = 8) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * 4, bottleneck, *[hidden] * 4]
        for index in range(9):
            self.add_module(f"layer{index}", DenseUnit(widths[index], widths[index + 1]))
        self.out = nn.ModuleDict({"fc": nn.Linear(hidden, outputs)})

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """[B, inputs] -> output [B, outputs] and latent [B, bottleneck] (after its norm and ReLU)."""
        x = latent = window
        for index in range(9):
            x = getattr(self, f"layer{index}")(x)
            latent = x if index == 4 else latent
        return self.out["fc"](x), latent


class DenseUnit(nn.Module):
    """Linear, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, outputs)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs] -> [B, outputs]."""
        return functional.relu_(self.bn(self.fc(x)))
