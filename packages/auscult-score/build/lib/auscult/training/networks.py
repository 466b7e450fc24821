"""The networks of one arm: none depends on another, so that a CPU trains several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from auscult.methods import load_method
from auscult.methods.base import Network
from auscult.settings.training import MethodSettings, Train
from auscult.training import distributed, launch
from auscult.training.device import prepare
from auscult.training.loop import TrainingSet, fit
from auscult.training.resume import ResumeFolder

Fitted = tuple[Network, list[dict[str, Any]], float]
"""A network, a row of history per epoch of all its phases, and seconds."""


@dataclass(frozen=True)
class Networks:
    """What is to be trained: `sets` by the network's name, and how."""

    settings: MethodSettings
    train: Train
    seed: int
    sets: dict[str, TrainingSet]
    states: ResumeFolder

    def fit_all(self, device: torch.device) -> dict[str, Fitted]:
        """Every network, one after the other or, on a CPU, side by side."""
        unfinished = self.unfinished()
        for name in self.sets:
            if name not in unfinished:
                distributed.say(f"{name}: was finished before, and is taken from its saved state")
        alone = self
        if device.type == "cpu" and self.settings.trained and distributed.size() == 1:
            alone = self.side_by_side(unfinished)
        return {name: alone.fit(name) for name in self.sets}

    def fit(self, name: str) -> Fitted:
        """All phases of one network."""
        method, network = load_method(self.settings.method), None
        history, seconds = [], 0.0
        for phase in method.trainings(self.settings):
            network, epochs, spent = fit(
                name, method, phase, self.train, self.seed, self.sets[name], self.states, network
            )
            history += [{"scope": f"{name} ({phase.name})" if phase.name else name, **row} for row in epochs]
            seconds += spent
        assert network is not None
        return network, history, seconds

    def unfinished(self) -> list[str]:
        """Names of those that no saved state has finished."""
        return [name for name in self.sets if "finished" not in (self.states.load(name) or {})]

    def side_by_side(self, names: Sequence[str]) -> Networks:
        """Train several of them at once, each in a process and with its share of the threads; small ones gain next to
        nothing from threads of their own. What comes out lies in the saved states, where `fit` of the result finds it.

        How many threads a network has follows from `train.threads` and the number of networks alone, and so do its weights.
        """
        at_once = min(self.train.threads, len(self.sets))
        if at_once < 2:
            return self
        shared = replace(self, train=self.train.model_copy(update={"threads": self.train.threads // at_once}))
        torch.set_num_threads(shared.train.threads)
        if len(names) > 1:
            parts = [names[number::at_once] for number in range(min(at_once, len(names)))]
            launch.side_by_side(fit_some, [(shared, part) for part in parts])
        return shared


def fit_some(networks: Networks, names: Sequence[str]) -> None:
    """What one of several processes does."""
    prepare(torch.device("cpu"), networks.train)
    for name in names:
        networks.fit(name)
