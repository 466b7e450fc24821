"""What changes while a network is trained, as one object that is saved and restored whole."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from auscult.methods.base import Network
from auscult.settings.sections import EmaSettings
from auscult.settings.training import MethodSettings
from auscult.training.ema import WeightEMA

State = dict[str, Any]


@dataclass
class TrainingState:
    """
    Attributes:
        live: the network in training.
        average: its moving average, None without one; `ema` keeps it.
        optimizer: None where nothing is trained by gradient.
        history: a row per epoch done.
        best: validation loss and tensors of the best epoch so far, where epochs are selected by it.
    """

    live: Network
    average: Network | None
    ema: WeightEMA | None
    optimizer: torch.optim.Optimizer | None
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, dict[str, Tensor]] = (float("inf"), {})

    @classmethod
    def of(cls, live: Network, settings: MethodSettings) -> TrainingState:
        """The state before the first epoch, around a network that has its first weights."""
        ema: EmaSettings | None = getattr(settings, "ema", None)
        if ema is None or not ema.enabled:
            return cls(live, None, None, _optimizer(live, settings))
        average = copy.deepcopy(live)
        return cls(live, average, WeightEMA(live, average, ema.decay, ema.shrink), _optimizer(live, settings))

    @property
    def chosen(self) -> Network:
        """The network that is validated and kept."""
        return self.average if self.average is not None else self.live

    def take_note(self, valid_loss: float) -> None:
        """Keep the chosen network's tensors if no epoch before had so low a validation loss."""
        if valid_loss < self.best[0]:
            self.best = (valid_loss, {key: value.clone() for key, value in self.chosen.saved_state().items()})

    def saved(self) -> State:
        """Everything that a run which goes on has to know."""
        return {
            "live": self.live.saved_state(),
            "average": self.average.saved_state() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict() if self.optimizer is not None else None,
            "history": self.history,
            "best": list(self.best),
        }

    def restore(self, state: State) -> None:
        """Take over what `saved` gave."""
        self.live.load_saved(state["live"])
        if self.average is not None:
            self.average.load_saved(state["average"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best = state["history"], tuple(state["best"])


def _optimizer(network: Network, settings: MethodSettings) -> torch.optim.Optimizer | None:
    groups = [{"lr_scale": 1.0, **group} for group in network.parameter_groups() if group["params"]]
    if not groups:
        return None
    groups = [{**group, "weight_decay": settings.weight_decay / group["lr_scale"]} for group in groups]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(groups, lr=settings.lr, fused=True)
