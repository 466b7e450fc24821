"""What changes while a network is trained, as one object that is saved and restored whole."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from auscult.methods.base import Network
from auscult.settings.sections import EmaSettings
from auscult.settings.training import MethodSettings

State = dict[str, Any]


@dataclass
class TrainingState:
    """
    Attributes:
        live: the network in training.
        optimizer: of its weights.
        average: its moving average, None without one; `ema` keeps it.
        history: a row per epoch done.
        best_loss, best_weights: validation loss and tensors of the best epoch so far, where epochs are selected by it.
    """

    live: Network
    optimizer: torch.optim.Optimizer
    average: Network | None = None
    ema: WeightEMA | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, live: Network, settings: MethodSettings) -> TrainingState:
        """The state before the first epoch, around a network that has its first weights."""
        state = cls(live, _optimizer(live, settings))
        ema: EmaSettings | None = getattr(settings, "ema", None)
        if ema is not None and ema.enabled:
            state.average = copy.deepcopy(live)
            state.ema = WeightEMA(live, state.average, ema.decay, ema.shrink)
        return state

    @property
    def chosen(self) -> Network:
        """The network that is validated and kept."""
        return self.average if self.average is not None else self.live

    def keep_best(self, valid_loss: float) -> None:
        """Keep the chosen network's tensors if no epoch before had so low a validation loss."""
        if valid_loss < self.best_loss:
            self.best_loss = valid_loss
            self.best_weights = {key: value.clone() for key, value in self.chosen.saved_state().items()}

    def selected(self) -> Network:
        """The network of the best epoch, or of the last one where none was kept."""
        if self.best_weights:
            self.chosen.load_saved(self.best_weights)
        return self.chosen

    def saved(self) -> State:
        """Everything that a run which goes on has to know."""
        return {
            "live": self.live.saved_state(),
            "average": self.average.saved_state() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": [self.best_loss, self.best_weights],
        }

    def restore(self, state: State) -> None:
        """Take over what `saved` gave."""
        self.live.load_saved(state["live"])
        if self.average is not None:
            self.average.load_saved(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        self.best_loss, self.best_weights = state["best"]


def _optimizer(network: Network, settings: MethodSettings) -> torch.optim.Optimizer:
    groups = [{"lr_scale": 1.0, **group} for group in network.parameter_groups() if group["params"]]
    groups = [{**group, "weight_decay": settings.weight_decay / group["lr_scale"]} for group in groups]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(groups, lr=settings.lr, fused=True)


class WeightEMA:
    """Keeps `average` as the exponential moving average of `live`, and shrinks `live` a little, as in the authors' code of
    OS-SCL (the paper does not mention it).

    After each optimiser step, over all floating-point tensors, parameters and batch-norm statistics alike:

        average <- decay * average + (1 - decay) * live
        live    <- (1 - shrink) * live

    Both networks must start from the same values. Integer buffers (step counters of batch norm) are copied; the
    authors leave them alone, and with a fixed momentum nothing reads them. The state to save is that of the two
    networks; this object has none of its own.

    Args:
        live: the network in training.
        average: a copy of it, on the same device.
        decay: 0.9999 in the authors' code, from the first step on (no warm-up).
        shrink: 2e-6 in the authors' code: a weight decay that also reaches the tensors which no optimiser decays,
            running statistics and centres included; 0 turns it off.
    """

    def __init__(self, live: nn.Module, average: nn.Module, decay: float = 0.9999, shrink: float = 2e-6) -> None:
        self.decay, self.shrink = decay, shrink
        mine, theirs = average.state_dict(), live.state_dict()
        if mine.keys() != theirs.keys():
            raise ValueError("the averaged network must have the tensors of the live one")
        floating = [name for name, tensor in theirs.items() if tensor.is_floating_point()]
        others = [name for name in theirs if name not in set(floating)]
        # state_dict shares memory with the network, so these lists stay valid while the networks are not moved.
        self._live: list[Tensor] = [theirs[name] for name in floating]
        self._average: list[Tensor] = [mine[name] for name in floating]
        self._live_integers: list[Tensor] = [theirs[name] for name in others]
        self._average_integers: list[Tensor] = [mine[name] for name in others]

    @torch.no_grad()
    def step(self) -> None:
        """Update both networks in place; call it right after the optimiser's step. Nothing waits for the device."""
        # Product and sum are rounded separately, as the authors' are; a fused multiply-add differs in the last bit.
        share = torch._foreach_mul(self._live, 1.0 - self.decay)
        torch._foreach_mul_(self._average, self.decay)
        torch._foreach_add_(self._average, share)
        if self._live_integers:
            torch._foreach_copy_(self._average_integers, self._live_integers)
        if self.shrink:
            torch._foreach_mul_(self._live, 1.0 - self.shrink)
